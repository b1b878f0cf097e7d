#!py
"""The packages, and the hold on the server's package where the pillar pins its version."""


def run():
    orthanc = __salt__["slsutil.renderer"](
        "salt://orthanc/map.py", default_renderer="py", saltenv=__env__
    )
    if orthanc["problems"]:
        return {"include": ["orthanc.validation"]}
    settings = orthanc["settings"]
    version = settings.get("version")

    packages = [
        {name: version} if version and name == settings["package"] else name
        for name in settings["packages"]
    ]
    hold = "pkg.held" if version else "pkg.unheld"
    needed, require = ["orthanc.validation"], [{"orthanc_conf": "orthanc-pillar"}]
    if settings["postgresql"]["enabled"]:
        # Debian's package of the plugin restarts Orthanc.
        needed.append("orthanc.database")
        require.append({"sls": "orthanc.database"})
    return {
        "include": needed,
        "orthanc-packages": {
            "pkg.installed": [
                {"pkgs": packages},
                {"update_holds": True},
                {"require": require},
            ],
        },
        "orthanc-hold": {
            hold: [
                {"name": settings["package"]},
                {"require": [{"pkg": "orthanc-packages"}]},
            ],
        },
    }
