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
    paths, system = settings["paths"], settings["system"]
    others = [system["nginx"]["package"], *system["database"]["client"]]
    others += [*system["database"]["server"], system["ssh_client"], *system["backup"]["packages"]]
    folders = [
        *(paths[name] for name in ("home", "storage", "index", "log")),
        *(settings["links"]["dir"], system["downloads"], os.path.dirname(system["drop_in"])),
        os.path.dirname(system["log_units"]["program"]),
    ]

    return {
        "orthanc-first-run": {
            "orthanc_first_run.begun": [
                {"name": system["service"]},
                {"packages": settings["packages"]},
                {"others": others},
                {"folders": folders},
                {"config": paths["config"]},
            ],
        },
    }
