"""What the formula refuses, and that nothing has happened then; and what test=True says."""

import pytest
import yaml
from minion import Run


def test_remote_access_without_a_user_is_refused_before_anything_happens(fresh_minion):
    fresh_minion.pillar(remote_access=True)
    before = fresh_minion.written()
    run = fresh_minion.state()
    assert not run.ok
    assert {id for id, state in run.states.items() if state["result"] is not False} <= {
        *("orthanc-nginx-default",)
    }
    comment = run.failed["orthanc-pillar"]
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
        (
            {"users": {"x": {"password": "**********", "role": "admin"}}},
            ["orthanc:users:x:password: is stars"],
        ),
        (
            {"remote_access": True, "users": {"x": {"password": "orthanc", "role": "admin"}}},
            ["orthanc:users:x:password: everybody knows"],
        ),
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


def test_each_warning_has_a_line_of_its_own(server, users):
    server.pillar(users=users, remote_access=True, limit_find=0)
    printed = server.call("state.apply", "orthanc.validation").out
    lines = [line.strip() for line in printed.splitlines()]
    for begin in ("- orthanc:remote_access: passwords and images go", "- orthanc:limit_find: 0 is"):
        assert [line for line in lines if line.startswith(begin)], printed
    server.write("/srv/open.json", '{"RemoteAccessAllowed": true, "AuthenticationEnabled": false}')
    judged = server.call("orthanc_conf.validate", "/srv/open.json").out
    assert "AuthenticationEnabled: everybody who reaches this host" in judged


def test_only_an_explicit_word_takes_the_last_users_away(server, users):
    pid = server.pid()
    for pillar, words in (
        ("other_formula: {}", "orthanc:users: is not in the pillar"),
        ("orthanc: {}", "`users: {}`"),
        ("orthanc: {port: 8042}", "top file"),
        ("orthanc:", "orthanc: is written, with nothing behind it"),
        ("orthanc: {users: }", "orthanc:users: is written, with nothing behind it"),
        ("orthanc: {users: {anna: }}", "orthanc:users:anna: is written"),
    ):
        server.write("/srv/pillar/orthanc.sls", pillar)
        for test in (True, False):
            assert words in server.state(test=test).failed["orthanc-pillar"], pillar
    assert server.pid() == pid
    assert server.ask("GET", "/system").code == 401
    server.pillar(users={})
    run = server.state(test=True)
    assert not run.failed
    assert "RegisteredUsers:anna" in run.output


# States of an administrator's own, with each way to refer to those of the formula.
FOREIGN = """
alone:
  file.managed: [{name: /srv/alone, contents: x}]
requiring:
  file.managed: [{name: /srv/requiring, contents: x, require: [{orthanc: orthanc-serving}]}]
changing:
  file.managed: [{name: /srv/changing, contents: x, onchanges: [{orthanc_conf: orthanc-config}]}]
watching:
  test.succeed_without_changes: [{watch: [{pkg: orthanc-packages}, {orthanc: orthanc-serving}]}]
required:
  file.managed: [{name: /srv/required, contents: x, require_in: [{pkg: orthanc-packages}]}]
onfail:
  file.managed: [{name: /srv/onfail, contents: x, onfail: [{orthanc_conf: orthanc-pillar}]}]
of the parts:
  test.nop:
    - require:
      - orthanc_database: orthanc-database-reached
      - orthanc_nginx: orthanc-nginx-tried
      - orthanc_backup_key: orthanc-backup-key
extend:
  orthanc-packages:
    pkg: [{require: [{file: required}]}]
"""


def test_the_rest_of_the_highstate_is_applied(server, users):
    server.write("/srv/salt/foreign.sls", FOREIGN)
    server.write("/srv/salt/top.sls", "base: {'*': [foreign, orthanc]}")
    pid, files = server.pid(), "alone requiring changing required onfail"

    def highstate(pillar):
        server.run(f"cd /srv && rm -f {files}")
        server.write("/srv/pillar/orthanc.sls", yaml.safe_dump({"orthanc": pillar}))
        return Run(server.call("state.highstate", "--out=json", check=False))

    def written():
        return server.run(f"cd /srv; ls {files}", check=False).out.split()

    # By its shape, by its options, and one of which there is nothing to render.
    for refused in ({"prot": 8043}, {"users": users, "config": {"HttpPrt": 8043}}, "text"):
        run = highstate(refused)
        assert "The pillar is refused; nothing was changed" in run.failed["orthanc-pillar"]
        assert written() == ["alone", "onfail", "required"], str(run)
        assert {"requiring", "watching", "of the parts", "orthanc-serving"} <= set(run.failed)
        assert set(run.changes) == {"alone", "required", "onfail"}
        assert server.pid() == pid

    run = highstate({"users": users, "limit_find": 7})
    assert run.ok, str(run)
    assert written() == ["alone", "changing", "required", "requiring"]
    assert server.ask("GET", "/system").code == 401


def test_a_refused_pillar_takes_nothing_away(server, users):
    # The index is Orthanc's to write.
    pid, index = server.pid(), "var/lib/orthanc/db-v6/index"
    before = {line for line in server.written() if not line.startswith(index)}
    server.pillar(users=users, prot=8043)
    for sls in ("orthanc.clean", "orthanc.config.clean", "orthanc.links.clean"):
        for test in (True, False):
            run = server.state(sls, test=test)
            assert "orthanc:prot" in run.failed["orthanc-pillar"]
            assert set(run.failed) == set(run.states)
    assert {line for line in server.written() if not line.startswith(index)} == before
    assert server.pid() == pid


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
