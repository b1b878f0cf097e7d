"""The custom states on a real folder, each in test mode and for real."""

import hashlib
import json
import os
import pathlib
import re
import subprocess
import time

import pytest
import salt.loader
from layers import layers

FORMULA = pathlib.Path(__file__).resolve().parents[2]
FILES = {"credentials.json": ["RegisteredUsers"], "advanced.json": [], "gdcm.json": ["Gdcm"]}
ACCOUNT = {"user": "orthanc", "group": "root"}
BARE = {"layers": [], "main_file": "orthanc.json", "option_files": {}}
FILTER = "orthanc-formula-users.lua"
TEST_MODES = pytest.mark.parametrize("test", [True, False])


@pytest.fixture
def managed(states, tmp_path):
    """A function that applies orthanc_conf.managed to a folder of the test's own."""

    def managed(*options, test=False, allow_no_users=True, **users):
        return states.orthanc_conf.managed(
            str(tmp_path),
            configuration={
                "layers": [one for given in options for one in layers(given)],
                "main_file": "orthanc.json",
                "option_files": FILES,
                "texts": {FILTER: users["users_lua"]} if users else {},
                "group": "root",
                "allow_no_users": allow_no_users,
            },
            test=test,
        )

    return managed


@pytest.mark.parametrize(("module", "least"), [("orthanc", 2), ("orthanc_conf", 1)])
def test_salt_makes_one_module_of_the_files_for_people(loaders, module, least):
    """From whichever of them it loads first."""
    sources = {path.stem: path.read_text() for path in (FORMULA / "_modules").glob("*.py")}
    line = f'\n__virtualname__ = "{module}"\n'
    files = [text for text in sources.values() if line in text]
    names = re.findall(r"(?m)^def ([a-z]\w*)\(", "\n".join([sources[module], *files]))
    assert len(files) >= least
    for name in sorted(names)[::-1]:
        modules = salt.loader.minion_mods(loaders.opts)
        assert f"{module}.{name}" in modules, name
    assert set(loaders.modules.sys.list_functions(module)) == {f"{module}.{n}" for n in names}


