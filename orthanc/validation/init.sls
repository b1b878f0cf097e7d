#!py
"""
The pillar, judged before anything on the host is changed. Everything else requires this.

What the shape of the pillar shows was found by ``orthanc/map.py``; the options are judged on the
host, because it depends on the installed Orthanc which of them there are. Of a pillar with mistakes
the sound part is judged as well: all mistakes in one answer.
"""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    return orthanc["pillar_state"](
        {"configuration": orthanc["configuration"]()},
        {"warnings": orthanc["settings"]["warnings"]},
    )
