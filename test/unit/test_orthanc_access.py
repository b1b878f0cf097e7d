"""What is closed to others, and that nothing else is taken from anybody."""

import grp
import json
import os
import pwd
import stat
import subprocess
from types import SimpleNamespace

import orthanc_access
import orthanc_folder
import pytest
from salt.exceptions import CommandExecutionError

pytestmark = pytest.mark.each_salt

# The number of Orthanc's account, of its group, and those of all of its groups.
ORTHANC = (900, 901, {901, 902})
ME = {"user": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}


def mode(path):
    return stat.S_IMODE(path.lstat().st_mode)


def modes(folder):
    """Return the rights of others for each file and folder below a folder, by name."""
    return {path.name: mode(path) & 0o007 for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("before", "is_used", "after"),
    [
        # The owner and its own group need no rights of others, nor does somebody in the group.
        ((0o644, 900, 0), True, (0o640, 900, 0)),
        ((0o755, 0, 901), True, (0o750, 0, 901)),
        ((0o666, 0, 902), True, (0o660, 0, 902)),
        ((0o604, 0, 902), True, (0o600, 0, 902)),
        # What is closed stays as it is, whether Orthanc gets in or not.
        ((0o600, 0, 0), True, (0o600, 0, 0)),
        ((0o750, 1000, 1000), True, (0o750, 1000, 1000)),
        ((0o440, 1000, 901), True, (0o440, 1000, 901)),
        # Root's group needs no right, and Orthanc gets what the others had.
        ((0o644, 0, 0), False, (0o640, 0, 901)),
        ((0o755, 0, 0), False, (0o750, 0, 901)),
        ((0o664, 1000, 0), False, (0o640, 1000, 901)),
        ((0o666, 0, 0), False, (0o660, 0, 901)),
        ((0o4755, 0, 0), False, (0o4750, 0, 901)),
        ((0o1777, 0, 0), False, (0o1770, 0, 901)),
        # Another group has been given on purpose, and stays unless Orthanc would be shut out.
        ((0o755, 1000, 1000), False, (0o750, 1000, 1000)),
        ((0o664, 0, 1000), False, (0o660, 0, 1000)),
        ((0o664, 0, 1000), True, (0o640, 0, 901)),
        ((0o755, 1000, 1000), True, (0o750, 1000, 901)),
    ],
)
def test_only_the_rights_of_others_go(before, is_used, after):
    found = SimpleNamespace(st_mode=stat.S_IFREG | before[0], st_uid=before[1], st_gid=before[2])
    assert orthanc_access._closed(found, ORTHANC, is_used) == after
    again = SimpleNamespace(st_mode=stat.S_IFREG | after[0], st_uid=after[1], st_gid=after[2])
    assert orthanc_access._closed(again, ORTHANC, is_used) == after


def test_close_takes_the_rights_of_others_and_no_more(tmp_path):
    folder = tmp_path / "images"
    (folder / "aa" / "bb").mkdir(parents=True)
    (folder / "aa" / "bb" / "image").write_text("x")
    (folder / "closed").write_text("x")
    (folder / "closed").chmod(0o640)
    for path, before in (("aa/bb/image", 0o754), ("aa", 0o755), ("aa/bb", 0o755)):
        (folder / path).chmod(before)
    tried = orthanc_access.close(str(folder), **ME, test=True)
    assert tried.keys() == {str(folder / path) for path in ("aa", "aa/bb", "aa/bb/image")}
    assert tried[str(folder / "aa/bb/image")]["old"].startswith("0754 ")
    assert modes(folder)["image"] == 0o4
    assert orthanc_access.close(str(folder), **ME) == tried
    assert set(modes(folder).values()) == {0}
    assert mode(folder / "aa" / "bb" / "image") == 0o750
    assert mode(folder) & 0o007, "the folder itself is for file.directory"
    assert orthanc_access.close(str(folder), **ME) == {}


