#!py
"""
HTTPS by nginx: installed, running, and willing to take its site before Orthanc is touched.

When it takes the port of clients over is up to ``orthanc.serving``, which also takes the site away
where the pillar asks for none.
"""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    nginx, proxy = orthanc["settings"]["system"]["nginx"], orthanc["proxy"]()

    tried_after = [{"pkg": "orthanc-nginx"}]
    states = {
        "include": ["orthanc.first_run", "orthanc.service"],
        "orthanc-nginx": {
            "pkg.installed": [
                {"pkgs": [nginx["package"]] if proxy["text"] else []},
                *orthanc["apart"],
                {"require": [{"orthanc_first_run": "orthanc-first-run"}]},
            ],
        },
        "orthanc-nginx-tried": {
            "orthanc_nginx.tried": [
                {"name": nginx["site"]},
                {"proxy": proxy},
                {"require": tried_after},
                {"require_in": [{"orthanc_conf": "orthanc-config"}]},
            ],
        },
    }
    if not proxy["text"]:
        return states
    running = [{"pkg": "orthanc-nginx"}]
    if nginx["default_site"]:
        # The package opens port 80 for a page that welcomes to nginx. Only an nginx that came for
        # Orthanc goes without: where one was before, it may be wanted.
        states["orthanc-nginx-default"] = {
            "file.absent": [
                {"name": nginx["default_site"]},
                {"onchanges": [{"pkg": "orthanc-nginx"}]},
            ],
        }
        running.append({"file": "orthanc-nginx-default"})
    states["orthanc-nginx-running"] = {
        "service.running": [{"name": nginx["service"]}, {"enable": True}, {"require": running}],
    }
    tried_after.append({"service": "orthanc-nginx-running"})
    return states