def content(folder):
    """Return what lies in a folder, but for the note that Orthanc has to be restarted."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".unproven"
    }


@TEST_MODES
def test_managed_writes_the_files(managed, tmp_path, test):
    ret = managed({"HttpPort": 8042, "RegisteredUsers": {"anna": "Geheim"}}, test=test)
    assert ret.result is (None if test else True)
    assert ret.changes == {
        f"{tmp_path}/orthanc.json": {"HttpPort": {"new": 8042}},
        f"{tmp_path}/credentials.json": {"RegisteredUsers:anna": {"new": "(hidden)"}},
        f"{tmp_path}/advanced.json": {"old": None, "new": "written"},
    }
    if test:
        assert content(tmp_path) == {}
        return
    assert {name: json.loads(text) for name, text in content(tmp_path).items()} == {
        "orthanc.json": {"HttpPort": 8042},
        "credentials.json": {"RegisteredUsers": {"anna": "Geheim"}},
        "advanced.json": {},
    }
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o7777 == 0o640
    assert (tmp_path / ".unproven").exists()


@TEST_MODES
def test_managed_changes_nothing_the_second_time(managed, tmp_path, test):
    managed({"HttpPort": 8042}, users_lua="-- x")
    (tmp_path / ".unproven").unlink()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    ret = managed({"HttpPort": 8042}, users_lua="-- x", test=test)
    assert ret.result is True
    assert ret.changes == {}
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@TEST_MODES
def test_managed_takes_out_what_is_no_longer_asked_for(managed, tmp_path, test):
    managed({"HttpPort": 8042, "Gdcm": {"Enable": True}}, users_lua="-- x")
    before = content(tmp_path)
    ret = managed({}, users_lua=None, test=test)
    assert ret.changes == {
        f"{tmp_path}/orthanc.json": {"HttpPort": {"old": 8042}},
        f"{tmp_path}/gdcm.json": {"Gdcm:Enable": {"old": True}},
        f"{tmp_path}/{FILTER}": {"old": "present", "new": None},
    }
    if test:
        assert content(tmp_path) == before
    else:
        assert set(content(tmp_path).values()) == {"{}\n"}
        assert not (tmp_path / FILTER).exists()


@TEST_MODES
def test_managed_takes_an_option_out_of_a_file_that_does_not_own_it(managed, tmp_path, test):
    (tmp_path / "advanced.json").write_text('{"HttpPort": 1, // the package\'s\n "HttpTimeout": 2}')
    ret = managed({"HttpPort": 8042}, test=test)
    # What only goes to another file is no change of its own.
    assert ret.changes == {
        f"{tmp_path}/orthanc.json": {"HttpPort": {"old": 1, "new": 8042}},
        f"{tmp_path}/advanced.json": {"HttpTimeout": {"old": 2}},
    }
    if not test:
        assert json.loads((tmp_path / "advanced.json").read_text()) == {}


@TEST_MODES
def test_managed_takes_the_last_user_only_where_the_pillar_says_so(managed, tmp_path, test):
    managed({"RegisteredUsers": {"anna": "x"}})
    before = content(tmp_path)
    for options in ({}, {"RegisteredUsers": {}}):
        ret = managed(options, test=test, allow_no_users=False)
        assert ret.result is False
        assert "top file" in ret.comment
        assert content(tmp_path) == before
    ret = managed({"RegisteredUsers": {"rita": "x"}}, test=test, allow_no_users=False)
    assert ret.result is not False
    assert managed({}, test=test).result is not False


@TEST_MODES
@pytest.mark.parametrize("name", ["local.json", ".local.json", "LOCAL.JSON"])
def test_managed_refuses_an_option_in_an_unknown_file(managed, tmp_path, name, test):
    (tmp_path / name).write_text('{"HttpPort": 1, "HttpTimeout": 2}')
    before = content(tmp_path)
    ret = managed({"HttpPort": 8042}, test=test)
    assert ret.result is False
    assert ret.changes == {}
    assert f"{tmp_path}/{name} sets HttpPort" in ret.comment
    assert content(tmp_path) == before


def test_managed_refuses_an_unknown_file_with_which_orthanc_would_not_start(managed, tmp_path):
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "dangling.json").symlink_to("/nowhere")
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "orthanc.json").write_text("{ of the formula, so it is put right")
    ret = managed({"HttpPort": 8042})
    assert ret.result is False
    assert "broken.json cannot be read" in ret.comment
    assert "dangling.json cannot be read" in ret.comment
    assert "pipe.json cannot be read" in ret.comment
    assert "orthanc.json" not in ret.comment


@pytest.mark.parametrize("name", ["local.json.bak", "local.json.dpkg-dist", "json"])
def test_managed_leaves_files_alone_that_orthanc_does_not_read(managed, tmp_path, name):
    (tmp_path / name).write_text('{"HttpPort": 1}')
    (tmp_path / "folder.json").mkdir()
    assert managed({"HttpPort": 8042}).result is True
    assert (tmp_path / name).read_text() == '{"HttpPort": 1}'


def test_managed_fails_cleanly_without_the_services_group(states, tmp_path):
    ret = states.orthanc_conf.managed(
        str(tmp_path), configuration={**BARE, "group": "no-such-group"}
    )
    assert ret.result is False
    assert "no-such-group" in ret.comment
    assert content(tmp_path) == {}


def test_managed_fails_cleanly_without_the_folder(states, tmp_path):
    ret = states.orthanc_conf.managed(str(tmp_path / "x"), configuration={**BARE, "group": "root"})
    assert ret.result is False
    assert "x" in ret.comment


@pytest.mark.parametrize(
    "packaged", ['{ // of the package\n "HttpPort": 1, }\r\n', '{\n  "HttpPort": 1\n}\n']
)
def test_managed_keeps_what_was_there_before_and_absent_puts_it_back(
    managed, states, tmp_path, packaged
):
    (tmp_path / "orthanc.json").write_bytes(packaged.encode())
    managed({"HttpPort": 2, "Gdcm": {}}, users_lua="-- mark")
    managed({"HttpPort": 3, "Gdcm": {"Enable": False}}, users_lua="-- mark\nmore")
    assert (tmp_path / "before-formula/orthanc.json").read_bytes() == packaged.encode()
    assert len(list((tmp_path / "before-formula").iterdir())) == 1
    files = ["orthanc.json", *FILES, FILTER]
    for test in (True, False):
        ret = states.orthanc_conf.absent(str(tmp_path), files=files, test=test)
        assert ret.result is (None if test else True)
        assert ret.changes[f"{tmp_path}/orthanc.json"]["new"] == "put back"
        assert ret.changes[f"{tmp_path}/gdcm.json"]["new"] is None
    assert (tmp_path / "orthanc.json").read_bytes() == packaged.encode()
    assert [path.name for path in tmp_path.iterdir()] == ["orthanc.json"]
    assert states.orthanc_conf.absent(str(tmp_path), files=files).changes == {}


def test_images_are_not_left_behind(managed, tmp_path):
    images, other = tmp_path / "images", tmp_path / "other"
    (images / "0a").mkdir(parents=True)
    (images / "index").touch()
    other.mkdir()
    managed({"StorageDirectory": str(images), "IndexDirectory": str(images)})
    moved = {"StorageDirectory": str(other), "IndexDirectory": str(other)}
    ret = managed(moved)
    assert ret.result is False
    assert ret.comment.count("holds none of them") == 2
    assert managed({**moved, "StorageDirectory": f"{images}/"}).result is False
    (other / "0b").mkdir()
    assert "orthanc:config:IndexDirectory" in managed(moved).comment
    (other / "index").touch()
    assert managed(moved).result is True


def test_images_are_not_left_behind_where_their_place_is_not_written_down(managed, tmp_path):
    """Orthanc's own default, also below the folder of the configuration."""
    images, other = tmp_path / "OrthancStorage", tmp_path / "other"
    (images / "0a").mkdir(parents=True)
    (images / "index").touch()
    other.mkdir()
    (tmp_path / "orthanc.json").write_text('{"Name": "by hand"}')
    moved = {"StorageDirectory": str(images), "IndexDirectory": str(other)}
    for wrong in (moved, {"StorageDirectory": str(other), "IndexDirectory": str(images)}):
        assert "holds none of them" in managed(wrong).comment
    (tmp_path / "orthanc.json").write_text(json.dumps({"StorageDirectory": "OrthancStorage"}))
    assert "holds none of them" in managed(moved).comment
    assert managed({**moved, "IndexDirectory": str(images)}).result is True


