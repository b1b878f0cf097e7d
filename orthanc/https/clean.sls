#!py
"""Takes Orthanc's site and certificate from nginx; nginx and its other sites stay."""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    proxy = orthanc["proxy"](site=False)

    return {
        "orthanc-nginx-site": {
            "orthanc_nginx.absent": [
                {"name": proxy["site"]},
                {"proxy": proxy},
            ],
        },
    }
