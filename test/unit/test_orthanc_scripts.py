"""Scripts of the administrator: keys of the pillar, what becomes of them, and their texts."""

import re
import subprocess
import sys
import types

import orthanc_conf
import orthanc_files
import orthanc_scripts
import pytest
from hypothesis import given
from hypothesis import strategies as st
from salt.exceptions import SaltInvocationError

LUA = "function OnStoredInstance(id)\nend\n"
PYTHON = "import orthanc\nX = 1\n"
OWN = {"own_files": {"python": "orthanc-formula-python.py"}}
BARE = {"paths": {"config": "/etc/orthanc"}, "config": {}, "system": OWN}
WORD = re.compile("[A-Za-z][A-Za-z0-9_]{0,63}")


@pytest.fixture(scope="module")
def parts(pillar_files):
    return pillar_files["parts"]


def settings(**scripts):
    return {**BARE, "lua_scripts": {}, "python_scripts": {}, **scripts}


def wanted(**scripts):
    return {
        "saltenv": "base",
        "scripts": {
            entry: {"place": f"orthanc:lua_scripts:{entry}", "source": source}
            for entry, source in scripts.items()
        },
    }


@pytest.mark.parametrize(
    "source",
    ["salt://orthanc/a.lua", "/srv/a.lua", "/srv/my scripts/ä.lua", LUA, "\n-- x", '"\u2028"\n'],
)
def test_sources(problems_of, source):
    assert problems_of({"lua_scripts": {"a": source}}) == []


@pytest.mark.parametrize(
    ("scripts", "words"),
    [
        ({"a": "a.lua"}, "lua_scripts:a: must be an absolute path"),
        ({"a": "print(1)"}, "lua_scripts:a: must be an absolute path"),
        ({"a": "/srv/a.lua\n/srv/b.lua"}, "lua_scripts:a: must be an absolute path"),
        ({"a": "salt://"}, "lua_scripts:a: must be an absolute path"),
        ({"a": {"source": "/srv/a.lua"}}, "lua_scripts:a: must be an absolute path"),
        ({"a": None}, "lua_scripts:a: is written, with nothing behind it"),
        (["/srv/a.lua"], "lua_scripts: must be a mapping"),
        *(
            ({name: "/srv/a.lua"}, "must be a name of up to 64 letters, digits and _")
            for name in ("a.lua", "../a", "a/b", "", " ", "1a", "a-b", "ä", "a" * 65, "a\n", "_a")
        ),
    ],
)
def test_what_is_no_script_is_refused(problems_of, scripts, words):
    (problem,) = problems_of({"lua_scripts": scripts})
    assert words in problem
    assert "print" not in problem


def test_a_text_is_no_argument_of_a_state(load_settings):
    given = {"inline": LUA, "file": "/srv/a.lua", "url": "salt://a.lua"}
    found, _ = load_settings({"lua_scripts": given})
    assert found["lua_scripts"] == {
        **given,
        "inline": {"__pillar__": ["orthanc", "lua_scripts", "inline"]},
    }


def test_python_brings_its_package_and_takes_the_one_entry(load_settings, problems_of):
    found, _ = load_settings({"python_scripts": {"a": "/srv/a.py"}})
    assert found["packages"] == ["orthanc", "orthanc-python"]
    assert load_settings({"lua_scripts": {"a": "/srv/a.lua"}})[0]["packages"] == ["orthanc"]
    for own in ("/srv/b.py", None):
        (problem, *_) = problems_of(
            {"python_scripts": {"a": "/srv/a.py"}, "config": {"PythonScript": own}}
        )
        assert problem.startswith("orthanc:config:PythonScript: must not be there together")


@given(st.lists(st.from_regex(WORD, fullmatch=True), unique=True), st.lists(st.text()))
def test_the_order_is_that_of_the_names_and_the_formula_s_come_last(parts, names, own):
    asked = settings(lua_scripts={name: "/x" for name in names})
    value, *origins = parts["lua_layers"](asked, own, ["/filter"])
    paths = [f"/etc/orthanc/formula-script-{name}.lua" for name in sorted(names)]
    assert value["value"] == [*own, *paths, "/filter"]
    for origin in origins:
        _, number = origin["option"]
        assert value["value"][int(number)].endswith(f"-{origin['origin'].split(':')[-1]}.lua")
    assert len(origins) == len(names)
    # Each has a file of its own, also where a script in Python has its name.
    both = settings(lua_scripts=asked["lua_scripts"], python_scripts=asked["lua_scripts"])
    files = parts["scripts"](both)
    assert len(files) == 2 * len(names)
    assert all(orthanc_scripts.NAME.fullmatch(entry) for entry in files)
    assert all(entry.startswith(orthanc_files.SCRIPTS) for entry in files)
    assert not any(orthanc_files.is_own_name(entry) for entry in files)


def test_nothing_asked_for_is_nothing(parts):
    assert parts["lua_layers"](settings(), [], []) == []
    assert parts["script_options"](settings()) == []
    assert parts["python_script"](settings()) is None
    assert parts["scripts"](settings()) == {}


def run_python(folder, parts, scripts):
    """Run the formula's script as the plugin does, and return what came of it."""
    for name, text in scripts.items():
        (folder / f"formula-script-{name}.py").write_text(text)
    (folder / "main.py").write_text(parts["python_script"](settings(python_scripts=scripts)))
    words = [sys.executable, "-c", f"import sys; sys.path.append({str(folder)!r}); import main"]
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd="/")