def test_an_option_that_is_taken_out_moves_what_its_default_is_elsewhere(managed, tmp_path):
    images, index = tmp_path / "images", tmp_path / "index"
    (images / "0a").mkdir(parents=True)
    index.mkdir()
    (index / "index").touch()
    separate = {"StorageDirectory": str(images), "IndexDirectory": str(index)}
    assert managed(separate).result is True
    for taken_out, folder in separate.items():
        ret = managed(separate, {taken_out: None})
        assert ret.result is False
        assert f"orthanc:config:{taken_out}: the server keeps its images in" in ret.comment
        assert f"set it to {folder}," in ret.comment
    # Relative ones are below the folder of the configuration.
    assert managed({"StorageDirectory": "images", "IndexDirectory": "index"}).result is True
    assert managed({"StorageDirectory": "images", "IndexDirectory": "other"}).result is False


@TEST_MODES
def test_folders_of_others_are_not_closed(states, tmp_path, test):
    (tmp_path / "real/0a").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "foreign/x").mkdir(parents=True)
    os.chown(tmp_path / "foreign", 1234, 1234)
    folders = {
        "orthanc:paths:storage": str(tmp_path / "link"),
        "orthanc:paths:home": str(tmp_path / "foreign"),
        "orthanc:paths:config": str(tmp_path / "real"),
    }
    configuration = {**BARE, "folders": folders}
    ret = states.orthanc_conf.valid(str(tmp_path), configuration=configuration, test=test)
    assert ret.result is False
    lines = ret.comment.splitlines()[1:]
    assert lines[0].endswith(f"set orthanc:paths:storage to {tmp_path}/real")
    assert "orthanc:paths:home" in lines[1]
    assert f"chown orthanc {tmp_path}/foreign" in lines[1]
    assert "holds other things than a configuration" in lines[2]
    (tmp_path / "real/a.json").write_text("{}")
    folders = {"orthanc:paths:config": str(tmp_path / "real")}
    configuration = {**BARE, "folders": folders}
    assert states.orthanc_conf.valid(str(tmp_path), configuration=configuration).result is True


