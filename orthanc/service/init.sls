#!py
"""The service: started at boot, restarted when its configuration changed, serving at the end."""

UNIT = """\
[Service]
# What Orthanc stores and logs is for its own account and group only.
UMask=0027
Restart=on-failure
# Until a running job and the database are done.
TimeoutStopSec=600
"""
# What has to be up before the database can be reached, and wants it up at all.
NEEDS_DATABASE = """\
[Unit]
Wants={0}
After={0}
"""


def run():
    orthanc = __salt__["slsutil.renderer"](
        "salt://orthanc/map.py", default_renderer="py", saltenv=__env__
    )
    if orthanc["problems"]:
        return {"include": ["orthanc.validation"]}
    settings = orthanc["settings"]
    paths, proxy = settings["paths"], orthanc["proxy"]()

    serving = [
        {"name": settings["service"]},
        {"config": paths["config"]},
        {"log": paths["log"]},
        {"timeout": settings["start_timeout"]},
        {"group": settings["group"]},
        {"postgresql": settings["postgresql"]["enabled"]},
        {"proxy": proxy},
        {"require": [{"sls": "orthanc.config"}]},
        {"watch": [{"orthanc_conf": "orthanc-config"}]},
    ]
    # Where one that is in use was put right, the configuration is the same.
    serving[-1]["watch"] += [
        {"orthanc_plugins": f"orthanc-plugin-{plugin['name']}"} for plugin in settings["plugins"]
    ]
    states = {"include": ["orthanc.config"], "orthanc-serving": {"orthanc.serving": serving}}
    if proxy["text"]:
        states["include"].append("orthanc.https")
    # Without systemd as PID 1 there is no unit, and no boot to prepare for.
    if settings["booted"]:
        serving[-1]["watch"].append({"file": "orthanc-unit"})
        states["orthanc-unit"] = {
            "file.managed": [
                {"name": settings["drop_in"]},
                {"contents": "# Managed by Salt\n" + database(settings) + UNIT + command(settings)},
                {"user": "root"},
                {"group": "root"},
                {"mode": "0644"},
                {"makedirs": True},
                {"require": [{"orthanc_conf": "orthanc-config"}]},
            ],
        }
        # systemd does not see by itself that a folder for drop-ins is new.
        states["orthanc-unit-reload"] = {
            "module.run": [
                {"service.systemctl_reload": []},
                {"onchanges": [{"file": "orthanc-unit"}]},
                {"require_in": [{"orthanc": "orthanc-serving"}]},
            ],
        }
        states["orthanc-enabled"] = {
            "service.enabled": [
                {"name": settings["service"]},
                {"require": [{"sls": "orthanc.config"}]},
            ],
        }
    return states


def database(settings):
    """Return the lines of the unit that make it wait for the database, at boot."""
    if not settings["postgresql"]["enabled"]:
        return ""
    if settings["postgresql"]["local"]:
        return NEEDS_DATABASE.format(f"{settings['database']['service']}.service")
    # A URI may lead to this host or another one.
    lines = NEEDS_DATABASE.format("network-online.target")
    return f"{lines}After={settings['database']['service']}.service\n"


def command(settings):
    """Return the lines of the unit for paths that the package's own unit does not name."""
    paths = settings["paths"]
    if not {"config", "log"} & set(settings["moved_paths"]):
        return ""
    log = f" --logdir={paths['log']}" if paths["log"] else ""
    return f"ExecStart=\nExecStart={settings['command']}{log} {paths['config']}\n"
