"""README, changelog and FORMULA say what is so."""

import pathlib

import pytest
import readme
import yaml

FORMULA = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("pillar", readme.pillars())
def test_every_pillar_of_the_readme_is_accepted(problems_of, pillar):
    settings = yaml.safe_load(pillar)["orthanc"]
    if settings.get("remote_access") and "users" not in settings:
        settings["users"] = {"x": {"password": "x", "role": "admin"}}
    assert problems_of(settings) == []


def test_formula_and_readme_name_the_same_version():
    formula = yaml.safe_load((FORMULA / "FORMULA").read_text())
    name = f"{formula['name']}-{formula['version']}-{formula['release']}.spm"
    assert name in (FORMULA / "README.md").read_text()
    assert formula["name"] == formula["top_level_dir"]