def test_a_file_of_somebody_else_is_not_overwritten(states, tmp_path):
    folder, ca = tmp_path / "orthanc", tmp_path / "ca.pem"
    folder.mkdir()
    ca.write_text("of the administrator")
    pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    configuration = {**BARE, "group": "root", "pems": {str(ca): {"trusted_certificates": pem}}}
    ret = states.orthanc_conf.managed(str(folder), configuration=configuration)
    assert "orthanc:postgresql:ca" in ret.comment
    assert ca.read_text() == "of the administrator"
    ca.unlink()
    assert states.orthanc_conf.managed(str(folder), configuration=configuration).result is True
    assert ca.read_text() == pem
    # By now it is the formula's, which may change and remove it.
    renewed = {**configuration, "pems": {str(ca): {"trusted_certificates": pem + pem}}}
    assert states.orthanc_conf.managed(str(folder), configuration=renewed).result is True
    states.orthanc_conf.absent(str(folder), files=["orthanc.json", str(ca)])
    assert not ca.exists()


def test_one_run_after_the_other_writes(managed, tmp_path):
    """Here the other one is a process that holds what a run holds, for a second."""
    hold = f"import fcntl, os, time; d = os.open({str(tmp_path.parent)!r}, os.O_RDONLY);"
    hold += " fcntl.flock(d, fcntl.LOCK_EX); print(flush=True); time.sleep(1); print(time.time())"
    with subprocess.Popen(["python3", "-c", hold], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        assert managed({"Name": "one"}).result is True
        assert time.time() >= float(other.stdout.read())


def test_an_unknown_part_of_a_configuration_is_refused(states, tmp_path):
    for wrong, words in (({**BARE, "layer": []}, "layer: unknown"), ({}, "layers: missing")):
        ret = states.orthanc_conf.managed(str(tmp_path), configuration=wrong)
        assert ret.result is False
        assert words in ret.comment


@TEST_MODES
def test_links_go_and_real_files_stay(states, tmp_path, test):
    (tmp_path / "real").write_text("x")
    (tmp_path / "link").symlink_to("/etc")
    links = [str(tmp_path / "real"), str(tmp_path / "link"), str(tmp_path / "none")]
    ret = states.orthanc.unlinked(str(tmp_path), links=links, test=test)
    assert ret.changes == {links[1]: {"old": "/etc", "new": None}}
    assert (tmp_path / "link").is_symlink() is test
    assert (tmp_path / "real").read_text() == "x"
    if not test:
        assert states.orthanc.unlinked(str(tmp_path), links=links).changes == {}


def test_a_link_that_cannot_be_removed_is_a_failure_in_words(states, tmp_path, monkeypatch):
    links = [str(tmp_path / "one"), str(tmp_path / "two")]
    for link in links:
        os.symlink("/etc", link)
    real = os.unlink

    def unlink(path, *rest, **more):
        if str(path) == links[1]:
            raise PermissionError("read-only file system")
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "unlink", unlink)
    ret = states.orthanc.unlinked(str(tmp_path), links=links)
    assert ret.result is False
    assert "read-only file system" in ret.comment
    assert set(ret.changes) == {links[0]}


def test_what_cannot_be_looked_through_is_a_failure_in_words(states, tmp_path):
    (tmp_path / (64 * "a")).write_text("no folder")
    ret = states.orthanc_plugins.only(str(tmp_path), config=str(tmp_path / "none"))
    assert ret.result is False
    assert "cannot be looked through" in ret.comment
    assert ret.changes == {}


