#!py
"""
The way to the PostgreSQL database: the programs that it takes, and a database on this host unless
the pillar names one elsewhere. Orthanc's own way in is tried before anything of Orthanc changes.
"""


def run():
    orthanc = __salt__["slsutil.renderer"](
        "salt://orthanc/map.py", default_renderer="py", saltenv=__env__
    )
    if orthanc["problems"]:
        return {"include": ["orthanc.validation"]}
    settings = orthanc["settings"]
    database, names = settings["postgresql"], settings["database"]

    if not database["enabled"]:
        return {"include": ["orthanc.validation"]}
    states = {
        "include": ["orthanc.validation"],
        # Not among orthanc:packages, because others on this host may use them: they stay when
        # Orthanc goes.
        "orthanc-database-packages": {
            "pkg.installed": [
                {"pkgs": names["client"] + (names["server"] if database["local"] else [])},
                {"require": [{"orthanc_conf": "orthanc-pillar"}]},
            ],
        },
        "orthanc-database-reached": {
            "orthanc_database.reached": [
                {"name": settings["paths"]["config"]},
                {"configuration": orthanc["configuration"]()},
                {"require": [{"pkg": "orthanc-database-packages"}]},
            ],
        },
    }
    if database["local"]:
        # openSUSE makes the cluster at its first start.
        states["orthanc-database-service"] = {
            "service.running": [
                {"name": names["service"]},
                {"enable": True},
                {"require": [{"pkg": "orthanc-database-packages"}]},
            ],
        }
        states["orthanc-database"] = {
            "orthanc_database.present": [
                {"name": database["database"]},
                {"owner": database["user"]},
                {"port": database.get("port")},
                {"require": [{"service": "orthanc-database-service"}]},
                {"require_in": [{"orthanc_database": "orthanc-database-reached"}]},
            ],
        }
    return states
