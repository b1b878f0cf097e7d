#!py
"""Lets nothing be sent on any more. What has not arrived is forgotten; the images stay here."""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    name = orthanc["settings"]["system"]["routes"]["queue"]

    return {"orthanc-routes": {"orthanc_routes.absent": [{"name": name}]}}
