"""Which plugins of the packages' folder Orthanc is told to load."""

import orthanc_options
import orthanc_plugins as engine
import orthanc_tables
import pytest

pytestmark = pytest.mark.each_salt

PLUGIN = b"\x7fELF\0OrthancPluginInitialize\0"
OWNED = (
    *("libHousekeeper.so", "libModalityWorklists.so", "libOrthancDicomWeb.so"),
    *("libOrthancMySQLIndex.so", "libOrthancMySQLStorage.so", "libServeFolders.so"),
)
ALL = ("libMine.so", *OWNED)


@pytest.fixture(params=["Debian", "Suse"])
def folder(request, tmp_path, monkeypatch):
    """A folder of plugins, all but one of which packages brought."""
    for name in ALL:
        (tmp_path / name).write_bytes(PLUGIN + name.encode())

    def ask(words, **_):
        *_, command = [word for word in words if word.startswith(("dpkg", "rpm"))]
        paths = [word for word in words if word.startswith("/")]
        owned = [path for path in paths if path.rpartition("/")[2] in OWNED]
        if command == "rpm":
            return "\n".join("orthanc-x" if path in owned else f"{path} is of no" for path in paths)
        return "\n".join(f"orthanc-x: {path}" for path in owned)

    monkeypatch.setattr(engine, "__grains__", {"os_family": request.param}, raising=False)
    monkeypatch.setitem(engine.__salt__, "cmd.run_stdout", ask)
    return tmp_path


def choose(folder, *arguments, **more):
    """Return the names of the files to load, and of those that are there for nothing."""
    found = engine.choose(str(folder), *arguments, **more)
    load = [path.replace(f"{folder}/", "") for path in found["load"]]
    return load, {path.replace(f"{folder}/", "") for path in found["unused"]}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, []),
        ({"packages": ["orthanc"]}, []),
        ({"packages": ["orthanc", "orthanc-dicomweb"]}, ["libOrthancDicomWeb.so"]),
        ({"libraries": ["OrthancDicomWeb"]}, ["libOrthancDicomWeb.so"]),
        (
            {"packages": ["orthanc-mysql"]},
            ["libOrthancMySQLIndex.so", "libOrthancMySQLStorage.so"],
        ),
        ({"libraries": ["ModalityWorklists", "OrthancWorklists"]}, ["libModalityWorklists.so"]),
        # What is downloaded is not taken from the folder as well.
        ({"libraries": ["OrthancDicomWeb"], "downloads": ["/x/libOrthancDicomWeb.so"]}, []),
        (
            {"packages": ["orthanc", "orthanc-python"], "coming": ["orthanc-python"]},
            ["libOrthancPython.so"],
        ),
        ({"packages": ["orthanc-dicomweb"], "coming": []}, ["libOrthancDicomWeb.so"]),
        (
            {"packages": ["orthanc-dicomweb"], "coming": ["orthanc-dicomweb"]},
            ["libOrthancDicomWeb.so"],
        ),
        ({"libraries": ["DelayedDeletion"], "coming": ["orthanc"]}, ["libDelayedDeletion.so"]),
        ({"libraries": ["DelayedDeletion"]}, []),
    ],
)
def test_what_is_asked_for_is_loaded(folder, arguments, expected):
    load, unused = choose(folder, **arguments)
    assert load == sorted(["libMine.so", *expected])
    assert unused == set(OWNED) - set(expected)


def test_what_no_package_brought_is_loaded_whatever_its_name(folder):
    (folder / "libOrthancPython.so").write_bytes(PLUGIN)
    (folder / "libOrthancExplorer2.so").write_bytes(PLUGIN)
    load, _ = choose(folder)
    assert load == ["libMine.so", "libOrthancExplorer2.so", "libOrthancPython.so"]


def test_a_folder_is_read_as_orthanc_does(folder):
    (folder / "libBelow.so").mkdir()
    (folder / "libHelper.so").write_bytes(b"\x7fELF\0no entry functions")
    (folder / ".libHidden.SO").write_bytes(PLUGIN)
    (folder / "libPage.so").write_text("<html>")
    (folder / "libEmpty.so").touch()
    (folder / "libNowhere.so").symlink_to("/nowhere.so")
    (folder / "libMine.so.1").symlink_to(folder / "libMine.so")
    (folder / "libTwice.so").symlink_to(folder / "libMine.so")
    load, _ = choose(folder)
    # Of the last three Orthanc dies, in a folder as in a list: the trial start says so.
    assert load == [*(".libHidden.SO", "libEmpty.so", "libMine.so", "libNowhere.so", "libPage.so")]


def test_a_folder_that_is_not_there_is_empty():
    assert engine.choose("/nowhere", ["OrthancDicomWeb"]) == {"load": [], "unused": {}}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"HttpPort": 8042, "NoSection": {}}, []),
        ({"DicomWeb": {}}, ["OrthancDicomWeb"]),
        ({"DicomWeb": {"Enable": False}}, []),
        ({"WholeSlideImaging": {"EnableIIIF": False}}, ["OrthancWSI"]),
        (
            {"PostgreSQL": {"EnableIndex": True, "EnableStorage": False}},
            ["OrthancPostgreSQLIndex", "OrthancPostgreSQLStorage"],
        ),
        ({"PostgreSQL": {"EnableIndex": False, "EnableStorage": False}}, []),
        ({"PythonScript": "/srv/x.py"}, ["OrthancPython"]),
    ],
)
def test_sections_ask_for_plugins(options, expected):
    assert orthanc_options.libraries(options) == expected


def test_both_tables_know_the_same_packages():
    package_of = {
        name: package for package, names in orthanc_tables.PLUGINS.items() for name in names
    }
    for option, section in {**orthanc_tables.SECTIONS, **orthanc_tables.PLUGIN_OPTIONS}.items():
        brought = {package_of.get(piece) for piece in section["library"]}
        assert brought - {None} <= {section["package"]}, option
