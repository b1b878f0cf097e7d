#!py
"""Stops the service and takes it out of the boot sequence."""


def run():
    orthanc = __salt__["slsutil.renderer"](
        "salt://orthanc/map.py", default_renderer="py", saltenv=__env__
    )
    settings = orthanc["settings"]

    return {
        "include": ["orthanc.validation.clean"],
        "orthanc-stopped": {
            "orthanc.stopped": [
                {"name": settings["service"]},
                {"config": settings["paths"]["config"]},
                {"require": [{"orthanc_conf": "orthanc-pillar"}]},
            ],
        },
    }
