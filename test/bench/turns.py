"""Programs of a host in turn: how long each takes, and how much of a processor.

On the host this file is the program. It reads what to run from its input, as JSON.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time


def take_turns(host, sides: dict[str, list[str]], rounds: int, before: dict | None = None) -> dict:
    """Run programs on a host in turn, and return wall and processor time of each run, in seconds.

    sides
        The words of each program, by its name.
    before
        A command for a shell that comes before the program of that name, and is not measured.

    One round more than is asked for is run: of the first, nothing is kept.
    """
    asked = json.dumps({"sides": sides, "rounds": rounds + 1, "before": before or {}})
    done = subprocess.run(
        [*host.inside(), "python3", "-c", pathlib.Path(__file__).read_text()],
        input=asked,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def measured(words: list[str]) -> tuple[float, float]:
    """Return how long a program took, and how much of a processor it and its children did."""
    began = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    took = time.monotonic() - began
    if status:
        sys.exit(f"{words} ended with {status}:\n{said.decode()}")
    return took, used.ru_utime + used.ru_stime


def main() -> None:
    asked = json.load(sys.stdin)
    found = {name: {"wall": [], "cpu": []} for name in asked["sides"]}
    for number in range(asked["rounds"]):
        for name, words in asked["sides"].items():
            if name in asked["before"]:
                subprocess.run(asked["before"][name], shell=True, check=True)
            wall, cpu = measured(words)
            if number:
                found[name]["wall"].append(wall)
                found[name]["cpu"].append(cpu)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
