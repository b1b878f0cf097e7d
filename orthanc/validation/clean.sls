#!py
"""
The pillar, as far as it says what there is to take away. Nothing is taken away where it is refused.

Whether an Orthanc could run with it does not matter here.
"""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    return orthanc["pillar_state"]()
