"""
What all SLS files of the formula have in common. Each hands over what Salt gave to it, and its
function ``states``, which gets what ``map.py`` returns.

Where the pillar is refused, the state ``orthanc-pillar`` fails. It comes first, and each state that
requires nothing else requires it: no SLS has to think of it.
"""

from __future__ import annotations

import copy
import sys

# What was made of pillar and map files. Salt loads this file anew for each SLS, and has the one of
# before among its modules.
MADE = getattr(sys.modules.get(__name__), "MADE", {})
REQUISITES = {"require", "watch", "onchanges", "prereq"}
PILLAR = {"require": [{"orthanc_conf": "orthanc-pillar"}]}


def run():
    return part


def part(sls: dict) -> dict:
    """
    Return the states of an SLS, bound to the pillar.

    sls
        The names of its file, those among them that Salt puts there.
    """
    orthanc = of_this_run(sls.get("rendered_sls"))
    # What a part does with the settings is no matter to the others.
    states = sls["states"]({**orthanc, "settings": copy.deepcopy(orthanc["settings"])})
    if "orthanc-pillar" in states:
        return states
    clean = sls["__sls__"].rpartition(".")[2] == "clean"
    validation = "orthanc.validation.clean" if clean else "orthanc.validation"
    # An SLS that includes others includes what these include.
    states["include"] = states.get("include") or [validation]
    for name in states.keys() - {"include"}:
        for arguments in states[name].values():
            if not any(REQUISITES & set(argument) for argument in arguments):
                arguments.append(copy.deepcopy(PILLAR))
    return states


def of_this_run(run) -> dict:
    """
    Return what ``map.py`` returns, made once in a run.

    run
        The set in which Salt notes what it has rendered. It makes one for each time that it
        compiles states, with one pillar; and while it is kept here, no other one is the same.
    """
    if isinstance(run, set) and MADE.get("run") is run and MADE["env"] == __env__:
        return MADE["orthanc"]
    orthanc = __salt__["slsutil.renderer"](
        "salt://orthanc/map.py", default_renderer="py", saltenv=__env__
    )
    MADE.update(run=run, env=__env__, orthanc=orthanc)
    return orthanc
