#!py
"""Removes the files of the configuration that the formula owns."""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    settings = orthanc["settings"]
    configuration = orthanc["configuration"]()
    others = [*configuration["texts"], *configuration["pems"]]

    return {
        "orthanc-config": {
            "orthanc_conf.absent": [
                {"name": settings["paths"]["config"]},
                {"files": [settings["main_file"], *settings["option_files"], *others]},
            ],
        },
    }
