#!py
"""
The pillar, judged before anything on the host is changed. Everything else requires this.

What the shape of the pillar shows was found by ``orthanc/map.py``; the options are judged on the
host, because it depends on the installed Orthanc which of them there are.
"""


def run():
    orthanc = __salt__["slsutil.renderer"](
        "salt://orthanc/map.py", default_renderer="py", saltenv=__env__
    )
    settings = orthanc["settings"]
    if not orthanc["synced"]:
        # The name as well, because Salt shows no comment of this state in test mode.
        text = orthanc["problems"][-1]
        return {
            "orthanc-pillar": {"test.fail_without_changes": [{"name": text}, {"comment": text}]}
        }

    arguments = [{"name": "orthanc"}, {"problems": orthanc["problems"]}]
    # Of a pillar with mistakes the sound part is judged as well: all mistakes in one answer.
    if settings:
        arguments = [
            {"name": settings["paths"]["config"]},
            {"configuration": orthanc["configuration"]()},
            {"problems": orthanc["problems"]},
            {"warnings": settings["warnings"]},
        ]
    return {"orthanc-pillar": {"orthanc_conf.valid": arguments}}