def test_close_follows_no_link_and_waits_for_nobody(tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "images"
    outside.mkdir()
    (outside / "file").write_text("x")
    for path in (outside, outside / "file"):
        path.chmod(0o755)
    folder.mkdir()
    (folder / "link").symlink_to(outside / "file")
    (folder / "folder").symlink_to(outside)
    (folder / "nowhere").symlink_to(outside / "none")
    os.mkfifo(folder / "fifo")
    assert orthanc_access.close(str(folder), **ME) == {}
    assert modes(outside) == {"file": 0o005}


def test_close_follows_the_link_that_it_is_given(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch(0o644)
    (tmp_path / "link").symlink_to("folder")
    assert orthanc_access.close(str(tmp_path / "link"), **ME)
    assert modes(tmp_path / "folder") == {"file": 0}


def test_close_of_a_folder_or_for_an_account_that_is_not_there(tmp_path):
    (tmp_path / "file").touch(0o644)
    assert orthanc_access.close(str(tmp_path / "none"), **ME) == {}
    assert orthanc_access.close(str(tmp_path), user="no such account", group=ME["group"]) == {}
    assert modes(tmp_path) == {"file": 0o004}


def test_what_vanishes_meanwhile_is_no_error_and_what_cannot_be_is_one(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).touch(0o644)
    seen, real = [], os.open

    def vanish(entry, *args, **kwargs):
        if entry in ("one", "two") and not seen:
            seen.append(entry)
            (tmp_path / entry).unlink()
        return real(entry, *args, **kwargs)

    monkeypatch.setattr(os, "open", vanish)
    assert len(orthanc_access.close(str(tmp_path), **ME)) == 1
    assert list(modes(tmp_path).values()) == [0]

    names = ("three", "four", "five")
    for name in names:
        (tmp_path / name).touch(0o644)
    change, immutable = os.fchmod, os.stat(tmp_path / "three").st_ino

    def refuse(descriptor, new):
        if os.fstat(descriptor).st_ino == immutable:
            raise PermissionError(1, "Operation not permitted")
        change(descriptor, new)

    monkeypatch.setattr(os, "fchmod", refuse)
    with pytest.raises(CommandExecutionError, match="three stays as it is: Operation not"):
        orthanc_access.close(str(tmp_path), **ME)
    # All else is closed.
    assert {name: modes(tmp_path)[name] for name in names} == {"three": 4, "four": 0, "five": 0}


@pytest.mark.parametrize("test", [True, False])
def test_what_is_mounted_read_only_is_left_alone(tmp_path, test):
    source, point = tmp_path / "source", tmp_path / "closed" / "point"
    for folder in (source, point):
        folder.mkdir(0o755, parents=True)
    (source / "file").touch(0o644)
    subprocess.run(["mount", "--bind", source, point], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", point], check=True)
        assert orthanc_access.close(str(point.parent), **ME, test=test) == {}
    finally:
        subprocess.run(["umount", point], check=True)
    assert mode(source / "file") == 0o644


def test_a_million_images_are_not_all_named(tmp_path):
    for number in range(orthanc_access.NAMED + 7):
        (tmp_path / str(number)).touch(0o644)
    changes = orthanc_access.close(str(tmp_path), **ME)
    assert len(changes) == orthanc_access.NAMED + 1
    assert changes["and others"] == {"old": "open", "new": "7 closed"}
    assert set(modes(tmp_path).values()) == {0}


def test_what_orthanc_uses_of_the_folder_of_the_configuration(tmp_path):
    options = {"LuaScripts": ["lua/a.lua"], "DicomTlsCertificate": f"{tmp_path}/tls.pem"}
    (tmp_path / "site.json").write_text(json.dumps(options))
    (tmp_path / "lua").mkdir()
    (tmp_path / "lua/a.lua").write_text(f'dofile("{tmp_path}/lua/b.lua")')
    for name in ("lua/b.lua", "lua/c.lua", ".hidden.JSON", "tls.pem", "hook.sh"):
        (tmp_path / name).write_text("{")
    used = [
        path[len(str(tmp_path)) + 1 :]
        for path in orthanc_folder.used(str(tmp_path))
        if path.startswith(f"{tmp_path}/")
    ]
    assert set(used) >= {"site.json", ".hidden.JSON", "lua/a.lua", "lua/b.lua", "tls.pem"}
    assert not {"lua/c.lua", "hook.sh"} & set(used)
    assert orthanc_access._share("/etc/orthanc/lua", "/etc/orthanc/lua/a.lua")
    assert orthanc_access._share("/etc/orthanc/worklists/a.wl", "/etc/orthanc/worklists")
    assert not orthanc_access._share("/etc/orthanc/lua2", "/etc/orthanc/lua/a.lua")
