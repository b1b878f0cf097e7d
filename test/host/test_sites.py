"""One master, two sites on two systems: each gets its own pillar, and nothing of the other's.
One of them is asked before it has the formula's modules. Then they are a group.
"""

import contextlib
import re

import documentation
import pytest
import testbed
from minion import FORMULA, Server
from ways import GITFS, NEWEST, OLDEST, ROOTS, put_into_git, start_master, start_minion

SITES = {
    "north-1": {"user": "nora", "modality": "mr", "other": "only for the south"},
    "south-1": {"user": "sven", "modality": "ct", "other": "only for the north"},
}


@pytest.mark.parametrize(
    ("salt", "systems", "backend"),
    [(NEWEST, ("bookworm", "leap"), "gitfs"), (OLDEST, ("bookworm", "bookworm"), "roots")],
)
def test_two_sites_from_one_pillar_tree(salt, systems, backend):
    with contextlib.ExitStack() as booted:
        master, north, south = (
            booted.enter_context(Server(testbed.root_with_salt(system, salt)))
            for system in ("bookworm", *systems)
        )
        hosts = {"north-1": north, "south-1": south}
        master.install_formula(FORMULA)
        master.write("/srv/salt/top.sls", "base: {'*': [orthanc]}")
        documentation.write_files(master, "Many sites from one pillar tree")
        if backend == "gitfs":
            put_into_git(master)
        start_master(master, ROOTS if backend == "roots" else {**ROOTS, **GITFS})
        for id, host in hosts.items():
            start_minion(master, host, id)
        unsynced = master.run("salt -t 300 north-1 state.apply orthanc", check=False).out
        assert "not on this minion yet; nothing was changed" in unsynced
        assert re.search(r"Succeeded: +0\n", unsynced)
        assert "changed=" not in unsynced
        assert not north.path("/etc/orthanc").exists()
        assert not north.run("dpkg -s orthanc", check=False).ok
        master.run("salt -t 300 north-1 saltutil.sync_all")
        synced = master.run("salt -t 300 north-1 state.apply orthanc", timeout=600).out
        assert "Failed:     0" in synced, synced
        applied = master.run("salt -t 300 '*' state.highstate", check=False, timeout=600).out
        assert applied.count("Failed:     0") == len(SITES), applied
        again = master.run("salt -t 300 '*' state.highstate", check=False, timeout=600).out
        assert again.count("Failed:     0") == len(SITES), str(again)
        assert "changed=" not in again, str(again)
        # Who says no is heard by whoever calls from the master.
        north.write("/srv/wrong.json", '{"HttpPrt": 8042}')
        for words, code in (
            ("orthanc.system", 0),
            ("orthanc.answers http://127.0.0.1:1", 1),
            ("orthanc_conf.validate /srv/wrong.json", 1),
        ):
            assert master.run(f"salt -t 60 north-1 {words}", check=False).code == code, words

        for id, site in SITES.items():
            host, name = hosts[id], id.split("-", maxsplit=1)[0]
            who = (site["user"], f"only for the {name}{documentation.OWN}")
            system = host.ask("GET", "/system", *who, remote=True).json
            assert (system["Name"], system["DicomAet"]) == (
                f"Hospital {name.title()}",
                name.upper(),
            )
            assert host.ask("GET", "/modalities", *who, remote=True).json == [site["modality"]]
            other = f"{site['other']}{documentation.OWN}"
            foreign = ("sven" if site["user"] == "nora" else "nora", other)
            assert host.ask("GET", "/system", *foreign, remote=True).code == 401
            searched = "grep -rlsF --exclude-dir=proc --exclude-dir=sys --exclude-dir=dev {} /"
            assert host.run(searched.format(f"'{who[1]}'")).out, "not where this test looks"
            found = host.run(searched.format(f"'{other}'"), check=False).out
            assert found == "", found
        if salt == OLDEST:
            they_know_each_other(master, hosts)


def they_know_each_other(master, hosts):
    """Each by the card of the other. What else comes of cards, ``test_network`` shows."""
    documentation.write_files(master, "Sites that know each other")
    # The one that was first sees the other one at its next run.
    for id in ("south-1", "north-1", "south-1"):
        done = master.run(f"salt -t 300 {id} state.apply orthanc", check=False, timeout=600).out
        assert "Failed:     0" in done, done
    for id, other in (("north-1", "south-1"), ("south-1", "north-1")):
        assert "answers:\n        True" in master.run(f"salt -t 60 {id} orthanc.echo {other}").out
