#!py
"""
Removes the packages that came with the formula; not purged, because that would take the owner of
the images away.
"""


def run():
    orthanc = __salt__["slsutil.renderer"](
        "salt://orthanc/map.py", default_renderer="py", saltenv=__env__
    )
    settings = orthanc["settings"]

    return {
        "include": ["orthanc.validation.clean"],
        "orthanc-packages": {
            "orthanc_first_run.packages_removed": [
                {"name": settings["service"]},
                {"require": [{"orthanc_conf": "orthanc-pillar"}]},
            ],
        },
    }
