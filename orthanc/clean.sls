#!py
"""Takes the service and all that the formula wrote away; leaves images and database alone."""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    settings = orthanc["settings"]
    parts = ["monitoring", "routes", "retention", "backup", "https", "service", "links", "config"]
    parts += ["plugins", "logs", "database", "packages", "first_run"]
    if settings["backup_key"]["enabled"]:
        parts.append("backup_key")
    # Before anything is stopped or taken away.
    sight = [{"name": settings["system"]["service"]}, {"config": settings["paths"]["config"]}]
    before = {"require_in": [{"sls": f"orthanc.{part}.clean"} for part in parts]}
    return {
        "include": ["orthanc.validation.clean", *(f"orthanc.{part}.clean" for part in parts)],
        "orthanc-in-sight": {"orthanc_first_run.in_sight": [*sight, before]},
    }
