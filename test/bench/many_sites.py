"""Many sites from one pillar tree, rendered in one process as a master with salt-ssh does it."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import tempfile

import site_tree
from figures import Curve

FORMULA = pathlib.Path(__file__).resolve().parents[2]
# So many sites are rendered, of all that there are.
RENDERED = 100
CODE = """
import json, resource, sys, time
import salt.config, salt.pillar, salt.state

folder, number = sys.argv[1], int(sys.argv[2])
opts = salt.config.minion_config(folder + "/minion")
began = time.monotonic()
for n in range(number):
    name = f"site-{n}"
    grains = {"id": name, "os": "Debian", "os_family": "Debian", "init": "systemd"}
    mine = {**opts, "__cli": "salt-call", "id": name, "grains": grains}
    pillar = salt.pillar.Pillar(mine, grains, name, "base").compile_pillar()
    assert pillar["orthanc"]["dicom"]["aet"] == f"SITE{n}", pillar
    with salt.state.HighState(mine, initial_pillar=pillar) as compiler:
        high, errors = compiler.render_highstate({"base": ["orthanc"]})
        assert not errors and "orthanc-serving" in high, errors
    if n == 0:
        first, began = time.monotonic() - began, time.monotonic()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({
    "a site": (time.monotonic() - began) / max(1, number - 1),
    "memory after the first": memory / 1024,
    "memory after the last": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
"""


def measure(scale):
    sizes = tuple(max(2, size // 20) for size in scale.sizes)
    found = [rendered(size) for size in sizes]
    yield Curve("rendering a site, by the number of sites", sizes, "s", of("a site", found))
    memory = of("memory after the first", found) | of("memory after the last", found)
    yield Curve("the process that renders up to 100 sites", sizes, "MiB", memory)


def of(name: str, found: list[dict]) -> dict[str, list[float]]:
    return {name: [each[name] for each in found]}


def rendered(size: int) -> dict[str, float]:
    """Return what the first sites of a tree of so many take."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "salt").mkdir()
        for part in ("orthanc", "_modules"):
            (folder / "salt" / part).symlink_to(FORMULA / part)
        (folder / "pillar/orthanc/sites").mkdir(parents=True)
        site_tree.plant(folder / "pillar", size)
        settings = {
            **{"id": "none", "file_client": "local", "root_dir": name},
            "file_roots": {"base": [f"{name}/salt"]},
            "pillar_roots": {"base": [f"{name}/pillar"]},
            "module_dirs": [str(FORMULA / "_modules")],
            "states_dirs": [str(FORMULA / "_states")],
        }
        (folder / "minion").write_text(json.dumps(settings))
        words = [name, str(min(size, RENDERED))]
        done = subprocess.run(
            [sys.executable, "-c", CODE, *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])
