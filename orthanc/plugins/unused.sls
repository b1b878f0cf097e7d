#!py
"""Removes the plugins that were downloaded before and are not in the pillar any more."""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    settings = orthanc["settings"]

    return {
        "include": ["orthanc.service"],
        "orthanc-plugins-unused": {
            "orthanc_plugins.only": [
                {"name": settings["system"]["downloads"]},
                {"config": settings["paths"]["config"]},
                {"keep": [plugin["path"] for plugin in settings["plugins"]]},
                # Until then the configuration of before may return.
                {"require": [{"orthanc": "orthanc-serving"}]},
            ],
        },
    }
