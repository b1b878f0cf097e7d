#!py
"""The SSH key with which Orthanc's account logs in to the backup host; made once."""


def run():
    orthanc = __salt__["slsutil.renderer"](
        "salt://orthanc/map.py", default_renderer="py", saltenv=__env__
    )
    settings = orthanc["settings"]
    key = settings["backup_key"]

    if not key["enabled"]:
        return {
            "include": ["orthanc.validation"],
            "orthanc-backup-key": {
                "orthanc_backup_key.kept": [
                    {"name": key["path"]},
                    {"require": [{"orthanc_conf": "orthanc-pillar"}]},
                ],
            },
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
