#!py
"""Stops the service and takes it out of the boot sequence."""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    settings = orthanc["settings"]

    return {
        "orthanc-stopped": {
            "orthanc.stopped": [
                {"name": settings["system"]["service"]},
                {"config": settings["paths"]["config"]},
            ],
        },
    }
