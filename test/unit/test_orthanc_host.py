"""What the kernel says of processes and sockets."""

import os
import socket

import orthanc_host
import pytest


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