@TEST_MODES
def test_valid_fails_with_one_sentence_where_salt_is_not_root(states, monkeypatch, test):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    ret = states.orthanc_conf.valid("orthanc", problems=["a: x"], test=test)
    assert ret.result is False
    assert "call it with sudo" in ret.comment
    assert "\n" not in ret.comment


@TEST_MODES
def test_valid_fails_and_lists_every_problem(states, tmp_path, test):
    ret = states.orthanc_conf.valid("orthanc", problems=["a: x", "b: y"], test=test)
    assert ret.result is False
    assert ret.changes == {}
    assert "- a: x\n- b: y" in ret.comment
    ret = states.orthanc_conf.valid(
        str(tmp_path),
        configuration={**BARE, "layers": layers({"HttpPrt": 1, "LimitFindResults": 0})},
        problems=["a: x"],
        test=test,
    )
    assert ret.result is False
    assert "- a: x\n- orthanc:config:HttpPrt: unknown option" in ret.comment


@TEST_MODES
def test_valid_warns_and_does_not_fail(states, tmp_path, test):
    ret = states.orthanc_conf.valid(
        str(tmp_path),
        configuration={
            **BARE,
            "layers": [
                {"option": ["LimitFindResults"], "value": 0, "origin": "orthanc:limit_find"}
            ],
        },
        test=test,
    )
    assert ret.result is True
    assert ret.changes == {}
    # A line of its own in the comment; of what is below "warnings", Salt makes one paragraph.
    assert "\nWarnings:\n- orthanc:limit_find: 0 is advised against" in ret.comment
    assert ret.full_return["warnings"][0].startswith("1, each on a line of its own")


def test_the_last_good_files_return(managed, loaders, tmp_path):
    conf, proof = loaders.modules.orthanc_conf, loaders.modules.orthanc_proof
    folder = str(tmp_path)
    last_good = tmp_path.parent / f"{tmp_path.name}.last-good"
    (tmp_path / "orthanc.json").write_text('{"Name": "of the package"}')
    managed({"Name": "one"}, users_lua="-- one")
    # Until something was seen serving, what was there before is the last good.
    files = ["advanced.json", FILTER, "orthanc.json"]
    assert conf.restore(folder, group="root") == files
    assert (tmp_path / "orthanc.json").read_text() == '{"Name": "of the package"}'
    assert not (tmp_path / FILTER).exists()
    managed({"Name": "one"}, users_lua="-- one")
    proof.prove(folder, ACCOUNT)
    assert not loaders.modules.orthanc_files.unproven(folder)
    managed({"Name": "two", "RegisteredUsers": {"anna": "Geheim"}}, users_lua="-- two")
    managed({"Name": "three"}, users_lua=None)
    assert loaders.modules.orthanc_files.unproven(folder)
    files = ["credentials.json", FILTER, "orthanc.json"]
    assert conf.restore(folder, group="root") == files
    assert json.loads((tmp_path / "orthanc.json").read_text()) == {"Name": "one"}
    assert (tmp_path / FILTER).read_text() == "-- one"
    assert not (tmp_path / "credentials.json").exists()
    proof.prove(folder, ACCOUNT)
    assert conf.restore(folder, group="root") == []
    assert last_good.stat().st_mode & 0o7777 == 0o600
    assert not list(tmp_path.parent.glob("*.new"))


def test_a_file_that_a_package_brought_later_stays(managed, loaders, tmp_path):
    managed({"Name": "one"})
    loaders.modules.orthanc_proof.prove(str(tmp_path), ACCOUNT)
    packaged = '{"Gdcm": {"Enable": true}} // of the package'
    (tmp_path / "gdcm.json").write_text(packaged)
    managed({"Name": "two", "Gdcm": {"Enable": False}})
    assert loaders.modules.orthanc_conf.restore(str(tmp_path), group="root") == [
        "gdcm.json",
        "orthanc.json",
    ]
    assert (tmp_path / "gdcm.json").read_text() == packaged


