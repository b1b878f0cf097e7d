"""What the kernel says of processes and sockets."""

import os
import socket

import orthanc_host
import pytest
from salt.exceptions import SaltInvocationError


@pytest.mark.parametrize(
    ("link", "is_orthanc"),
    [
        ("/usr/sbin/Orthanc", True),
        ("/usr/sbin/orthanc (deleted)", True),
        ("/usr/bin/orthanc-backup", False),
        ("/usr/sbin/Orthanc (old)", False),
        ("/srv/orthanc/python3", False),
    ],
)
def test_an_orthanc_is_known_by_its_program_also_when_that_was_upgraded(
    link, is_orthanc, monkeypatch
):
    real = os.readlink
    monkeypatch.setattr(
        os, "readlink", lambda path: link if path == f"/proc/{os.getpid()}/exe" else real(path)
    )
    assert (f"/proc/{os.getpid()}" in orthanc_host.orthancs()) is is_orthanc


def test_a_process_that_may_not_be_looked_at_is_told_apart(monkeypatch):
    me, real = f"/proc/{os.getpid()}", os.readlink

    def closed(path):
        if path == f"{me}/exe":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "readlink", closed)
    assert orthanc_host.programs()[me] is None


def test_who_listens_where():
    with socket.create_server(("127.0.0.1", 0)) as local:
        port = local.getsockname()[1]
        program = os.path.realpath("/proc/self/exe")
        assert orthanc_host.holders(port) == [program]
        assert not orthanc_host.is_open(port)
    assert orthanc_host.holders(port) == []
    with socket.create_server(("0.0.0.0", 0)) as everywhere:
        assert orthanc_host.is_open(everywhere.getsockname()[1])


def test_where_the_root_is_mounted():
    assert "/" in [mounted["point"] for mounted in orthanc_host.mounts()]
    assert orthanc_host._plain(r"/srv/a\040b\134") == "/srv/a b\\"


def test_what_only_some_may_do():
    assert orthanc_host.as_account("nosuchuser", "root") == []
    assert not orthanc_host.may(["-r", "/"], "nosuchuser", "root")


def test_the_disks_of_a_path_are_found(tmp_path, monkeypatch):
    """Two partitions of a disk, and an array of disks."""
    devices, numbers = (
        tmp_path / "block",
        {"/a": (8, 1), "/b": (8, 2), "/raid": (9, 0), "/c": (8, 17)},
    )
    for name in ("sda/sda1", "sda/sda2", "sdb/sdb1"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "partition").touch()
    (tmp_path / "md0/slaves").mkdir(parents=True)
    (tmp_path / "md0/slaves/sda2").symlink_to(tmp_path / "sda/sda2")
    (tmp_path / "md0/slaves/sdb1").symlink_to(tmp_path / "sdb/sdb1")
    devices.mkdir()
    for number, name in {
        "8:1": "sda/sda1",
        "8:2": "sda/sda2",
        "8:17": "sdb/sdb1",
        "9:0": "md0",
    }.items():
        (devices / number).symlink_to(tmp_path / name)

    class State:
        def __init__(self, path):
            self.st_dev = os.makedev(*numbers[path])

    monkeypatch.setattr(orthanc_host, "DEVICES", str(devices))
    with monkeypatch.context() as patched:
        real = os.stat
        patched.setattr(
            os, "stat", lambda path, **_: State(path) if path in numbers else real(path)
        )
        patched.setattr(os.path, "exists", lambda path: path in numbers or os.access(path, os.F_OK))
        found = {path: orthanc_host.disks(path) for path in numbers}
        assert orthanc_host.disks("/a/not/there") == found["/a"]
    assert found["/a"] == found["/b"] == {"sda"}
    assert found["/c"] == {"sdb"}
    assert found["/raid"] == {"sda", "sdb"}


def test_a_file_system_in_memory_is_one_of_its_own():
    assert orthanc_host.disks("/proc/none") == {os.stat("/proc").st_dev}
    assert not orthanc_host.disks("/proc") & orthanc_host.disks("/dev/shm")


@pytest.mark.parametrize("value", ["flase", "False", None, 0, 1, [], 10**23])
def test_what_is_neither_true_nor_false_is_no_flag(value):
    """With ``secrets=flase`` they would be given, and with ``overwrite=no!`` images replaced."""
    orthanc_host.require_flags({"secrets": True, "test": False})
    with pytest.raises(SaltInvocationError, match="overwrite must be True or False, but is "):
        orthanc_host.require_flags({"test": True, "overwrite": value})


@pytest.mark.parametrize("value", ["x", "5", None, 0, -1, True, 1.5, [1], 61])
def test_what_is_no_number_of_something(value):
    orthanc_host.require_number("limit", 10**9)
    with pytest.raises(SaltInvocationError, match="limit must be a whole number from 1 to 60, but"):
        orthanc_host.require_number("limit", value, 60)


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_who_is_connected_is_told_by_address(family, address):
    if family == socket.AF_INET6 and not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("this machine has no IPv6")
    with socket.create_server((address, 0), family=family) as server:
        port = server.getsockname()[1]
        assert orthanc_host.clients(port) == []
        with socket.create_connection((address, port)):
            assert orthanc_host.clients(port) == [address]


def test_an_address_of_version_4_in_one_of_version_6():
    assert orthanc_host._address("0000000000000000FFFF00000100007F") == "127.0.0.1"
