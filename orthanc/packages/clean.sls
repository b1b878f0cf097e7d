#!py
"""
Removes the packages that came with the formula; not purged, because that would take the owner of
the images away.
"""


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    system = orthanc["settings"]["system"]

    return {
        "orthanc-packages": {"orthanc_first_run.packages_removed": [{"name": system["service"]}]},
        # The way back of an upgrade that has failed.
        "orthanc-upgrade": {"file.absent": [{"name": f"/var/lib/{system['own']}/upgrade"}]},
    }
