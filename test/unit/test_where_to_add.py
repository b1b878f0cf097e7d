"""What docs/architecture.md says of where to add something, done on a copy."""

import importlib.machinery
import importlib.util
import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

FORMULA = pathlib.Path(__file__).resolve().parents[2]
WHERE = (FORMULA / "docs/architecture.md").read_text().partition("## Where to add")[2]
TABLES = "_modules/orthanc_tables.py"
# Where to add, by what the documentation calls it: the table, its file, and how it begins.
ROWS = {
    "a key of the pillar": ("SHAPE", "orthanc/pillar.py", '\nSHAPE = {\n    "keys": {\n'),
    "an option of Orthanc": ("OPTIONS", TABLES, "\nOPTIONS = {\n"),
    "a section of a plugin": ("SECTIONS", TABLES, "\nSECTIONS = {\n"),
}
ADDED = {
    "a key of the pillar": '        "brand_new": {"kind": "count", "maximum": 9},\n',
    "an option of Orthanc": '    "BrandNew": {"kind": "flag", "since": "1.12.7"},\n',
    "a section of a plugin": '    "BrandNewer": {"library": ["OrthancBrandNewer"], "package": "",'
    ' "keys": {"Enable": "flag", "Speed": {"kind": "count", "since": "2.0"}}},\n',
}
EXAMPLE = ("\n  port: 8042", "\n  port: 8042\n  # How new it is.\n  # brand_new: 3")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the formula with one row more in each table, and a line in pillar.example."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("_modules", "orthanc", "metadata"):
        shutil.copytree(FORMULA / name, folder / name)
    (folder / "test").mkdir()
    shutil.copy(FORMULA / "test/pillar_schema.py", folder / "test")
    edits = [(name, before, before + ADDED[what]) for what, (_, name, before) in ROWS.items()]
    shutil.copy(FORMULA / "pillar.example", folder)
    for name, before, after in [*edits, ("pillar.example", *EXAMPLE)]:
        text = (folder / name).read_text()
        assert text.count(before) == 1, (name, before)
        (folder / name).write_text(text.replace(before, after))
    return folder


@pytest.fixture(scope="module")
def modules(copy):
    """Its execution modules, which call each other as Salt lets them."""
    functions = {}
    for path in sorted((copy / "_modules").glob("*.py")):
        module = load(path)
        module.__salt__, module.__grains__ = functions, {}
        names = [name for name in dir(module) if not name.startswith("_")]
        functions.update({f"{path.stem}.{name}": getattr(module, name) for name in names})
    return functions


def load(path):
    loader = importlib.machinery.SourceFileLoader(f"copy_{path.stem}", str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


@pytest.mark.parametrize("what", ROWS)
def test_the_documentation_names_the_table(what):
    table, name, _ = ROWS[what]
    (line,) = re.findall(rf"(?m)^\| {what} \| (.*) \|$", WHERE)
    assert f"`{table}` in `{name}`" in line


def test_an_option_is_one_row(modules):
    check = modules["orthanc_options.check"]
    assert check({"BrandNew": True}, "1.12.7") == []
    ((path, sentence),) = check({"BrandNew": 1}, "1.12.7")
    assert (path, sentence) == (["BrandNew"], "must be true or false, but is 1")
    ((_, sentence),) = check({"BrandNew": True}, "1.12.6")
    assert sentence == "needs Orthanc 1.12.7, this host has 1.12.6; take it out"
    ((_, sentence),) = check({"brandnew": True})
    assert "it is spelt BrandNew" in sentence


def test_a_section_is_one_row(modules):
    check, section = modules["orthanc_options.check"], {"Enable": True, "Speed": 2}
    assert check({"BrandNewer": section}, plugins=["libOrthancBrandNewer.so.2.0"]) == []
    for loaded, end in (
        (["libOrthancBrandNewer.so.1.9"], "this host has 1.9; take it out"),
        ([], "name a download of libOrthancBrandNewer.so in orthanc:plugins"),
    ):
        ((path, sentence),) = check({"BrandNewer": section}, plugins=loaded)
        assert path[0] == "BrandNewer"
        assert sentence.endswith(end)
    assert modules["orthanc_options.libraries"]({"BrandNewer": section}) == ["OrthancBrandNewer"]


def test_a_key_of_the_pillar_is_one_row_and_a_line_of_the_example(copy, read_yaml):
    def read(name, **values):
        module = load(copy / name)
        vars(module).update(values)
        return module.run()

    map_file = load(copy / "orthanc/map.py")
    files = map_file.load_files(read)
    layers = [read_yaml("defaults.yaml"), read_yaml("osfamily/Debian.yaml")]
    host = {"booted": True, "names": []}

    def loaded(pillar):
        return map_file.load(pillar, layers, host, files)

    settings, problems = loaded({"brand_new": 3})
    assert problems == []
    assert settings["brand_new"] == 3
    assert loaded({"brand_new": 10})[1] == [
        "orthanc:brand_new: must be a whole number from 0 to 9, but is a number: 10"
    ]
    assert loaded({"brand_nw": 3})[1] == [
        "orthanc:brand_nw: unknown key; the nearest known key is orthanc:brand_new"
    ]
    # Then schema and form are made anew.
    subprocess.run([sys.executable, "test/pillar_schema.py"], cwd=copy, check=True)
    schema = json.loads((copy / "orthanc/pillar.schema.json").read_text())
    assert schema["properties"]["orthanc"]["properties"]["brand_new"] == {
        "description": "How new it is.",
        **{"type": "integer", "minimum": 0, "maximum": 9},
    }
