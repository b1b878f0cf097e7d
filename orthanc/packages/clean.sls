#!py
"""Removes the packages; not purged, because that would take the owner of the images away."""


def run():
    orthanc = __salt__["slsutil.renderer"](
        "salt://orthanc/map.py", default_renderer="py", saltenv=__env__
    )
    settings = orthanc["settings"]

    return {
        "include": ["orthanc.validation.clean"],
        "orthanc-hold": {
            "pkg.unheld": [
                {"name": settings["package"]},
                {"require": [{"orthanc_conf": "orthanc-pillar"}]},
            ],
        },
        "orthanc-packages": {
            "pkg.removed": [
                {"pkgs": settings["packages"]},
                {"require": [{"pkg": "orthanc-hold"}]},
            ],
        },
    }
