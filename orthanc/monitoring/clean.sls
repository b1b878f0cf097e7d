#!py
"""Lets nothing be written for Prometheus any more, and removes what was written."""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    system = orthanc["settings"]["system"]
    name, file = (system["monitoring"][key] for key in ("unit", "file"))
    # What each has seen who looked at it last; see NOTE of orthanc_health.
    notes = [f"/run/{system['own']}-{who}.json" for who in ("health", "nagios", "metrics")]

    return {
        "orthanc-monitoring": {"orthanc_jobs.absent": [{"name": name}, {"files": [file, *notes]}]}
    }
