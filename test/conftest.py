"""What all layers share: each test carries the name of its layer as a mark."""

import importlib.machinery
import importlib.util
import os
import pathlib
import sys

import hypothesis
import pytest

# A machine that is busy booting hosts is no reason for a test to fail, nor is chance.
hypothesis.settings.register_profile(
    "formula",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("formula")

HERE = pathlib.Path(__file__).parent
FORMULA = HERE.parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE), str(FORMULA / "_modules"), str(FORMULA / "_states")]


PROVEN = []


def pytest_addoption(parser):
    parser.addoption(
        "--write-matrix", action="store_true", help="write what was proven where into docs/tests.md"
    )


def pytest_runtest_logreport(report):
    if report.when == "call" and report.passed:
        PROVEN.extend(value for name, value in report.user_properties if name == "proven")


def pytest_sessionfinish(session, exitstatus):
    """Hold docs/tests.md against what this run proved, if it was a run of all there is."""
    import matrix

    config = session.config
    selected = config.getoption("keyword") or config.getoption("markexpr")
    whole = HERE / "host" in [pathlib.Path(arg).resolve() for arg in config.args]
    if config.option.collectonly or hasattr(config, "workerinput") or exitstatus:
        return
    if selected or not whole:
        return
    if not PROVEN and not os.environ.get("CI"):
        # All was skipped: this machine cannot boot hosts.
        return
    text = matrix.table(PROVEN)
    if config.getoption("--write-matrix"):
        matrix.write(text)
    elif matrix.without_versions(text) != matrix.without_versions(matrix.written()):
        print(f"\nThe table of docs/tests.md differs from this run:\n{text}")
        session.exitstatus = 1


# Files of tests that take minutes; begun first, they do not keep one worker alone at the end.
LONGEST = (
    *("test_postgresql", "test_the_same_everywhere", "test_commands", "test_no_secret_leaks"),
    *("test_backup", "test_https", "test_plugins", "test_preflight", "test_https_under_way"),
    *("test_salt_ssh", "test_hardening", "test_https_changes", "test_upgrade", "test_retention"),
    *("test_move_index", "test_cluster", "test_dicom_tls", "test_health", "test_backup_key"),
    *("test_serving", "test_options", "test_network", "test_sites", "test_wrong_pillars"),
    *("test_access", "test_interrupted", "test_refusals", "test_routes", "test_role"),
    *("test_full_disks", "test_load", "test_images"),
)


def pytest_collection_modifyitems(items):
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(pathlib.Path(item.fspath).stem, len(place)))
    for item in items:
        layer = pathlib.Path(item.fspath).relative_to(HERE).parts[0]
        item.add_marker(getattr(pytest.mark, layer))


@pytest.fixture(scope="session")
def salt_version():
    """The Salt that the test hosts get."""
    import ways

    return os.environ.get("SALT_VERSION", ways.NEWEST)


def load(name):
    """Load a Python file of the formula that Salt loads in a way of its own."""
    path = FORMULA / name
    loader = importlib.machinery.SourceFileLoader(path.stem, str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(path.stem, loader))
    loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def state_module():
    """A function that gives a module of the formula's states: the execution modules have the
    same names.
    """
    return lambda name: load(f"_states/{name}.py")


def read(name, **values):
    """Return what a Python file of the SLS side gives, as ``slsutil.renderer`` does."""
    module = load(name)
    vars(module).update(values)
    return module.run()


@pytest.fixture(scope="session")
def load_file():
    """``load``."""
    return load


@pytest.fixture(scope="session")
def read_file():
    """``read``."""
    return read


@pytest.fixture(scope="session")
def map_file():
    """``orthanc/map.py``."""
    return load("orthanc/map.py")


@pytest.fixture(scope="session")
def pillar_files(map_file):
    """The files that ``orthanc/map.py`` loads, by their names there."""
    return map_file.load_files(read)


@pytest.fixture(scope="session")
def load_pillar(map_file, pillar_files):
    """``map.load``: from pillar, map file and defaults to (settings, problems)."""

    def load_pillar(pillar, osmap, defaults, booted=True):
        host = {"booted": booted, "names": [], "id": "node-1"}
        return map_file.load(pillar, [defaults, osmap], host, pillar_files)

    return load_pillar


@pytest.fixture(scope="session")
def options_file(pillar_files):
    """``orthanc/options.py``, with texts that are no matter in the place of those of templates."""
    module = load("orthanc/options.py")
    module.__salt__ = {"slsutil.renderer": lambda *_, **__: "-- of a template"}
    module.__env__ = "base"
    vars(module).update(pillar_files["parts"], **read("orthanc/lua_filter.py"))
    module.lua_filter = module.reserve_filter = lambda *_: "-- of a template"
    module.access_filter = lambda asked, *_: "-- of a template" if asked else None
    return module