@pytest.mark.parametrize("below", [False, True])
def test_files_are_written_where_folders_cannot_be_swapped(managed, tmp_path, below):
    other = tmp_path.parent / f"{tmp_path.name}.other"
    other.mkdir()
    (other / "precious").touch()
    point = tmp_path / "keys" if below else tmp_path
    point.mkdir(exist_ok=True)
    subprocess.run(["mount", "--bind", str(other), str(point)], check=True)
    try:
        inode = tmp_path.stat().st_ino
        managed({"Name": "one"}, users_lua="-- one")
        managed({"Name": "two"}, users_lua=None)
        assert tmp_path.stat().st_ino == inode
        assert json.loads((tmp_path / "orthanc.json").read_text()) == {"Name": "two"}
        assert not (tmp_path / FILTER).exists()
        assert (point / "precious").exists()
    finally:
        subprocess.run(["umount", str(point)], check=True)
    assert not list(tmp_path.parent.glob("*.new"))
    assert not list(tmp_path.glob(".*.new-*"))


def test_the_folder_may_be_a_link(states, tmp_path):
    folder, link = tmp_path / "real", tmp_path / "link"
    folder.mkdir()
    (folder / "own.pem").touch()
    link.symlink_to(folder)
    for name in ("one", "two"):
        ret = states.orthanc_conf.managed(
            str(link), configuration={**BARE, "layers": layers({"Name": name}), "group": "root"}
        )
        assert ret.result is True
    assert json.loads((folder / "orthanc.json").read_text()) == {"Name": "two"}
    assert (folder / "own.pem").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "link.last-good", "real"]


@pytest.mark.parametrize("by", ["managed", "restore", "absent"])
def test_what_a_killed_run_left_goes(managed, states, loaders, tmp_path, by):
    (tmp_path / "orthanc.json").write_text('{"Name": "of the package"}')
    managed({"Name": "one"})
    left = [
        tmp_path / ".orthanc.json.new-x",
        tmp_path / "before-formula/.orthanc.json.new-x",
        tmp_path.parent / f".{tmp_path.name}.last-good.new-x",
    ]
    for path in left:
        path.write_text("Geheim")
    folder = tmp_path.parent / f"{tmp_path.name}.new"
    folder.mkdir()
    (folder / "orthanc.json").write_text('{"Name": "stale"}')
    managed({"Name": "two"}, test=True)
    assert folder.exists()
    if by == "managed":
        managed({"Name": "two"})
        assert json.loads((tmp_path / "orthanc.json").read_text()) == {"Name": "two"}
    elif by == "restore":
        loaders.modules.orthanc_conf.restore(str(tmp_path), group="root")
        assert "of the package" in (tmp_path / "orthanc.json").read_text()
        assert not (tmp_path / tmp_path.name).exists()
        return
    else:
        states.orthanc_conf.absent(str(tmp_path), files=["orthanc.json", *FILES])
        assert [path.name for path in tmp_path.iterdir()] == ["orthanc.json"]
    assert not [path for path in (*left, folder) if path.exists()]


@pytest.fixture
def downloads(states, tmp_path):
    """A folder of plugins with one that was downloaded; a function that gives paths in it."""

    def path(content, entry="libX.so"):
        return str(tmp_path / "downloads" / hashlib.sha256(content.encode()).hexdigest() / entry)

    (tmp_path / "source.so").write_text("one")
    ret = states.orthanc_plugins.present(path("one"), source=str(tmp_path / "source.so"))
    assert ret.result is True
    return path


def in_folder(tmp_path):
    """Return the files and links in the folder of plugins, and their content."""
    return {
        str(path.relative_to(tmp_path / "downloads")): path.read_text()
        for path in (tmp_path / "downloads").rglob("*")
        if path.is_file()
    }