def test_a_script_that_does_not_end_is_named(tmp_path, parts):
    scripts = {
        "a": "X = 1\n",
        "b": "import wait\n",
        "wait": "import time\n\n\ndef w():\n    time.sleep(3)\n\n\nw()\n",
    }
    hasty = {**parts, "python_script": lambda s: parts["python_script"](s).replace("(40,", "(1,")}
    done = run_python(tmp_path, hasty, scripts)
    said = orthanc_scripts.hanging(done.stderr.splitlines())
    assert said == "orthanc:python_scripts:wait: line 5 does not end"
    assert "sleep" not in done.stderr
    assert done.returncode == 0
    assert run_python(tmp_path, hasty, {"a": "X = 1\n"}).stderr == ""
    assert orthanc_scripts.hanging(["E0101 failed", "  File x"]) == ""


def test_scripts_in_python_run_by_their_names(tmp_path, parts):
    scripts = {
        "b": "import helper\nprint('b', helper.X)\n",
        "a": "print('a')\n",
        "helper": "print('helper')\nX = 1\n",
        "x9": "from b import helper\nprint(helper.X)\n",
    }
    done = run_python(tmp_path, parts, scripts)
    assert done.stdout.split("\n") == ["a", "helper", "b 1", "1", ""], done.stderr


@pytest.mark.parametrize(
    ("scripts", "words"),
    [
        ({"a": "x = 1\nx = = 'secret'\n"}, "a: line 2 SyntaxError: invalid syntax"),
        ({"a": "\ndef f():\n  g('secret')\ndef g(x):\n  x.y\nf()\n"}, "a: line 5 AttributeError"),
        ({"a": "import b\n", "b": "\n\n1 / 0\n"}, "a: line 3 ZeroDivisionError"),
        ({"a": "import none\n"}, "a: line 1 ModuleNotFoundError: No module named 'none'"),
        ({"a": "raise SystemExit('secret'[:0])\n"}, "a: line 1 SystemExit"),
        ({"json": "X = 1\n"}, "json: Python has a module of this name"),
        ({"sys": "X = 1\n"}, "sys: Python has a module of this name"),
        ({"main": "X = 1\n"}, "main: Python has a module of this name"),
    ],
)
def test_what_fails_in_python_is_said_with_its_line(tmp_path, parts, scripts, words):
    done = run_python(tmp_path, parts, scripts)
    assert done.returncode
    assert f"ImportError: orthanc:python_scripts:{words}" in done.stderr
    assert "secret" not in done.stderr


def test_texts_are_copied_to_the_byte_and_what_left_the_pillar_goes(tmp_path):
    source = tmp_path / "a.lua"
    source.write_bytes("-- ä\r\nx = 1\r\n".encode())
    folder = tmp_path / "etc"
    assert orthanc_scripts.texts(str(folder), wanted()) == {}
    folder.mkdir()
    for entry in ("formula-script-gone.lua", "formula-script-gone.py", "formula-script-a.lua"):
        (folder / entry).write_text("old")
    for entry in ("formula-script-a.txt", "own.lua", "formula-script-a.lua.bak", "a.json"):
        (folder / entry).write_text("of somebody else")
    found = orthanc_scripts.texts(str(folder), wanted(**{"formula-script-a.lua": str(source)}))
    assert found == {
        "formula-script-gone.lua": None,
        "formula-script-gone.py": None,
        "formula-script-a.lua": "-- ä\r\nx = 1\r\n",
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b" \n\t\n", "is empty"),
        (b"\x1bLua\x54\0\x19", "is no text"),
        (b"x = 1\n-- \xe4rztlich\n", "is no text in UTF-8 (line 2); convert it"),
        (None, "there is no file"),
    ],
)
def test_a_file_that_is_no_script(tmp_path, content, words):
    path = tmp_path / "a.lua"
    if content is not None:
        path.write_bytes(content)
    spec = wanted(**{"formula-script-a.lua": str(path)})
    (problem,) = orthanc_scripts.judge(spec)
    assert problem.startswith("orthanc:lua_scripts:formula-script-a.lua: ")
    assert words in problem
    with pytest.raises(SaltInvocationError, match="orthanc:lua_scripts"):
        orthanc_scripts.texts(str(tmp_path), spec)


@pytest.mark.parametrize("path", ["/dev/zero", "/etc", "/proc/self/mem/x"])
def test_what_never_ends_or_is_no_file_is_not_read(path):
    (problem,) = orthanc_scripts.judge(wanted(**{"formula-script-a.lua": path}))
    assert "there is no file" in problem


@pytest.mark.parametrize(("text", "same"), [("-- as it is\n", True), ("-- another\n", False)])
def test_what_the_server_has_is_told_from_what_is_to_come(tmp_path, monkeypatch, text, same):
    """Two scripts with one callback are refused unless the server runs with them already."""
    entry = "formula-script-a.lua"
    (tmp_path / entry).write_text("-- as it is\n")
    options = {"LuaScripts": [f"{tmp_path}/{entry}", "/etc/orthanc/orthanc-formula-users.lua"]}
    case = types.SimpleNamespace(
        name=str(tmp_path),
        before={"LuaScripts": options["LuaScripts"][:1]},
        options=options,
        texts=lambda entries: orthanc_files.at(str(tmp_path), entries),
    )
    monkeypatch.setitem(orthanc_conf.__salt__, "orthanc_proof.changed_files", lambda name: [])
    assert orthanc_conf._same_scripts(case, {entry: text}) is same
    case.before = {"LuaScripts": []}
    assert orthanc_conf._same_scripts(case, {entry: text}) is False
