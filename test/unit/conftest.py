"""The formula's data, without Salt."""

import pathlib

import pytest
import yaml

FORMULA = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def read_yaml():
    """A function that reads a YAML file of the formula."""
    return lambda name: yaml.safe_load((FORMULA / "orthanc" / name).read_text())


@pytest.fixture(params=["Debian", "Suse"])
def load_settings(request, map_file, read_yaml):
    """``map.load`` for one OS family: a function from pillar to (settings, problems)."""

    def load_for(pillar, booted=True):
        osmap, defaults = read_yaml(f"osfamily/{request.param}.yaml"), read_yaml("defaults.yaml")
        return map_file.load(pillar, osmap, defaults, booted)

    return load_for
