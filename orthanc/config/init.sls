#!py
"""
The configuration: the folder that nobody else may read, and the files in it.

``orthanc/options.py`` makes options of the settings; ``orthanc_conf.managed`` judges them, tries
them and writes the files.
"""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    settings = orthanc["settings"]
    paths, system = settings["paths"], settings["system"]
    configuration = orthanc["configuration"]()

    states = {
        "include": ["orthanc.packages", "orthanc.plugins"],
        # The closed folder is what holds when a package resets the modes of the files in it: the
        # postinst of Debian's plugin packages makes them 0664 on every upgrade.
        "orthanc-access": {
            "file.directory": [
                {"name": paths["config"]},
                {"user": "root"},
                {"group": system["group"]},
                {"dir_mode": "0750"},
                {"makedirs": True},
                {"require": [{"sls": "orthanc.packages"}]},
            ],
        },
        "orthanc-access-content": {
            "orthanc_access.closed": [
                {"name": paths["config"]},
                {"user": system["user"]},
                {"group": system["group"]},
                {"own": own(configuration)},
                {"require": [{"file": "orthanc-access"}]},
            ],
        },
        "orthanc-config": {
            "orthanc_conf.managed": [
                {"name": paths["config"]},
                {"configuration": configuration},
                {"require": [{"file": "orthanc-access"}, *plugins(settings)]},
            ],
        },
    }
    for place, folder in configuration["folders"].items():
        if place != "orthanc:paths:config":
            states.update(private(place.split(":")[-1], folder, system))
    states["orthanc-worklists"] = worklists(settings["worklists"], system)
    return states


def worklists(asked, system):
    """
    Return the state of the folder of worklists, which only its writer and Orthanc may enter.

    What is put into it gets its group, so that Orthanc may read it.
    """
    if not asked["enabled"]:
        return {"test.nop": []}
    return {
        "file.directory": [
            {"name": asked["folder"]},
            *([{"user": asked["writer"]}] if "writer" in asked else []),
            {"group": system["group"]},
            {"dir_mode": "2770"},
            {"makedirs": True},
            # That says what is wrong with account and folder.
            {"require": [{"orthanc_conf": "orthanc-config"}]},
        ]
    }


def own(configuration):
    """Return the names in the folder that are the formula's."""
    files = [configuration["main_file"], *configuration["option_files"]]
    files += [*configuration["texts"], *configuration["pems"], *configuration["scripts"]]
    return [*(file for file in files if not file.startswith("/")), "before-formula", ".unproven"]


def plugins(settings):
    """Return the states that bring the plugins which the configuration names."""
    return [
        {"orthanc_plugins": f"orthanc-plugin-{plugin['name']}"} for plugin in settings["plugins"]
    ]


def private(name, folder, system):
    """
    Return the states of a folder that only Orthanc's account and group may enter.

    openSUSE's package leaves images readable for everybody. What is in an open folder is closed
    before the folder itself, so that an interrupted run is taken up again; what comes later is
    closed by the UMask of the unit.
    """
    return {
        f"orthanc-{name}-content": {
            "orthanc_access.closed": [
                {"name": folder},
                {"user": system["user"]},
                {"group": system["group"]},
                {"prereq": [{"file": f"orthanc-{name}"}]},
            ],
        },
        f"orthanc-{name}": {
            "file.directory": [
                {"name": folder},
                {"user": system["user"]},
                {"group": system["group"]},
                {"dir_mode": "0750"},
                {"makedirs": True},
                {"require": [{"orthanc_conf": "orthanc-config"}]},
            ],
        },
    }
