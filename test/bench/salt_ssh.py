"""A run over salt-ssh that has nothing to do, over a state that does nothing."""

from __future__ import annotations

import sites
from figures import ratio
from turns import take_turns
from ways import WAYS


def measure(scale):
    for version in scale.versions:
        with WAYS["salt-ssh"]("trixie", version) as site:
            site.leader.write("/srv/salt/nop.sls", "nothing: test.nop")
            site.pillar(**sites.FEW)
            assert site.state().ok
            run = ["salt-ssh", site.id, "state.apply"]
            sides = {"formula": [*run, "orthanc"], "floor": [*run, "nop"]}
            found = take_turns(site.leader, sides, scale.rounds)
        wall = {side: of["wall"] for side, of in found.items()}
        yield ratio(f"Salt {version}, salt-ssh, nothing to do: over the floor", wall, 1.15)
