#!py
"""Says that the backup key stays: the backup host trusts it, and there is no other copy of it."""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    settings = orthanc["settings"]
    path = settings["backup_key"]["path"]

    return {
        "orthanc-backup-key": {"orthanc_backup_key.kept": [{"name": path}]},
    }
