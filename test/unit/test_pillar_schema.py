"""The schema of the pillar and Uyuni's form: current, and of one mind with the formula."""

import documentation
import jsonschema
import pillar_schema
import pytest
import wrong_settings
import yaml
from hypothesis import given
from hypothesis import strategies as st

PILLAR = pillar_schema.Pillar()
IS_ORIGIN = pillar_schema.read("_modules/orthanc_shapes.py")["is_origin"]
FORMATS = jsonschema.FormatChecker(formats=())
FORMATS.checks("origin")(lambda text: not isinstance(text, str) or IS_ORIGIN(text))
VALIDATOR = jsonschema.Draft7Validator(PILLAR.schema(), format_checker=FORMATS)
EXAMPLE = (documentation.FORMULA / "pillar.example").read_text()
KEYS = [*PILLAR.tables["SHAPE"]["keys"], "enabled", "aet", "cors", "x"]
VALUES = st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["/x", "admin"])


@pytest.mark.parametrize("path", pillar_schema.texts(), ids=lambda path: path.name)
def test_the_files_are_current(path):
    assert path.read_text() == pillar_schema.texts()[path], "call python3 test/pillar_schema.py"


def test_the_schema_is_one():
    jsonschema.Draft7Validator.check_schema(PILLAR.schema())


@pytest.mark.parametrize("text", [*documentation.pillars(), EXAMPLE])
def test_every_pillar_of_the_documentation_is_valid(text):
    assert list(VALIDATOR.iter_errors(yaml.safe_load(text))) == []


@pytest.mark.parametrize("row", wrong_settings.WRONG_PILLARS, ids=lambda row: row.path)
def test_a_pillar_is_refused_where_its_shape_shows_it(pillar_files, row):
    problems = pillar_files["reader"]["mistakes"](row.pillar)
    assert bool(problems) is not VALIDATOR.is_valid({"orthanc": row.pillar}), problems


def test_null_takes_out_what_the_formula_has_put_there(pillar_files):
    for option in ("MaximumConnectionRetries", "ConnectionRetryInterval", "Password"):
        pillar = {"config": {"PostgreSQL": {option: None}}}
        assert VALIDATOR.is_valid({"orthanc": pillar}) is (option != "Password")
        assert bool(pillar_files["reader"]["mistakes"](pillar)) is (option == "Password")


@given(
    st.recursive(
        VALUES,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner),
    )
)
def test_formula_and_schema_agree_on_any_pillar(pillar_files, pillar):
    problems = pillar_files["reader"]["mistakes"](pillar)
    assert bool(problems) is not VALIDATOR.is_valid({"orthanc": pillar}), problems


def keys(schema, path="orthanc"):
    """Return each key that a schema lists, with its own schema."""
    found = [(f"{path}:{key}", below) for key, below in schema.get("properties", {}).items()]
    inside = [schema[word] for word in ("items", "additionalProperties") if schema.get(word)]
    below = [*found, *((path, each) for each in inside)]
    return found + [pair for place, each in below for pair in keys(each, place)]


def test_every_key_has_a_description_and_what_it_must_be():
    found = keys(PILLAR.schema()["properties"]["orthanc"])
    # Options are judged on the host.
    found = [pair for pair in found if not pair[0].startswith("orthanc:config:")]
    assert len(found) > 60
    assert [path for path, schema in found if not schema.get("description")] == []
    assert [path for path, schema in found if not {"type", "enum", "anyOf"} & schema.keys()] == []


def test_a_description_is_no_value_of_an_example_and_keeps_its_lines():
    found = dict(keys(PILLAR.schema()["properties"]["orthanc"]))
    told = {
        path: schema["description"] for path, schema in found.items() if "description" in schema
    }
    assert [path for path, text in told.items() if text[0] in "#-" or "BEGIN" in text] == []
    assert "any rest of it\nWithout any user" in told["orthanc:users"]


def fields(form, path=()):
    """Return each field of a form, with its path."""
    for key, below in form.items():
        if isinstance(below, dict) and not key.startswith("$"):
            yield (*path, key), below
            yield from fields(below, (*path, key))


def test_a_form_as_it_comes_gives_a_pillar_that_is_accepted(problems_of):
    pillar: dict = {}
    for path, field in fields(PILLAR.form()["orthanc"]):
        if "$default" in field:
            inner = pillar
            for key in path[:-1]:
                inner = inner.setdefault(key, {})
            inner[path[-1]] = field["$default"]
        else:
            # Otherwise an empty field is sent as null.
            assert field.get("$optional") or field["$type"] in ("group", "edit-group"), path
    assert problems_of(pillar) == []


def test_a_form_asks_for_keys_of_the_pillar_alone():
    for path, field in fields(PILLAR.form()["orthanc"]):
        assert PILLAR.is_key(path), path
        assert field["$name"], path
        assert field["$type"] == "group" or field["$help"], path
    filled = {
        "users": {"anna": {"password": "a long one of mine", "role": "admin"}},
        "modalities": {"ct": {"AET": "CT", "Host": "192.0.2.1", "Port": 104}},
    }
    for group, entries in filled.items():
        prototype = PILLAR.form()["orthanc"][group]["$prototype"]
        asked = {key for key in prototype if not key.startswith("$")}
        assert [set(entry) for entry in entries.values()] == [asked]
    assert VALIDATOR.is_valid({"orthanc": filled})