@TEST_MODES
def test_a_plugin_is_put_in_place_once(states, tmp_path, downloads, test):
    (tmp_path / "two.so").write_text("two")
    before = in_folder(tmp_path)
    two = downloads("two")
    ret = states.orthanc_plugins.present(two, source=str(tmp_path / "two.so"), test=test)
    assert ret.result is (None if test else True)
    assert ret.changes == {two: {"old": None, "new": "downloaded"}}
    if test:
        assert in_folder(tmp_path) == before
        return
    assert len(in_folder(tmp_path)) == 2
    os.unlink(tmp_path / "two.so")  # nothing is asked for a second time
    assert states.orthanc_plugins.present(two, source=str(tmp_path / "two.so")).changes == {}


def test_a_plugin_with_another_content_is_refused(states, tmp_path, downloads):
    (tmp_path / "two.so").write_text("three")
    before = in_folder(tmp_path)
    for source in (tmp_path / "two.so", tmp_path / "none.so"):
        ret = states.orthanc_plugins.present(downloads("two"), source=str(source))
        assert ret.result is False
        assert str(source) in ret.comment
        assert ret.changes == {}
        assert in_folder(tmp_path) == before


def test_a_failed_copy_leaves_nothing(states, tmp_path, downloads, monkeypatch):
    before = in_folder(tmp_path)
    (tmp_path / "two.so").write_text("two")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
    ret = states.orthanc_plugins.present(downloads("two"), source=str(tmp_path / "two.so"))
    assert ret.result is False
    assert in_folder(tmp_path) == before


def test_only_what_the_formula_put_there_is_removed(states, tmp_path, downloads):
    folder, config = tmp_path / "downloads", tmp_path / "config"
    config.mkdir()
    for name, content in (("kept", "kept"), ("insecure", "whatever")):
        (tmp_path / "source.so").write_text(content)
        path = downloads(content) if name == "kept" else str(folder / "insecure-1" / "libX.so")
        assert states.orthanc_plugins.present(path, source=str(tmp_path / "source.so")).result
    changed = folder / downloads("one").split("/")[-2] / "libOwn.so"
    changed.write_text("by hand")
    (folder / "own").mkdir()
    (folder / "own/libOwn.so").write_text("own")
    (folder / ".new-x").write_text("of a killed run")
    keep = [downloads("kept"), str(folder / "insecure-1/libX.so")]
    arguments = {"config": str(config), "keep": keep}

    (config / "a.json").write_text(json.dumps({"Plugins": [downloads("one")]}))
    ret = states.orthanc_plugins.only(str(folder), **arguments)
    assert ret.result is False
    assert "still names them" in ret.comment
    (config / "a.json").write_text(json.dumps({"Plugins": [downloads("kept")]}))
    for test in (True, False):
        before = in_folder(tmp_path)
        ret = states.orthanc_plugins.only(str(folder), **arguments, test=test)
        assert ret.result is (None if test else True)
        assert set(ret.changes) == {downloads("one"), str(folder / ".new-x")}
        assert f"{changed} was changed by hand" in ret.comment
        assert test is (in_folder(tmp_path) == before)
    assert sorted(in_folder(tmp_path).values()) == ["by hand", "kept", "own", "whatever"]
    assert (folder / "insecure-1/libX.so").read_text() == "whatever"
    assert states.orthanc_plugins.only(str(folder), **arguments).changes == {}

    # Without the link, nothing says any more that its content is wanted.
    (config / "a.json").write_text("{}")
    ret = states.orthanc_plugins.only(str(folder), config=str(config))
    assert set(ret.changes) == {
        *(downloads("kept"), downloads("whatever"), str(folder / "insecure-1"))
    }
    assert sorted(in_folder(tmp_path).values()) == ["by hand", "own"]


def test_the_folder_of_plugins_goes_when_it_is_empty(states, tmp_path, downloads):
    folder = str(tmp_path / "downloads")
    assert states.orthanc_plugins.only(folder, config=str(tmp_path)).changes
    assert not os.path.exists(folder)
    assert states.orthanc_plugins.only(folder, config=str(tmp_path)).changes == {}


