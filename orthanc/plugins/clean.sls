#!py
"""Removes the plugins that the formula downloaded, if the configuration does not name them."""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    settings = orthanc["settings"]

    return {
        "orthanc-plugins-unused": {
            "orthanc_plugins.only": [
                {"name": settings["system"]["downloads"]},
                {"config": settings["paths"]["config"]},
            ],
        },
    }
