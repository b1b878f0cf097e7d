#!py
"""Backups with restic, which systemd makes at night, whether there is Salt on the host or not."""

import os


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    settings = orthanc["settings"]
    backup, folder = settings["backup"], settings["system"]["backup"]["folder"]

    if "repository" not in backup:
        return {"orthanc-backup": {"orthanc_backup.absent": [{"name": folder}]}}
    return {
        "include": ["orthanc.config", "orthanc.backup_key"],
        "orthanc-restic": {
            "pkg.installed": [
                {"pkgs": settings["system"]["backup"]["packages"]},
                *orthanc["apart"],
                {"require": [{"orthanc_first_run": "orthanc-first-run"}]},
            ],
        },
        "orthanc-backup": {
            "orthanc_backup.present": [
                {"name": folder},
                {"job": job(settings)},
                {"schedules": {"backup": backup["schedule"], "drill": backup.get("drill")}},
                {"require": [{"pkg": "orthanc-restic"}, {"orthanc_conf": "orthanc-config"}]},
            ],
        },
    }


def job(settings):
    """Return what the state is to know of the backup."""
    paths, key, system = settings["paths"], settings["backup_key"], settings["system"]
    given = ("repository", "password", "environment", "keep", "limit_upload", "drill_sample")
    return {
        **{name: settings["backup"][name] for name in given if name in settings["backup"]},
        "config": paths["config"],
        "command": system["command"],
        "user": system["user"],
        "group": system["group"],
        "key": key["path"] if key["enabled"] else None,
        "files": files(settings),
        "named": named(settings),
    }


def files(settings):
    """Return the paths of what the formula has made outside of the folder of the configuration."""
    system, key = settings["system"], settings["backup_key"]
    found = [os.path.dirname(system["drop_in"]), system["downloads"]]
    found += [system["nginx"]["site"], system["nginx"]["pem"], system["retention"]["log"]]
    return found + ([key["path"], f"{key['path']}.pub"] if key["enabled"] else [])


def named(settings):
    """Return the paths of what the pillar names; what it holds as text is in Orthanc's files."""
    https, tls = settings["https"], settings["dicom"]["tls"]
    found = [each.get(name) for each in (https, tls) for name in ("certificate", "key")]
    found += [tls.get("trusted_certificates"), settings.get("ca_source")]
    found += [settings["postgresql"].get("ca_source"), settings["postgresql"]["ca"]]
    found += [plugin.get("source") for plugin in settings["plugins"]]
    found += [*settings["lua_scripts"].values(), *settings["python_scripts"].values()]
    return sorted({path for path in found if isinstance(path, str) and path.startswith("/")})
