#!py
"""Says that the backup key stays: the backup host trusts it, and there is no other copy of it."""


def run():
    orthanc = __salt__["slsutil.renderer"](
        "salt://orthanc/map.py", default_renderer="py", saltenv=__env__
    )
    if orthanc["problems"]:
        return {"include": ["orthanc.validation"]}
    settings = orthanc["settings"]
    path = settings["backup_key"]["path"]

    return {
        "orthanc-backup-key": {
            "test.show_notification": [
                {"name": path},
                {"text": f"A backup key is never removed. If there is one, it stays in {path}."},
            ],
        },
    }
