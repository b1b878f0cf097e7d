"""
Scripts of the administrator: what the pillar may say of them, in the language of
``orthanc_shapes``, kinds for ``pillar.py``; and what options and files become of them, for
``options.py``.

Those in Lua share one context, and Orthanc loads one after the other. The plugin for Python takes
one script: one of the formula's own, which runs them.
"""

from __future__ import annotations

# The keys of the pillar, with the endings of the files; and how a file is called in the folder of
# the configuration. Also SCRIPTS of orthanc_files and NAME of orthanc_scripts.
LANGUAGES = {"lua_scripts": "lua", "python_scripts": "py"}
NAME = "formula-script-{}.{}"
KINDS = {
    "scripts": {"names": "name of a script", "each": "script"},
    "name of a script": {
        "wanted": "a name of up to 64 letters, digits and _ that begins with a letter",
        "type": "string",
        "pattern": "[A-Za-z][A-Za-z0-9_]{0,63}",
    },
    "script": {
        "wanted": "an absolute path on the host, a salt:// URL, or the text of a script, which is"
        " more than one line",
        "type": "string",
        "pattern": r"/[^\0\n]+|salt://[^\0\n]+|(?!/|salt://)[\s\S]*\n[\s\S]*",
        "secret": "unless a place",
    },
}
# Python's own modules come first, so that no script takes the place of one.
PYTHON = """\
# Managed by Salt
# The plugin runs one script: this one runs those of orthanc:python_scripts in the order of their
# names, in which each is a module that the others may import.
import faulthandler
import importlib.util
import os
import sys
import traceback

FOLDER = os.path.dirname(os.path.abspath(__file__))
SCRIPTS = {
{rows}}


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in SCRIPTS:
            return importlib.util.spec_from_file_location(name, SCRIPTS[name])


def why_not(name, path):
    try:
        module = importlib.import_module(name)
    except BaseException as err:
        # Without the lines themselves, which may hold a secret.
        steps = traceback.extract_tb(err.__traceback__)
        places = [(step.filename, step.lineno) for step in steps]
        if isinstance(err, SyntaxError):
            places.append((err.filename, err.lineno))
        lines = ["line {}".format(line) for script, line in places if script in SCRIPTS.values()]
        return " ".join([*lines[-1:], "{}: {}".format(type(err).__name__, err)])
    if getattr(module, "__file__", None) != path:
        return "Python has a module of this name, which would be taken; choose another name"


sys.meta_path.append(Finder)
# One that does not come to its end is named before the trial start gives it up.
faulthandler.dump_traceback_later(40, file=2)
for name, path in SCRIPTS.items():
    reason = why_not(name, path)
    if reason:
        raise ImportError("orthanc:python_scripts:{}: {}".format(name, reason))
faulthandler.cancel_dump_traceback_later()
"""


def run() -> dict:
    functions = (check_scripts, lua_layers, python_script, script_options, scripts)
    return {"KINDS": KINDS, **{function.__name__: function for function in functions}}


def check_scripts(settings: dict) -> list[str]:
    """Return what does not go together with the scripts."""
    if not settings["python_scripts"] or "PythonScript" not in settings["config"]:
        return []
    return [
        "orthanc:config:PythonScript: must not be there together with orthanc:python_scripts; put"
        " this script among those"
    ]


def files(settings: dict, key: str) -> dict:
    """Return the names of the files of scripts, by the names that the scripts have in the pillar,
    in the order in which they are loaded.
    """
    return {name: NAME.format(name, LANGUAGES[key]) for name in sorted(settings[key])}


def scripts(settings: dict) -> dict:
    """Return what ``orthanc_scripts`` needs of each script, by the name of its file."""
    return {
        entry: {"place": f"orthanc:{key}:{name}", "source": settings[key][name]}
        for key in LANGUAGES
        for name, entry in files(settings, key).items()
    }


def lua_layers(settings: dict, before: list, behind: list) -> list[dict]:
    """
    Return the layers that tell Orthanc of the scripts in Lua.

    before, behind
        The paths of other scripts.
    """
    own, folder = files(settings, "lua_scripts"), settings["paths"]["config"]
    paths = [f"{folder}/{entry}" for entry in own.values()]
    if not (paths or behind):
        return []
    return [
        {"option": ["LuaScripts"], "value": [*before, *paths, *behind]},
        *(
            {"option": ["LuaScripts", str(number)], "origin": f"orthanc:lua_scripts:{name}"}
            for number, name in enumerate(own, start=len(before))
        ),
    ]


def python_script(settings: dict) -> str | None:
    """Return the script that runs those in Python; None where there are none."""
    rows = [
        f'    "{name}": os.path.join(FOLDER, "{entry}"),\n'
        for name, entry in files(settings, "python_scripts").items()
    ]
    return PYTHON.replace("{rows}", "".join(rows)) if rows else None


def script_options(settings: dict) -> list[tuple]:
    """Return rows of option, value and key of the pillar, as ``options.py`` makes layers of."""
    if not settings["python_scripts"]:
        return []
    own = settings["system"]["own_files"]["python"]
    return [("PythonScript", f"{settings['paths']['config']}/{own}", "python_scripts")]
