"""Measure, print a table, and write JSON and plots.

    bash test/run.sh bench [NAME...] [--small] [--out FOLDER]

Needs an idle machine, and root: hosts are booted as in the tests. ``--small`` only shows that it
works, with numbers that mean nothing.
"""

from __future__ import annotations

import argparse
import importlib
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1] / "_modules")]

import figures  # noqa: E402
import testbed  # noqa: E402
from ways import NEWEST, SALT_VERSIONS  # noqa: E402

NAMES = (
    *("no_op", "playbook", "change", "salt_ssh", "growth", "many_sites"),
    *("dicom_speed", "server"),
)
WHOLE = figures.Scale(7, (10, 100, 1000, 10_000), 1000, 50, tuple(SALT_VERSIONS))
SMALL = figures.Scale(1, (2, 20), 20, 3, (NEWEST,))


def main() -> int:
    parser = argparse.ArgumentParser(prog="bash test/run.sh bench")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}")
    parser.add_argument("--small", action="store_true", help="numbers that mean nothing, soon")
    parser.add_argument("--out", type=pathlib.Path, default="bench", help="for JSON and plots")
    asked = parser.parse_args()
    unknown = set(asked.names) - set(NAMES)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    if testbed.missing():
        parser.error(testbed.missing())
    try:
        for name in asked.names or NAMES:
            module = importlib.import_module(name)
            print(f"== {name}: {module.__doc__.splitlines()[0]}", flush=True)
            results = list(module.measure(SMALL if asked.small else WHOLE))
            print(figures.table(results), flush=True)
            figures.write(asked.out, name, results)
    finally:
        testbed.close_network()
    return 0


if __name__ == "__main__":
    sys.exit(main())
