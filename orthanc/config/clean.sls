#!py
"""Removes the files of the configuration that the formula owns."""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    configuration = orthanc["configuration"]()
    files = [configuration["main_file"], *configuration["option_files"]]
    files += [*configuration["texts"], *configuration["pems"]]

    return {
        "orthanc-config": {
            "orthanc_conf.absent": [
                {"name": orthanc["settings"]["paths"]["config"]},
                {"files": files},
            ],
        },
    }
