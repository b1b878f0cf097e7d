#!py
"""Says that the database stays: it knows all images, and there is no other copy of that."""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    return {
        "orthanc-database": {
            "test.show_notification": [
                {"name": orthanc["settings"]["postgresql"]["database"]},
                {"text": "A database is never removed, nor are the programs for it."},
            ],
        },
    }
