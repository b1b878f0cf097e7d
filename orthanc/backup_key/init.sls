#!py
"""The SSH key with which Orthanc's account logs in to the backup host; made once."""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    key, system = orthanc["settings"]["backup_key"], orthanc["settings"]["system"]

    if not key["enabled"]:
        return {
            "orthanc-backup-key": {"orthanc_backup_key.kept": [{"name": key["path"]}]},
        }
    return {
        "include": ["orthanc.config"],
        "orthanc-ssh-client": {
            "pkg.installed": [
                {"name": system["ssh_client"]},
                *orthanc["apart"],
                {"require": [{"orthanc_first_run": "orthanc-first-run"}]},
            ],
        },
        "orthanc-backup-key": {
            "orthanc_backup_key.present": [
                {"name": key["path"]},
                {"remote_user": key["remote_user"]},
                {"user": system["user"]},
                {"group": system["group"]},
                {"require": [{"pkg": "orthanc-ssh-client"}, {"file": "orthanc-home"}]},
            ],
        },
    }
