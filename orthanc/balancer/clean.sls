#!py
"""Takes the balancer away; nginx stays."""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    balancer = orthanc["balancer"](there=False)

    return {
        "orthanc-balancer": {
            "orthanc_balancer.serving": [{"name": balancer["config"]}, {"balancer": balancer}],
        },
    }
