#!py
"""Says that the database stays: it knows all images, and there is no other copy of that."""


def run():
    orthanc = __salt__["slsutil.renderer"](
        "salt://orthanc/map.py", default_renderer="py", saltenv=__env__
    )

    return {
        "include": ["orthanc.validation.clean"],
        "orthanc-database": {
            "test.show_notification": [
                {"name": orthanc["settings"]["postgresql"]["database"]},
                {"text": "A database is never removed, nor are the programs for it."},
                {"require": [{"orthanc_conf": "orthanc-pillar"}]},
            ],
        },
    }
