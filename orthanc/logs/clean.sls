#!py
"""Removes the timer that removes old logs; the logs stay."""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    units = orthanc["settings"]["system"]["log_units"]

    return {
        "orthanc-log-keep": {
            "orthanc_timer.absent": [{"name": units["name"]}, {"files": list(units["files"])}],
        },
    }
