#!py
"""Removes the links; a real file or folder in the place of one is left alone."""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    links = orthanc["settings"]["links"]

    return {
        "orthanc-links": {
            "orthanc.unlinked": [
                {"name": links["dir"]},
                {"links": [links[name]["name"] for name in ("config", "log", "data", "plugins")]},
            ],
        },
    }
