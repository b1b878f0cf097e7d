#!py
"""The service: started at boot, restarted when its configuration changed, serving at the end."""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    settings = orthanc["settings"]
    paths, system, proxy = settings["paths"], settings["system"], orthanc["proxy"]()
    in_database = settings["modalities_in_database"]

    serving = [
        {"name": system["service"]},
        {
            "server": {
                "config": paths["config"],
                "user": system["user"],
                "group": system["group"],
                "log": paths["log"],
                "timeout": settings["start_timeout"],
                "postgresql": settings["postgresql"]["enabled"],
            }
        },
        {"proxy": proxy},
        # Not all of orthanc.config: where only a folder's mode cannot be changed, Orthanc serves.
        {"require": [{"orthanc_conf": "orthanc-config"}]},
        {"watch": [{"orthanc_conf": "orthanc-config"}]},
    ]
    cluster = {}
    if settings["cluster"]["nodes"]:
        # The first node marks what they share, as soon as the folder is there.
        cluster["orthanc-cluster"] = {
            "orthanc_cluster.shared": [
                {"name": paths["config"]},
                *({key: system[key]} for key in ("user", "group")),
                {"require": [{"file": "orthanc-storage"}]},
            ]
        }
        serving[-2]["require"].append({"orthanc_cluster": "orthanc-cluster"})
    # Where one that is in use was put right, the configuration is the same.
    serving[-1]["watch"] += [
        {"orthanc_plugins": f"orthanc-plugin-{plugin['name']}"} for plugin in settings["plugins"]
    ]
    states = {
        "include": ["orthanc.config", "orthanc.https"],
        **cluster,
        "orthanc-serving": {"orthanc.serving": serving},
        "orthanc-network": {
            "orthanc.connected": [
                {"name": paths["config"]},
                {"configuration": orthanc["configuration"]() if in_database else None},
                {"site": orthanc["site"]},
                {"require": [{"orthanc": "orthanc-serving"}]},
            ]
        },
    }
    # Without systemd as PID 1 there is no boot to prepare for.
    if system["booted"]:
        states["orthanc-enabled"] = {
            "service.enabled": [
                {"name": system["service"]},
                {"require": [{"orthanc_conf": "orthanc-config"}]},
            ],
        }
    return states
