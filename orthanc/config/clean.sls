#!py
"""Removes the files of the configuration that the formula owns."""


def run():
    orthanc = __salt__["slsutil.renderer"](
        "salt://orthanc/map.py", default_renderer="py", saltenv=__env__
    )
    settings = orthanc["settings"]
    configuration = orthanc["configuration"]()
    others = [*configuration["texts"], *configuration["pems"]]

    return {
        "include": ["orthanc.validation.clean"],
        "orthanc-config": {
            "orthanc_conf.absent": [
                {"name": settings["paths"]["config"]},
                {"files": [settings["main_file"], *settings["option_files"], *others]},
                {"require": [{"orthanc_conf": "orthanc-pillar"}]},
            ],
        },
    }
