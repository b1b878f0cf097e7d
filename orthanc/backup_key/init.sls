#!py
"""The SSH key with which Orthanc's account logs in to the backup host; made once."""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    settings = orthanc["settings"]
    key = settings["backup_key"]

    if not key["enabled"]:
        return {
            "orthanc-backup-key": {"orthanc_backup_key.kept": [{"name": key["path"]}]},
        }
    return {
        "include": ["orthanc.config"],
        "orthanc-ssh-client": {
            "pkg.installed": [
                {"name": settings["ssh_client"]},
                *orthanc["apart"],
                {"require": [{"orthanc_first_run": "orthanc-first-run"}]},
            ],
        },
        "orthanc-backup-key": {
            "orthanc_backup_key.present": [
                {"name": key["path"]},
                {"remote_user": key["remote_user"]},
                {"user": settings["user"]},
                {"group": settings["group"]},
                {"require": [{"pkg": "orthanc-ssh-client"}, {"file": "orthanc-home"}]},
            ],
        },
    }
