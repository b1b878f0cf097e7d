#!py
"""
The plugins that the pillar downloads.

Here they are only put on the host. ``orthanc.config`` tries them and has Orthanc load them, and
``orthanc.plugins.unused`` takes away those of before.
"""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    settings = orthanc["settings"]

    states = {"include": ["orthanc.first_run"]}
    for plugin in settings["plugins"]:
        states[f"orthanc-plugin-{plugin['name']}"] = {
            "orthanc_plugins.present": [
                {"name": plugin["path"]},
                {"source": plugin["source"]},
                {"require": [{"orthanc_first_run": "orthanc-first-run"}]},
            ],
        }
    return states
