#!py
"""Links from one folder to where configuration, logs, images and plugins live."""


def run():
    orthanc = __salt__["slsutil.renderer"](
        "salt://orthanc/map.py", default_renderer="py", saltenv=__env__
    )
    if orthanc["problems"]:
        return orthanc["refuse"](__sls__)
    links = orthanc["settings"]["links"]

    if not links["enabled"]:
        return {"include": ["orthanc.links.clean"]}
    return {
        f"orthanc-link-{name}": {
            "file.symlink": [
                {"name": links[name]["name"]},
                {"target": links[name]["target"]},
                {"makedirs": True},
            ],
        }
        for name in ("config", "log", "data", "plugins")
        if links[name]["target"]
    }
