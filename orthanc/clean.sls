#!py
"""Takes the service and all that the formula wrote away; leaves images and database alone."""


def run():
    orthanc = __salt__["slsutil.renderer"](
        "salt://orthanc/map.py", default_renderer="py", saltenv=__env__
    )
    if orthanc["problems"]:
        return {"include": ["orthanc.validation"]}

    return {
        "include": [
            "orthanc.https.clean",
            "orthanc.service.clean",
            "orthanc.links.clean",
            "orthanc.config.clean",
            "orthanc.packages.clean",
        ],
    }
