#!py
"""Stops the service and takes it out of the boot sequence."""


def run():
    orthanc = __salt__["slsutil.renderer"](
        "salt://orthanc/map.py", default_renderer="py", saltenv=__env__
    )
    if orthanc["problems"]:
        return {"include": ["orthanc.validation"]}
    settings = orthanc["settings"]

    states = {
        "orthanc-stopped": {
            "orthanc.stopped": [{"name": settings["service"]}],
        },
    }
    if settings["booted"]:
        states["orthanc-disabled"] = {"service.disabled": [{"name": settings["service"]}]}
    return states
