#!py
"""Lets no more backups be made. The repository stays as it is, and so does its password."""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    folder = orthanc["settings"]["system"]["backup"]["folder"]

    return {"orthanc-backup": {"orthanc_backup.absent": [{"name": folder}]}}
