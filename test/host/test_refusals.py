"""What the formula refuses, and that nothing has happened then; and what test=True says."""

import pytest


def test_remote_access_without_a_user_is_refused_before_anything_happens(fresh_minion):
    fresh_minion.pillar(remote_access=True)
    before = fresh_minion.written()
    run = fresh_minion.state()
    assert not run.ok
    (comment,) = run.failed.values()
    assert "orthanc:remote_access" in comment
    assert "orthanc:users" in comment
    assert run.changes == {}
    assert fresh_minion.written() == before
    assert not fresh_minion.run("dpkg -s orthanc", check=False).ok
    fresh_minion.pillar(remote_access=True, demo_users=True)
    assert "demo users do not count" in fresh_minion.state().output


def test_test_mode_on_a_host_without_orthanc(fresh_minion, users):
    fresh_minion.pillar(
        users=users,
        paths={"storage": "/srv/images", "log": "/srv/log"},
        version="1.10.1+dfsg-2+deb12u1",
        packages=["orthanc", "orthanc-dicomweb"],
    )
    before = fresh_minion.written()
    for sls in ("orthanc", "orthanc.config", "orthanc.service", "orthanc.clean"):
        run = fresh_minion.state(sls, test=True)
        assert not run.failed, str(run)
        if sls != "orthanc.clean":
            assert "DicomServerEnabled" in str(run.changes["orthanc-config"])
            assert run.states["orthanc-config"]["result"] is None
    assert fresh_minion.written() == before
    assert not fresh_minion.run("dpkg -s orthanc", check=False).ok


@pytest.fixture(scope="module")
def server(minion, users):
    minion.apply(users=users)
    return minion


@pytest.mark.parametrize(
    ("wrong", "sentences"),
    [
        ({"prot": 8043}, ["orthanc:prot", "orthanc:port"]),
        ({"port": "8043", "dicom": {"AET": "X"}}, ["orthanc:port: must", "orthanc:dicom:aet"]),
        ({"users": {"x": {"password": "a${b}c", "role": "admin"}}}, ["${", "environment"]),
        ({"config": {"RegisteredUsers": {"x": "y"}}}, ["orthanc:users"]),
        ({"paths": {"log": "/root/x/log"}}, ["orthanc:paths:log", "may not enter /root"]),
        ({"paths": {"config": "/etc/ssl"}}, ["orthanc:paths:config", "holds other things"]),
        ({"paths": {"home": "/etc/x/../ssl"}}, ["orthanc:paths:home: /etc/ssl belongs to root"]),
    ],
)
def test_a_wrong_pillar_is_refused_and_the_server_serves_on(server, users, wrong, sentences):
    checksums = "find /etc/orthanc -type f -exec sha256sum {} +"
    pid, files = server.pid(), server.run(checksums).out
    server.pillar(**{"users": users, **wrong})
    for test in (True, False):
        run = server.state(test=test)
        comment = run.failed["orthanc-pillar"]
        assert not run.changes
        for sentence in sentences:
            assert sentence in comment
    assert server.pid() == pid
    assert server.run(checksums).out == files
    assert server.ask("GET", "/system").code == 401


def test_a_host_without_a_pillar_keeps_its_users(server, users):
    pid = server.pid()
    server.write("/srv/pillar/orthanc.sls", "other_formula: {}")
    for test in (True, False):
        run = server.state(test=test)
        assert "top file" in run.failed["orthanc-pillar"]
    assert server.pid() == pid
    assert server.ask("GET", "/system").code == 401
    server.pillar()
    run = server.state(test=True)
    assert not run.failed
    assert "RegisteredUsers:anna" in run.output


def test_an_option_in_a_file_that_nobody_knows_is_named(server, users):
    pid = server.pid()
    other = "/etc/orthanc/.local.JSON"
    server.write(other, '{"LimitFindResults": 7, // mine\n "DicomAet": "MINE",}')
    server.pillar(users=users, dicom={"aet": "OURS"})
    run = server.state()
    for sentence in (
        f"{other} sets LimitFindResults, which the formula sets too, by default; say it in"
        " orthanc:limit_find and remove it from that file",
        f"{other} sets DicomAet, which orthanc:dicom:aet sets too; remove it from that file",
    ):
        assert sentence in run.failed["orthanc-pillar"]
    assert server.pid() == pid
    # What nobody asked for may stand elsewhere, and so may what a trial start sets.
    mine = '{"HttpTimeout": 9, "DicomAet": "MINE", "DicomModalities": {"a": ["A", "h", 1]}, '
    mine += '"HttpPort": ${PORT:-8044}, "DicomAlwaysAllowStore": false}'
    server.write(other, mine)
    server.apply(users=users, limit_find=98)
    assert server.read(other) == mine
    who = ("anna", users["anna"]["password"])
    assert server.ask("GET", "/system", *who, port=8044).json["DicomAet"] == "MINE"
    server.run(f"rm {other}")
    server.apply(users=users, limit_find=99)
