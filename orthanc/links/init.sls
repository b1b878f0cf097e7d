#!py
"""
Links from one folder to where configuration, logs, images and plugins live; or that they are gone.
"""


def run():
    orthanc = __salt__["slsutil.renderer"](
        "salt://orthanc/map.py", default_renderer="py", saltenv=__env__
    )
    links = orthanc["settings"]["links"]

    names = ("config", "log", "data", "plugins")
    wanted = [name for name in names if links["enabled"] and links[name]["target"]]
    states = {
        "include": ["orthanc.validation", *(["orthanc.config"] if wanted else [])],
        "orthanc-links": {
            "orthanc.unlinked": [
                {"name": links["dir"]},
                {"links": [links[name]["name"] for name in names if name not in wanted]},
                {"require": [{"orthanc_conf": "orthanc-pillar"}]},
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
