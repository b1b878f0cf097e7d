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
        # The other sites of its group forget it.
        "orthanc-network": {"orthanc.connected": [{"name": settings["paths"]["config"]}]},
    }
