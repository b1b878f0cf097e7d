#!py
"""
Removes the copy of the CA; leaves the database, which knows all images, and the programs for it.
"""


def run():
    orthanc = __salt__["slsutil.renderer"](
        "salt://orthanc/map.py", default_renderer="py", saltenv=__env__
    )
    if orthanc["problems"]:
        return {"include": ["orthanc.validation"]}
    settings = orthanc["settings"]

    ca = f"{settings['paths']['config']}/{settings['database']['ca']}"
    if "ca_source" in settings["postgresql"]:
        ca = settings["postgresql"]["ca"]
    return {"orthanc-database-ca": {"file.absent": [{"name": ca}]}}
