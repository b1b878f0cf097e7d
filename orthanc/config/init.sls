#!py
"""
The configuration: the folder that nobody else may read, and the files in it.

``orthanc/options.py`` makes options of the settings; ``orthanc_conf.managed`` judges them, tries
them and writes the files.
"""


def run():
    orthanc = __salt__["slsutil.renderer"](
        "salt://orthanc/map.py", default_renderer="py", saltenv=__env__
    )
    if orthanc["problems"]:
        return {"include": ["orthanc.validation"]}
    settings = orthanc["settings"]
    paths = settings["paths"]

    states = {
        "include": ["orthanc.packages", "orthanc.plugins"],
        # The closed folder is what holds when a package resets the modes of the files in it: the
        # postinst of Debian's plugin packages makes them 0664 on every upgrade.
        "orthanc-access": {
            "file.directory": [
                {"name": paths["config"]},
                {"user": "root"},
                {"group": settings["group"]},
                {"dir_mode": "0750"},
                {"file_mode": "0640"},
                {"recurse": ["user", "group", "mode"]},
                {"makedirs": True},
                {"require": [{"sls": "orthanc.packages"}]},
            ],
        },
        "orthanc-config": {
            "orthanc_conf.managed": [
                *({name: value} for name, value in orthanc["configuration"]().items()),
                {"require": [{"file": "orthanc-access"}, *plugins(settings)]},
            ],
        },
    }
    for name in folders(settings):
        states.update(private(name, settings))
    return states


def plugins(settings):
    """Return the states that bring the plugins which the configuration names."""
    return [
        {"orthanc_plugins": f"orthanc-plugin-{plugin['name']}"} for plugin in settings["plugins"]
    ]


def folders(settings):
    """Return the names of the paths whose folders the formula closes to others, each path once."""
    paths = settings["paths"]
    names = []
    for name in ("home", "storage", "index"):
        if paths[name] not in [paths[other] for other in names]:
            names.append(name)
    # Where the package has the logs, they are closed already.
    if "log" in settings["moved_paths"]:
        names.append("log")
    return names


def private(name, settings):
    """
    Return the states of a folder that only Orthanc's account and group may enter.

    openSUSE's package leaves images readable for everybody. What is in an open folder is closed
    before the folder itself, so that an interrupted run is taken up again; what comes later is
    closed by the UMask of ``orthanc.service``.
    """
    return {
        f"orthanc-{name}-content": {
            "module.run": [
                {"orthanc.close": [{"name": settings["paths"][name]}]},
                {"prereq": [{"file": f"orthanc-{name}"}]},
            ],
        },
        f"orthanc-{name}": {
            "file.directory": [
                {"name": settings["paths"][name]},
                {"user": settings["user"]},
                {"group": settings["group"]},
                {"dir_mode": "0750"},
                {"makedirs": True},
                {"require": [{"orthanc_conf": "orthanc-config"}]},
            ],
        },
    }