def test_the_folder_of_plugins_may_be_reached_over_a_link(states, tmp_path, downloads):
    (tmp_path / "linked").symlink_to(tmp_path / "downloads")
    keep = [downloads("one").replace("downloads", "linked")]
    ret = states.orthanc_plugins.only(
        str(tmp_path / "linked"), config=str(tmp_path / "config"), keep=keep
    )
    assert ret.changes == {}
    assert len(in_folder(tmp_path)) == 1


BACKUP_JOB = {
    "repository": "/srv/backup",
    "environment": {},
    "keep": {"daily": 7},
    "limit_upload": 0,
    "drill_sample": 100,
    "config": "/etc/none",
    "command": "/usr/sbin/Orthanc",
    **ACCOUNT,
    "key": None,
    "files": [],
    "named": [],
}


def test_backups_are_announced_and_what_is_wrong_with_them_refused(states, tmp_path):
    folder = str(tmp_path / "backup")
    schedules = {"backup": "02:00", "drill": None}
    ret = states.orthanc_backup.present(folder, job=BACKUP_JOB, schedules=schedules, test=True)
    assert ret.result is None
    assert ret.changes[f"{folder}/password"] == {"old": None, "new": "made"}
    assert ret.changes[f"{folder}/job.json"] == {"old": None, "new": "written"}
    assert not os.path.exists(folder)
    wrong = {**BACKUP_JOB, "password": "********"}
    ret = states.orthanc_backup.present(folder, job=wrong, schedules=schedules, test=True)
    assert ret.result is False
    assert "orthanc:backup:password: is stars" in ret.comment
    assert ret.changes == {}


RETENTION_JOB = {
    "rules": [{"older_than": "10 years", "by": "study_date"}],
    **{"dry_run": True, "hours": 3, "rate": 10, "max_percent": 10, "unproven": False},
    "config": "/etc/none",
    **ACCOUNT,
}


def test_a_retention_is_announced_and_says_that_it_is_dry(states, tmp_path):
    log = str(tmp_path / "log")
    ret = states.orthanc_retention.present(log, job=RETENTION_JOB, schedule="03:30", test=True)
    assert ret.result is None
    assert ret.changes["/etc/orthanc-retention.json"] == {"old": None, "new": "written"}
    assert "only listed" in ret.comment
    assert not os.path.exists("/etc/orthanc-retention.json")
    wet = {**RETENTION_JOB, "dry_run": False}
    ret = states.orthanc_retention.present(log, job=wet, schedule="03:30", test=True)
    assert "only listed" not in ret.comment


@TEST_MODES
def test_what_a_timer_has_not_written_is_not_called_by_its_name(states, tmp_path, test):
    note = tmp_path / "orthanc-formula-health.json"
    note.touch()
    name = "orthanc-no-such-timer"
    result = states.orthanc_jobs.absent(name, files=[str(note), "/gone"], test=test)
    assert result.comment == f"{note} {'would be' if test else 'was'} removed"
    assert note.exists() is test
    assert "is not there" in states.orthanc_jobs.absent(name, files=["/gone"], test=test).comment


def test_a_log_of_what_was_deleted_stays(states, tmp_path):
    log = tmp_path / "log"
    ret = states.orthanc_retention.absent(str(log))
    assert (ret.changes, ret.comment) == ({}, "No studies are deleted")
    log.touch()
    for test in (True, False):
        ret = states.orthanc_retention.absent(str(log), test=test)
        assert (ret.result, ret.changes) == (True, {})
        assert f"stands in {log}, which stays" in ret.comment
    assert log.exists()


def test_a_password_of_backups_is_never_removed(states, tmp_path):
    folder = tmp_path / "backup"
    assert states.orthanc_backup.absent(str(folder)).changes == {}
    folder.mkdir()
    for name in ("password", "repositories", "job.json", "manifest.json"):
        (folder / name).touch()
    for test in (True, False):
        ret = states.orthanc_backup.absent(str(folder), test=test)
        assert ret.result is (None if test else True)
        assert set(ret.changes) == {f"{folder}/job.json", f"{folder}/manifest.json"}
    assert sorted(os.listdir(folder)) == ["password", "repositories"]
