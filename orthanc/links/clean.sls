#!py
"""Removes the links; a real file or folder in the place of one is left alone."""


def run():
    orthanc = __salt__["slsutil.renderer"](
        "salt://orthanc/map.py", default_renderer="py", saltenv=__env__
    )
    links = orthanc["settings"]["links"]

    return {
        "include": ["orthanc.validation.clean"],
        "orthanc-links": {
            "orthanc.unlinked": [
                {"name": links["dir"]},
                {"links": [links[name]["name"] for name in ("config", "log", "data", "plugins")]},
                {"require": [{"orthanc_conf": "orthanc-pillar"}]},
            ],
        },
    }
