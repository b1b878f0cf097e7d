"""The formula's data, without Salt."""

import importlib
import pathlib

import orthanc_judge
import orthanc_pillar
import pytest
import yaml

FORMULA = pathlib.Path(__file__).resolve().parents[2]
# The execution modules call each other as Salt lets them.
MODULES = [
    importlib.import_module(path.stem) for path in sorted((FORMULA / "_modules").glob("*.py"))
]
FUNCTIONS = {
    f"{getattr(module, '__virtualname__', module.__name__)}.{name}": getattr(module, name)
    for module in MODULES
    for name in dir(module)
    if not name.startswith("_")
}
for module in MODULES:
    module.__salt__ = FUNCTIONS
    module.__context__ = {}
    module.__opts__ = {"file_client": "local"}
    module.__pillar__ = {}
    module.__grains__ = {}


@pytest.fixture(scope="session")
def read_yaml():
    """A function that reads a YAML file of the formula."""
    return lambda name: yaml.safe_load((FORMULA / "orthanc" / name).read_text())


@pytest.fixture(params=["Debian", "Suse"])
def load_settings(request, load_pillar, read_yaml):
    """``map.load`` for one OS family: a function from pillar to (settings, problems)."""

    def load_for(pillar, booted=True):
        osmap, defaults = read_yaml(f"osfamily/{request.param}.yaml"), read_yaml("defaults.yaml")
        return load_pillar(pillar, osmap, defaults, booted)

    return load_for


@pytest.fixture
def problems_of(load_settings, options_file, pillar_files, read_yaml):
    """A function that returns all problems of a pillar on a host without Orthanc."""

    def problems_of(pillar):
        settings, problems = load_settings(pillar)
        if settings:
            arguments = options_file.configuration(
                settings, read_yaml("roles.yaml"), pillar_files["tables"]["DEMO_USERS"]
            )
            arguments = orthanc_pillar._resolve(arguments, {"orthanc": pillar})
            # Nothing of a host: its programs, its files.
            arguments.update(command=None, certificates={}, pems={}, scripts={})
            case = orthanc_judge.case("/etc/orthanc", arguments, host=False)
            problems = problems + orthanc_judge.judge(case)["problems"]
        return problems

    return problems_of


@pytest.fixture(scope="session", params=["Debian", "Suse"])
def formula(request, load_file, read_file, read_yaml):
    """What ``orthanc/map.py`` gives on a host of one OS family."""
    module = load_file("orthanc/map.py")

    def render(path, default_renderer, saltenv, **values):
        name = path.removeprefix("salt://")
        if default_renderer == "jinja":
            return "-- of a template"
        if default_renderer == "yaml":
            return read_yaml(name.removeprefix("orthanc/"))
        return read_file(name, __salt__=module.__salt__, __env__="base", **values)

    module.__salt__ = {"slsutil.renderer": render, "orthanc_files.changes": None}
    module.__env__, module.__pillar__ = "base", {}
    module.__grains__ = {"os_family": request.param, "init": "systemd", "id": "pacs"}
    return module.run()
