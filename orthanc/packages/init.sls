#!py
"""
The packages, tried before they take the place of others, and the hold on the server's package where
the pillar pins its version.
"""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    settings = orthanc["settings"]
    paths, version = settings["paths"], settings.get("version")
    server = settings["system"]["package"]

    packages = [
        {name: version} if version and name == server else name for name in settings["packages"]
    ]
    # Debian's package of the plugin for the database restarts Orthanc.
    before = [{"orthanc_first_run": "orthanc-first-run"}, {"sls": "orthanc.database"}]
    hold = "pkg.held" if version else "pkg.unheld"
    return {
        "include": ["orthanc.first_run", "orthanc.database"],
        "orthanc-upgrade": {
            "orthanc_upgrade.upgraded": [
                {"name": paths["config"]},
                {"configuration": orthanc["configuration"]()},
                {"require": before},
            ],
        },
        "orthanc-packages": {
            "pkg.installed": [
                {"pkgs": packages},
                {"update_holds": True},
                *orthanc["apart"],
                {"require": [*before, {"orthanc_upgrade": "orthanc-upgrade"}]},
            ],
        },
        "orthanc-packaged": {
            "orthanc_first_run.packaged": [
                {"name": paths["config"]},
                {"folders": [paths[name] for name in ("home", "storage", "index", "log")]},
                {"require": [{"pkg": "orthanc-packages"}]},
            ],
        },
        # After the packages: what others require these to wait for may bring the source.
        "orthanc-version": {
            "orthanc_packages.available": [
                {"name": server},
                {"version": version},
                {"require": [{"pkg": "orthanc-packages"}]},
            ],
        },
        "orthanc-hold": {
            hold: [
                {"name": server},
                {"require": [{"pkg": "orthanc-packages"}]},
            ],
        },
    }
