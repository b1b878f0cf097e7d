#!py
"""From pillar to a serving Orthanc: all parts that the pillar asks for."""


def run():
    orthanc = __salt__["slsutil.renderer"](
        "salt://orthanc/map.py", default_renderer="py", saltenv=__env__
    )
    if orthanc["problems"]:
        return {"include": ["orthanc.validation"]}

    settings = orthanc["settings"]
    parts = ["packages", "plugins", "config", "service", "links", "plugins.unused"]
    if settings["postgresql"]["enabled"]:
        parts.insert(0, "database")
    if orthanc["proxy"]()["text"]:
        parts.append("https")
    if settings["backup_key"]["enabled"]:
        parts.append("backup_key")
    return {"include": [f"orthanc.{part}" for part in parts]}
