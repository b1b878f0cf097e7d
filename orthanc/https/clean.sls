#!py
"""Takes Orthanc's site and certificate from nginx; nginx and its other sites stay."""


def run():
    orthanc = __salt__["slsutil.renderer"](
        "salt://orthanc/map.py", default_renderer="py", saltenv=__env__
    )
    proxy = orthanc["proxy"]()

    return {
        "include": ["orthanc.validation.clean"],
        "orthanc-nginx-site": {
            "orthanc_nginx.absent": [
                {"name": proxy["site"]},
                {"proxy": {**proxy, "text": None, "certificate": None}},
                {"require": [{"orthanc_conf": "orthanc-pillar"}]},
            ],
        },
    }
