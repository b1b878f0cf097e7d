#!py
"""How the server is, written each minute for the textfile collector of Prometheus; or nothing."""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    settings = orthanc["settings"]
    monitoring = settings["monitoring"]
    name, file = (settings["system"]["monitoring"][key] for key in ("unit", "file"))

    if not monitoring["enabled"]:
        return {"orthanc-monitoring": {"orthanc_jobs.absent": [{"name": name}, {"files": [file]}]}}
    timer = {
        "description": "How Orthanc is, for Prometheus",
        "function": "orthanc_health.write",
        "argument": file,
        "schedule": "minutely",
        "place": "orthanc:monitoring:textfile",
        # Of what is past, nobody wants to know; and it waits for nothing that hangs.
        **{"persistent": "no", "delay": "5s", "after": "", "mounts": []},
    }
    return {
        "include": ["orthanc.config"],
        "orthanc-monitoring": {
            "orthanc_jobs.present": [
                {"name": name},
                {"timer": timer},
                {"folder": monitoring["textfile"]},
                {"require": [{"orthanc_conf": "orthanc-config"}]},
            ],
        },
    }
