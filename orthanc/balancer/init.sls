#!py
"""
The balancer before several nodes: nginx, an instance of its own. It is no part of ``orthanc``,
because it may be on a host without Orthanc.
"""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    settings, balancer = orthanc["settings"], orthanc["balancer"]()
    nginx, asked = settings["system"]["nginx"], bool(balancer["ports"])

    states = {
        "orthanc-balancer-nginx": {
            "pkg.installed": [{"pkgs": [nginx["package"]] if asked else []}, *orthanc["apart"]],
        },
        "orthanc-balancer-stream": {
            "pkg.installed": [
                {"pkgs": nginx["stream_packages"] if asked else []},
                *orthanc["apart"],
                {"require": [{"pkg": "orthanc-balancer-nginx"}]},
            ],
        },
        "orthanc-balancer": {
            "orthanc_balancer.serving": [
                {"name": balancer["config"]},
                {"balancer": balancer},
                {"require": [{"pkg": "orthanc-balancer-stream"}]},
            ],
        },
    }
    if asked and nginx["default_site"]:
        # Only an nginx that came for the balancer goes without the page on port 80.
        states["orthanc-balancer-default"] = {
            "file.absent": [
                {"name": nginx["default_site"]},
                {"onchanges": [{"pkg": "orthanc-balancer-nginx"}]},
            ],
        }
        states["orthanc-balancer-others"] = {
            "service.running": [
                {"name": nginx["service"]},
                {"reload": True},
                {"onchanges": [{"file": "orthanc-balancer-default"}]},
                {"watch": [{"file": "orthanc-balancer-default"}]},
            ],
        }
    return states
