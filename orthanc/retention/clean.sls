#!py
"""Lets nothing be deleted any more. The log of what was deleted stays."""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    log = orthanc["settings"]["system"]["retention"]["log"]

    return {"orthanc-retention": {"orthanc_retention.absent": [{"name": log}]}}
