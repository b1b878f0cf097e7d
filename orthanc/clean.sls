#!py
"""Takes the service and all that the formula wrote away; leaves images and database alone."""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    parts = ["monitoring", "retention", "backup", "https", "service", "links", "config", "plugins"]
    parts += ["logs", "database", "packages", "first_run"]
    if orthanc["settings"]["backup_key"]["enabled"]:
        parts.append("backup_key")
    return {"include": [f"orthanc.{part}.clean" for part in parts]}
