"""The modules stand on floors, and show people what is for them."""

import ast
import importlib
import inspect
import pathlib
import re

import orthanc_files
import orthanc_tls
import pytest

FORMULA = pathlib.Path(__file__).resolve().parents[2]
MODULES = {path.stem: path.read_text() for path in sorted((FORMULA / "_modules").glob("*.py"))}
SOURCES = {
    path.relative_to(FORMULA).as_posix(): path.read_text()
    for folder in ("_modules", "_states", "orthanc")
    for suffix in ("*.py", "*.sls")
    for path in sorted((FORMULA / folder).rglob(suffix))
}
PAGES = {
    path.relative_to(FORMULA).as_posix(): path.read_text()
    for pattern in ("*.md", "docs/*.md", "pillar.example", "orthanc/*.sh")
    for path in sorted(FORMULA.glob(pattern))
}
ARCHITECTURE = PAGES["docs/architecture.md"]
CALL = re.compile(r"""__salt__\[\s*["'](orthanc\w*)\.(\w+)""")
# What people call; all else is part of the formula.
PEOPLE = {
    "orthanc": {
        *("access", "answers", "backend", "backup", "backup_key", "backups", "errors", "health"),
        "security",
        *("drained", "drill", "move_index", "nagios", "repair", "restart"),
        *("restore", "retention", "routes", "try_upgrade", "verify"),
        *(
            "card",
            "check_network",
            "echo",
            "jobs",
            "log",
            "map",
            "modalities",
            "peers",
            "plugins",
            "statistics",
            "system",
        ),
    },
    "orthanc_conf": {
        "diff",
        "effective",
        "from_role",
        "options",
        "restore",
        "to_pillar",
        "validate",
    },
    "orthanc_pillar_file": {"check"},
    "orthanc_restore": {"settings"},
}
TABLES = ("orthanc_tables",)
# What follows a command of Salt's, up to the first name with a point in it.
COMMAND = re.compile(r"\bsalt(?:-call|-ssh)?(?: [^\s.`]+)* (orthanc\w*)\.(\w+)")
NAME = re.compile(r"\b(orthanc\w*)\.([a-z]\w*)")


def floors():
    """Return the floor of each module, as the documentation has it."""
    rows = re.findall(r"(?m)^\| (\d+) \| `(\w+)` \|", ARCHITECTURE)
    return {module: int(floor) for floor, module in rows}


def functions(source):
    return [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]


def texts(source):
    """Return the texts in a source that are no docstrings."""
    nodes = list(ast.walk(ast.parse(source)))
    docs = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    constants = [node for node in nodes if isinstance(node, ast.Constant) and id(node) not in docs]
    return [node.value for node in constants if isinstance(node.value, str)]


def offered(module):
    """Return what Salt offers of a file, as pairs of the name that it has there and its text."""
    loaded = importlib.import_module(module)
    # Salt makes one module of several files that say so.
    known = getattr(loaded, "__virtualname__", module)
    return [
        ((known, node.name), inspect.getdoc(getattr(loaded, node.name)) or "")
        for node in functions(MODULES[module])
        if not node.name.startswith("_")
        # Some say what of them Salt is to offer.
        and node.name in getattr(loaded, "__load__", [node.name])
    ]


OFFERED = [one for module in MODULES for one in offered(module)]
PUBLIC = dict(OFFERED)
# A page may mean the state of a name.
STATES = {
    (pathlib.Path(path).stem, node.name)
    for path, source in SOURCES.items()
    if path.startswith("_states/")
    for node in functions(source)
}


def test_the_documentation_knows_each_module():
    assert floors().keys() == MODULES.keys()


@pytest.mark.parametrize("module", MODULES)
def test_a_module_calls_only_modules_below_it(module):
    called = {name for name, _ in CALL.findall(MODULES[module])} - {module}
    here = floors()
    assert {name: here[name] for name in called if here[name] >= here[module]} == {}


def test_each_function_is_in_one_file():
    assert len(OFFERED) == len(PUBLIC)
    people = {(module, name) for module, names in PEOPLE.items() for name in names}
    assert people <= PUBLIC.keys()


def test_what_is_called_is_there():
    called = {call for source in SOURCES.values() for call in CALL.findall(source)}
    aliases = {("orthanc_first_run", "open"): ("orthanc_first_run", "open_")}
    missing = {aliases.get(call, call) for call in called} - set(PUBLIC)
    assert missing == set()


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_people_are_shown_what_is_for_them(module, name):
    doc = PUBLIC[module, name]
    if name in PEOPLE.get(module, ()):
        assert ("CLI Example:" in doc) != ("No example, because it " in doc)
        assert "Part of the formula" not in doc
    else:
        assert doc.startswith("Part of the formula")
        assert "CLI Example:" not in doc


@pytest.mark.parametrize("path", [*PAGES, *SOURCES])
def test_people_are_sent_to_what_is_for_them(path):
    named = set(COMMAND.findall({**SOURCES, **PAGES}[path]))
    if path in PAGES:
        named |= {one for one in NAME.findall(PAGES[path]) if one in PUBLIC and one not in STATES}
    assert {(module, name) for module, name in named if name not in PEOPLE.get(module, ())} == set()


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_no_function_is_there_for_nobody(module, name):
    if name in PEOPLE.get(module, ()):
        return
    # Through Salt, by its own module, or by the state of its name.
    called = re.compile(rf"""["']{module}\.{name.rstrip("_")}["']""")
    nodes = ast.walk(ast.parse(MODULES[module]))
    by_itself = any(isinstance(node, ast.Name) and node.id == name for node in nodes)
    by_state = f'"{name}"' in SOURCES.get(f"_states/{module}.py", "")
    assert by_itself or by_state or any(map(called.search, SOURCES.values()))


@pytest.mark.parametrize("path", SOURCES)
def test_a_file_holds_one_room(path):
    if pathlib.Path(path).stem not in TABLES:
        assert SOURCES[path].count("\n") <= 500


def test_what_the_names_of_own_files_begin_with_stands_in_one_place(read_yaml):
    """Here, and one for the SLS files; a certificate that is on a host stays as it is."""
    own = read_yaml("defaults.yaml")["system"]["own"]
    found = [text for source in SOURCES.values() for text in texts(source) if own in text]
    assert found == [orthanc_files.OWN, orthanc_tls.MAKER]
    assert own == orthanc_files.OWN


@pytest.mark.parametrize("path", SOURCES)
def test_what_belongs_together_travels_together(path):
    for node in ast.walk(ast.parse(SOURCES[path])):
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            assert len([one for one in given if one.arg != "self"]) <= 6
