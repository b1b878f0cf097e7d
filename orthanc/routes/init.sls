#!py
"""Images are sent on to others, by a service of the host's own; or there is nothing of it."""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    settings = orthanc["settings"]
    name = settings["system"]["routes"]["queue"]

    if not settings["routes"]:
        return {"orthanc-routes": {"orthanc_routes.absent": [{"name": name}]}}
    return {
        "include": ["orthanc.service"],
        "orthanc-routes": {
            "orthanc_routes.present": [
                {"name": name},
                {"job": orthanc["routes_job"]()},
                {"require": [{"orthanc": "orthanc-serving"}]},
            ],
        },
    }
