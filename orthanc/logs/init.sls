#!py
"""
The logs of Orthanc's earlier starts, of which each makes one, removed once a day by a timer; or
that there is none: in the journal, and where systemd does not run.

systemd-tmpfiles and logrotate are not for it: they know of a file how old it is, and not whether
an Orthanc that has had nothing to say for long still writes it.
"""

import os

BYTES = {"MB": 10**6, "GB": 10**9, "TB": 10**12}


def run():
    return __salt__["slsutil.renderer"](
        "salt://orthanc/part.py", default_renderer="py", saltenv=__env__
    )(globals())


def states(orthanc):
    settings = orthanc["settings"]
    units, wanted = settings["system"]["log_units"], settings["log_keep"]["enabled"]
    if not (wanted and settings["paths"]["log"] and settings["system"]["booted"]):
        return {
            "orthanc-log-keep": {
                "orthanc_timer.absent": [{"name": units["name"]}, {"files": list(units["files"])}]
            },
        }
    values = {
        "log": settings["paths"]["log"],
        "program": units["program"],
        # As Orthanc calls its logs, by the name of its program.
        "name": f"{os.path.basename(settings['system']['command'])}.log",
        "days": settings["log_keep"]["days"],
        "size": size(settings["log_keep"]["size"]),
    }
    return {
        "include": ["orthanc.config"],
        "orthanc-log-keep": {
            "orthanc_timer.present": [
                {"name": units["name"]},
                {
                    "files": {
                        path: text(template, values) for path, template in units["files"].items()
                    }
                },
                {"require": [{"orthanc_conf": "orthanc-config"}]},
            ],
        },
    }


def size(written):
    """Return how many bytes a size of the pillar is."""
    number, unit = written.replace(" ", "")[:-2], written[-2:]
    return int(number) * BYTES[unit]


def text(template, values):
    """Return what a template of the formula gives with these values."""
    return __salt__["slsutil.renderer"](
        f"salt://orthanc/{template}", default_renderer="jinja", saltenv=__env__, **values
    )
