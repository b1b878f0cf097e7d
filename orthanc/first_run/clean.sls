#!py
"""Puts back what was there before the formula: modes, owners, and a service that served."""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    settings, parts = orthanc["settings"], ["service", "config", "logs", "packages"]
    return {
        "include": [f"orthanc.{part}.clean" for part in parts],
        "orthanc-first-run": {
            "orthanc_first_run.undone": [
                {"name": settings["system"]["service"]},
                {"config": settings["paths"]["config"]},
                {"log": settings["paths"]["log"]},
                {"require": [{"sls": f"orthanc.{part}.clean"} for part in parts]},
            ],
        },
    }
