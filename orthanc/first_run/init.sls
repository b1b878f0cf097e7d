#!py
"""
The first run: what is here is noted for ``orthanc.clean``, and an Orthanc that is yet to be
installed is kept from being started before its configuration is in place.
"""

import os


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    settings = orthanc["settings"]
    paths, database = settings["paths"], settings["database"]
    others = [settings["nginx"]["package"], *database["client"], *database["server"]]
    folders = [
        *(paths[name] for name in ("home", "storage", "index", "log")),
        *(settings["links"]["dir"], settings["downloads"], os.path.dirname(settings["drop_in"])),
    ]

    return {
        "orthanc-first-run": {
            "orthanc_first_run.begun": [
                {"name": settings["service"]},
                {"packages": settings["packages"]},
                {"others": [*others, settings["ssh_client"]]},
                {"folders": folders},
                {"config": paths["config"]},
            ],
        },
    }
