"""A run that has nothing to do, over what Salt takes for a state that does nothing."""

from __future__ import annotations

import sites
from figures import ratio
from turns import take_turns

# With Salt 3006 the floor is lower, and what the formula adds is the same.
GOALS = {"3006": 1.6}


def measure(scale):
    for version in scale.versions:
        for name, settings in sites.PILLARS.items():
            with sites.deployed(version, **settings) as host:
                sides = {"formula": sites.APPLY, "floor": sites.FLOOR}
                found = take_turns(host, sides, scale.rounds)
            for kind in ("wall", "cpu"):
                what = f"Salt {version}, {name}, nothing to do: {kind} over the floor"
                goal = GOALS.get(version.split(".")[0], 1.3)
                yield ratio(what, {side: of[kind] for side, of in found.items()}, goal)
