"""Where what is on this machine for the formula is; ``orthanc/masterless.sh`` has put it there."""

from __future__ import annotations

import pathlib

FORMULA = pathlib.Path(__file__).resolve().parents[2]
HOME = FORMULA.parent
# What all of it is called: the folders, and the program.
NAME = HOME.name
STATE = pathlib.Path("/var/lib", NAME)
RUN = pathlib.Path("/run", NAME)
PROGRAM = pathlib.Path("/usr/local/sbin", NAME)
MASTERLESS = FORMULA / "orthanc/masterless.sh"
# Prints which packages are installed.
PACKAGES = FORMULA / "orthanc/command/packages.sh"
# The path of the pillar of the last run, and the pillar that is made where there is none.
LAST = STATE / "pillar"
PILLAR = pathlib.Path("/etc", NAME, "orthanc.sls")
# The packages that came for Salt, and those that came in runs of the formula.
FOR_SALT, FOR_ORTHANC = STATE / "for-salt", STATE / "for-orthanc"
