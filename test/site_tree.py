"""A pillar tree of many sites, as the documentation has it."""

from __future__ import annotations

import pathlib

import documentation
import yaml


def plant(folder, count: int) -> None:
    """Write the pillar tree of so many sites, as the documentation has it."""
    for kind, path, text in documentation.section("Hundreds of sites"):
        if kind == "file":
            file = folder / pathlib.PurePosixPath(path).relative_to("/srv/pillar")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(documentation.with_own_passwords(text))
    for number in range(count):
        other = number ^ 1
        pair = {"username": f"pair-{number // 2}"}
        users = {
            "anna": {"password": f"the secret of {number}", "role": "admin"},
            pair["username"]: {"password": f"the secret of {number // 2 + 10000}", "role": "peer"},
        }
        own = {
            "users": users,
            "dicom": {"aet": f"SITE{number}"},
            "network": {"accounts": {f"site-{other}": pair}},
            "routes": {"ct": {"to": f"site-{other}", "modality": ["CT"]}},
        }
        text = yaml.safe_dump({"orthanc": own})
        (folder / f"orthanc/sites/site-{number}.sls").write_text(text)
