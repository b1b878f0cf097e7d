"""
What the pillar may say of the retention, in the language of ``orthanc_shapes``: kinds for
``pillar.py``. Data only.
"""

from __future__ import annotations


def run() -> dict:
    return {"KINDS": KINDS}


KINDS = {
    "age": {
        "wanted": "a number of years or days, such as 10 years or 400 days; or never",
        "type": "string",
        "pattern": r"[1-9][0-9]{0,2} years?|[1-9][0-9]{0,4} days?|never",
    },
    "modality": {
        "wanted": "a Modality of DICOM in capital letters, such as US",
        "type": "string",
        "pattern": "[A-Z0-9_]{1,16}",
    },
    "retention rule": {
        "keys": {
            "older_than": "age",
            "by": {"wanted": "study_date or received", "enum": ["study_date", "received"]},
            "modality": {"items": "modality"},
            "aet": {"items": "aet"},
        }
    },
    "retention": {
        "keys": {
            "rules": {"items": "retention rule"},
            "dry_run": "flag",
            "schedule": "time of systemd",
            "hours": {
                "wanted": "a whole number of hours from 1 to 23",
                "type": "integer",
                "minimum": 1,
                "maximum": 23,
            },
            "rate": {
                "wanted": "a whole number of studies in a minute from 1 to 1000",
                "type": "integer",
                "minimum": 1,
                "maximum": 1000,
            },
            "max_percent": "per cent",
            "unproven": "flag",
        }
    },
}
