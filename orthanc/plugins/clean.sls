#!py
"""Removes the plugins that the formula downloaded, if the configuration does not name them."""


def run():
    orthanc = __salt__["slsutil.renderer"](
        "salt://orthanc/map.py", default_renderer="py", saltenv=__env__
    )
    settings = orthanc["settings"]

    return {
        "include": ["orthanc.validation.clean"],
        "orthanc-plugins-unused": {
            "orthanc_plugins.only": [
                {"name": settings["downloads"]},
                {"config": settings["paths"]["config"]},
                {"require": [{"orthanc_conf": "orthanc-pillar"}]},
            ],
        },
    }
