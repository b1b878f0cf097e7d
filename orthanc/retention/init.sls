#!py
"""Studies that are old enough are deleted at night; or only listed; or there is nothing of it."""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    settings = orthanc["settings"]
    retention, system = settings["retention"], settings["system"]
    name = system["retention"]["log"]

    if not retention["rules"]:
        return {"orthanc-retention": {"orthanc_retention.absent": [{"name": name}]}}
    job = {key: value for key, value in retention.items() if key != "schedule"}
    job["config"] = settings["paths"]["config"]
    job.update({key: system[key] for key in ("user", "group")})
    return {
        "include": ["orthanc.config"],
        "orthanc-retention": {
            "orthanc_retention.present": [
                {"name": name},
                {"job": job},
                {"schedule": retention["schedule"]},
                {"require": [{"orthanc_conf": "orthanc-config"}]},
            ],
        },
    }
