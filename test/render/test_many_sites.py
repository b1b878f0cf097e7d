"""Five hundred sites from one pillar tree: each gets its own, in the same time as with fifty."""

import json
import pathlib
import re
import time
import tracemalloc

import orthanc_cards
import orthanc_pillar
import pytest
import salt.pillar
import salt.version
import yaml
from site_tree import plant
from ways import NEWEST

FORMULA = pathlib.Path(__file__).resolve().parents[2]
FEW, MANY = 50, 500
# Neighbours have an account in common; whoever else has it is not to know it.
SECRET = re.compile(r"the secret of (\d+)")


class Tree:
    """A pillar tree, and what its sites get of it."""

    def __init__(self, folder, count, opts, formula) -> None:
        folder.mkdir()
        (folder / "orthanc/sites").mkdir(parents=True)
        plant(folder, count)
        self.opts = {**opts, "pillar_roots": {"base": [str(folder)]}}
        self.count, self.formula = count, formula
        self.compiler = self.new(0)

    def new(self, number: int):
        """Return what compiles the pillar of a site, as a master makes it for each."""
        id = f"site-{number}"
        return salt.pillar.Pillar(self.opts, {"id": id, "os_family": "Debian"}, id, "base")

    def pillar(self, number: int) -> dict:
        # To make one takes Salt ten times as long as all that follows, whatever the tree holds.
        compiler, id = self.compiler, f"site-{number}"
        compiler.minion_id = compiler.opts["id"] = compiler.opts["grains"]["id"] = id
        return compiler.compile_pillar()

    def site(self, number: int) -> dict:
        """Return the pillar, and all that is made of it."""
        pillar = self.pillar(number)
        return {"pillar": pillar, **self.formula(pillar["orthanc"], f"site-{number}")}

    def seconds(self) -> float:
        """Return what of the processor's time each site takes."""
        began = time.process_time()
        for number in range(self.count):
            self.check(number, self.site(number))
        return (time.process_time() - began) / self.count

    def memory(self) -> int:
        """Return how many bytes a site takes at most, in the middle of all."""
        self.site(1)
        tracemalloc.start()
        self.site(self.count // 2)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    def check(self, number: int, site: dict) -> None:
        assert site["problems"] == []
        own = {str(number), str(number // 2 + 10000)}
        assert {*SECRET.findall(json.dumps(site["pillar"]))} == own
        # Made of it are references alone, which the site looks up in its own pillar.
        made = {key: value for key, value in site.items() if key != "pillar"}
        assert not SECRET.search(json.dumps(made, default=str))


@pytest.fixture(scope="module")
def formula(map_file, pillar_files, options_file):
    """A function from the pillar of a site to all that the formula makes of it, without a host."""
    read = {
        name: (FORMULA / "orthanc" / name).read_text()
        for name in ("defaults.yaml", "roles.yaml", "osfamily/Debian.yaml")
    }
    tables = pillar_files["tables"]

    def formula(pillar, id):
        layers = [
            yaml.load(read[n], yaml.CSafeLoader) for n in ("defaults.yaml", "osfamily/Debian.yaml")
        ]
        host = {"booted": True, "names": [id], "id": id}
        settings, problems = map_file.load(pillar, layers, host, pillar_files)
        roles = yaml.load(read["roles.yaml"], yaml.CSafeLoader)
        return {
            "problems": problems,
            "configuration": options_file.configuration(settings, roles, tables["DEMO_USERS"]),
            "site": pillar_files["parts"]["site_of_group"](settings),
            "routes": pillar_files["parts"]["routes_job"](settings),
        }

    return formula


CARD = {"group": "hospital", "role": "archive", "port": 4242, "tls": False}


def test_what_comes_of_five_hundred_cards(tmp_path, loaders, formula):
    """By those of all others a site has a modality for each, and its one account for one."""
    tree = Tree(tmp_path / "tree", MANY, loaders.opts, formula)
    cards = {
        f"site-{n}": {
            **{**CARD, "aet": f"SITE{n}", "host": f"192.0.{n // 250}.{n % 250 + 1}"},
            "url": f"https://site-{n}.example.org/",
        }
        for n in range(MANY)
    }
    for number in range(0, MANY, 100):
        # As a master does it, nothing shared.
        pillar = tree.new(number).compile_pillar()
        assert f"the secret of {number}'" in str(pillar)
        site = formula(pillar["orthanc"], f"site-{number}")["site"]
        site = orthanc_pillar.resolve(site, pillar=pillar)
        nothing = {"DicomModalities": {}, "OrthancPeers": {}}
        found, left_out = orthanc_cards.entries(cards, site, nothing, nothing)
        assert len(found["DicomModalities"]) == MANY - 1
        (peer,) = found["OrthancPeers"].values()
        assert peer["Url"] == f"https://site-{number + 1}.example.org/"
        assert peer["Password"] == f"the secret of {number // 2 + 10000}"
        assert left_out == []


# Others keep the grains of a compiler to themselves.
@pytest.mark.skipif(salt.version.__version__ != NEWEST, reason="one Salt is enough")
def test_a_site_takes_no_more_among_five_hundred(tmp_path, loaders, formula):
    few, many = (Tree(tmp_path / str(count), count, loaders.opts, formula) for count in (FEW, MANY))
    few.site(0)
    times = few.seconds(), many.seconds()
    assert times[1] < 2 * times[0]
    sizes = few.memory(), many.memory()
    assert sizes[1] < 1.5 * sizes[0]
