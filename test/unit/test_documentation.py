"""The documentation, changelog and FORMULA say what is so."""

import pathlib
import re

import documentation
import orthanc_options
import orthanc_passwords
import pytest
import yaml

FORMULA = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("pillar", documentation.pillars())
def test_every_pillar_of_the_documentation_is_accepted(problems_of, pillar):
    settings = yaml.safe_load(documentation.with_own_passwords(pillar))["orthanc"]
    # The users of a site stand in a file of its own.
    if (settings.get("remote_access") and "users" not in settings) or "network" in settings:
        admin = {"password": "a word of our own", "role": "admin"}
        settings["users"] = {**settings.get("users", {}), "x": admin}
    assert problems_of(settings) == []


@pytest.mark.parametrize(
    "text", [*documentation.pillars(), (FORMULA / "pillar.example").read_text()]
)
def test_a_password_of_the_documentation_is_an_example(text):
    found = re.findall(r"(?im)^[# ]*password: '(.*)'$", text)
    assert set(found) <= orthanc_passwords.EXAMPLES | orthanc_passwords.WELL_KNOWN


def test_the_documentations_passwords_are_refused_where_others_reach_the_server(problems_of):
    refused = []
    for text in documentation.pillars():
        settings = yaml.safe_load(text)["orthanc"]
        if settings.get("remote_access") and "users" in settings:
            problems = problems_of(settings)
            assert len(problems) == len(settings["users"])
            assert all("example of the formula's documentation" in line for line in problems)
            refused += problems
    assert refused


def test_the_refusal_in_the_readme_is_what_the_formula_says():
    (text,) = (text for _, _, text in documentation.section("When a run is refused"))
    device = {"AET": "CT1", "Host": "192.0.2.17", "Port": 70000}
    options = {"HttpPrt": 8043, "DicomModalities": {"ct": device}, "DicomWeb": {"Enable": True}}
    found = orthanc_options.check(options, "1.12.7", plugins=[])
    told = re.findall(r"- orthanc:[\w:]+:(\w+): (.*)", text)
    assert sorted(told) == sorted((path[-1], sentence) for path, sentence in found)


def test_formula_and_documentation_name_the_same_version():
    formula = yaml.safe_load((FORMULA / "FORMULA").read_text())
    name = f"{formula['name']}-{formula['version']}-{formula['release']}.spm"
    assert name in documentation.all_pages()
    assert formula["name"] == formula["top_level_dir"]


def test_the_readme_is_short():
    assert len((FORMULA / "README.md").read_text().splitlines()) <= 170


@pytest.mark.parametrize("page", documentation.PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text())
    for target, anchor in links:
        other = (page.parent / target).resolve() if target else page
        assert other.exists(), f"{target} of {page.name} is not there"
        headings = re.findall(r"(?m)^#+ (.+)$", other.read_text()) if anchor else []
        slugs = {re.sub(r"[^a-z0-9 -]", "", text.lower()).replace(" ", "-") for text in headings}
        assert not anchor or anchor in slugs, f"{target}#{anchor} of {page.name}"


def test_every_page_is_named_in_the_readme():
    text = (FORMULA / "README.md").read_text()
    assert [
        page.name for page in documentation.PAGES[1:] if f"(docs/{page.name})" not in text
    ] == []


def test_no_heading_stands_twice():
    """Examples are found by their heading."""
    headings = re.findall(r"(?m)^#+ (.+)$", documentation.all_pages())
    assert len(set(headings)) == len(headings)
