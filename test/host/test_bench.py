"""The measurements of test/bench work; their numbers are no matter here."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

BENCH = pathlib.Path(__file__).resolve().parents[1] / "bench"
# Those that need hosts of their own for each figure are for an idle machine alone.
NAMES = ("many_sites", "change", "dicom_speed", "server")


def test_what_is_measured_is_written_down(tmp_path):
    words = [sys.executable, str(BENCH), "--small", "--out", str(tmp_path), *NAMES]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in NAMES:
        assert f"== {name}: " in done.stdout
        found = json.loads((tmp_path / f"{name}.json").read_text())
        values = [each["value"] for each in found if each["kind"] == "figure"]
        curves = [each["series"].values() for each in found if each["kind"] == "curve"]
        values += [value for series in curves for line in series for value in line]
        assert values
        assert all(value > 0 for value in values)
    assert [*tmp_path.glob("*.svg")]
