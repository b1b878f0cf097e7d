#!py
"""Says that the backup key stays: the backup host trusts it, and there is no other copy of it."""


def run():
    orthanc = __salt__["slsutil.renderer"](
        "salt://orthanc/map.py", default_renderer="py", saltenv=__env__
    )
    settings = orthanc["settings"]
    path = settings["backup_key"]["path"]

    return {
        "include": ["orthanc.validation.clean"],
        "orthanc-backup-key": {
            "orthanc_backup_key.kept": [
                {"name": path},
                {"require": [{"orthanc_conf": "orthanc-pillar"}]},
            ],
        },
    }
