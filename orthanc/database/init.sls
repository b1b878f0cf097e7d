#!py
"""
The way to the PostgreSQL database: the programs that it takes, and a database on this host unless
the pillar names one elsewhere. Orthanc's own way in is tried before anything of Orthanc changes.
"""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    settings = orthanc["settings"]
    database, system = settings["postgresql"], settings["system"]["database"]

    programs = system["client"] if database["enabled"] else []
    if database["enabled"] and database["local"]:
        programs = programs + system["server"]
    reached = [{"name": settings["paths"]["config"]}]
    if database["enabled"]:
        reached.append({"configuration": orthanc["configuration"]()})
    states = {
        "include": ["orthanc.first_run"],
        # Not among orthanc:packages, because others on this host may use them: they stay when
        # Orthanc goes.
        "orthanc-database-packages": {
            "pkg.installed": [
                {"pkgs": programs},
                *orthanc["apart"],
                {"require": [{"orthanc_first_run": "orthanc-first-run"}]},
            ],
        },
        "orthanc-database-reached": {
            "orthanc_database.reached": [
                *reached,
                {"require": [{"pkg": "orthanc-database-packages"}]},
            ],
        },
    }
    if database["enabled"] and database["local"]:
        # openSUSE makes the cluster at its first start.
        states["orthanc-database-service"] = {
            "service.running": [
                {"name": system["service"]},
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
