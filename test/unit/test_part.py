"""What all SLS files have in common, as Salt's own renderer loads it: anew for each of them."""

import pathlib

import pytest
import salt.utils.templates

pytestmark = pytest.mark.each_salt

PART = pathlib.Path(__file__).resolve().parents[2] / "orthanc/part.py"
PILLAR = [{"orthanc_conf": "orthanc-pillar"}]


@pytest.fixture
def part():
    """A function from an SLS to its states; ``made`` says how often settings were made."""

    def make(*_, **__):
        part.made += 1
        return {"settings": {"made": part.made, "list": []}}

    def part(states, run=None, env="base", sls="orthanc.links"):
        salts = {name: {"slsutil.renderer": make} for name in ("__salt__", "salt")}
        loaded = salt.utils.templates.py(str(PART), True, **salts, __env__=env, saltenv=env)
        return loaded["data"]({"states": states, "__sls__": sls, "rendered_sls": run})

    part.made = 0
    return part


def required(states):
    """Return what each state requires, and in which way."""
    return {
        name: [argument for argument in next(iter(state.values())) if "name" not in argument]
        for name, state in states.items()
        if name != "include"
    }


@pytest.mark.parametrize(
    ("sls", "judged"),
    [
        ("orthanc.links", "orthanc.validation"),
        ("orthanc.plugins.unused", "orthanc.validation"),
        ("orthanc.links.clean", "orthanc.validation.clean"),
        ("orthanc.clean", "orthanc.validation.clean"),
    ],
)
def test_what_requires_nothing_requires_the_pillar(part, sls, judged):
    name = {"name": "x"}
    bound = {
        kind: {"test.nop": [name, {kind: [{"test": "free"}]}]}
        for kind in ("require", "watch", "onchanges", "prereq")
    }
    states = part(lambda _: {**bound, "free": {"test.nop": [name]}, "include": ["x"]}, sls=sls)
    assert states["include"] == ["x"]
    assert required(states) == {
        **{kind: [{kind: [{"test": "free"}]}] for kind in bound},
        "free": [{"require": PILLAR}],
    }
    assert part(lambda _: {}, sls=sls) == {"include": [judged]}


def test_the_state_that_judges_the_pillar_requires_nothing(part):
    states = {"orthanc-pillar": {"orthanc_conf.valid": [{"name": "x"}]}}
    assert part(lambda _: states) == {"orthanc-pillar": {"orthanc_conf.valid": [{"name": "x"}]}}


def test_the_settings_are_made_once_in_a_run(part):
    def seen(*arguments):
        found = []
        part(lambda orthanc: found.append(orthanc["settings"]["made"]) or {}, *arguments)
        return found[0]

    first, second = set(), set()
    assert [seen(first), seen(first), seen(second), seen(second)] == [1, 1, 2, 2]
    # One run within another one, as of a state that compiles others; and another environment.
    assert [seen(first), seen(first), seen(first, "prod"), seen(first, "prod")] == [3, 3, 4, 4]
    # Where Salt says nothing of a run, or a text that all runs have in common: state.template.
    assert [seen(None), seen(None), seen(""), seen("")] == [5, 6, 7, 8]


def test_what_one_part_does_with_the_settings_is_no_matter_to_the_others(part):
    run = set()
    part(lambda orthanc: orthanc["settings"]["list"].append(1) or {}, run)
    part(lambda orthanc: orthanc["settings"]["list"].append(orthanc["settings"]["list"]) or {}, run)
    found = []
    part(lambda orthanc: found.append(orthanc["settings"]) or {}, run)
    assert found == [{"made": 1, "list": []}]
