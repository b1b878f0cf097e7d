#!py
"""
Links from one folder to where configuration, logs, images and plugins live; or that they are gone.
"""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    links = orthanc["settings"]["links"]

    names = ("config", "log", "data", "plugins")
    wanted = [name for name in names if links["enabled"] and links[name]["target"]]
    states = {
        "include": ["orthanc.config"] if wanted else [],
        "orthanc-links": {
            "orthanc.unlinked": [
                {"name": links["dir"]},
                {"links": [links[name]["name"] for name in names if name not in wanted]},
            ],
        },
    }
    for name in wanted:
        states[f"orthanc-link-{name}"] = {
            "file.symlink": [
                {"name": links[name]["name"]},
                {"target": links[name]["target"]},
                {"makedirs": True},
                {"require": [{"orthanc_conf": "orthanc-config"}]},
            ],
        }
    return states
