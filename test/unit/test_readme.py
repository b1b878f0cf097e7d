"""README, changelog and FORMULA say what is so."""

import pathlib
import re

import orthanc_passwords
import pytest
import readme
import yaml

FORMULA = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("pillar", readme.pillars())
def test_every_pillar_of_the_readme_is_accepted(problems_of, pillar):
    settings = yaml.safe_load(readme.with_own_passwords(pillar))["orthanc"]
    if settings.get("remote_access") and "users" not in settings:
        settings["users"] = {"x": {"password": "a word of our own", "role": "admin"}}
    assert problems_of(settings) == []


@pytest.mark.parametrize("text", [*readme.pillars(), (FORMULA / "pillar.example").read_text()])
def test_a_password_of_the_documentation_is_an_example(text):
    found = re.findall(r"(?im)^[# ]*password: '(.*)'$", text)
    assert set(found) <= orthanc_passwords.EXAMPLES | orthanc_passwords.WELL_KNOWN


def test_the_readmes_passwords_are_refused_where_others_reach_the_server(problems_of):
    refused = []
    for text in readme.pillars():
        settings = yaml.safe_load(text)["orthanc"]
        if settings.get("remote_access") and "users" in settings:
            problems = problems_of(settings)
            assert len(problems) == len(settings["users"])
            assert all("example of the formula's documentation" in line for line in problems)
            refused += problems
    assert refused


def test_formula_and_readme_name_the_same_version():
    formula = yaml.safe_load((FORMULA / "FORMULA").read_text())
    name = f"{formula['name']}-{formula['version']}-{formula['release']}.spm"
    assert name in (FORMULA / "README.md").read_text()
    assert formula["name"] == formula["top_level_dir"]
