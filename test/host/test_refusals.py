"""What the formula refuses, and that nothing has happened then; and what test=True says."""

import pytest
import yaml
from minion import Run


@pytest.fixture(scope="module")
def minion(pristine_minion):
    return pristine_minion


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


def test_test_mode_on_a_host_without_orthanc(minion, users):
    minion.pillar(
        users=users,
        paths={"storage": "/srv/images", "log": "/srv/log"},
        version="1.10.1+dfsg-2+deb12u1",
        packages=["orthanc", "orthanc-dicomweb"],
    )
    before = minion.written()
    for sls in ("orthanc", "orthanc.config", "orthanc.service", "orthanc.clean"):
        run = minion.state(sls, test=True)
        assert not run.failed, str(run)
        if sls != "orthanc.clean":
            assert "DicomServerEnabled" in str(run.changes["orthanc-config"])
            assert run.states["orthanc-config"]["result"] is None
    assert minion.written() == before
    assert not minion.run("dpkg -s orthanc", check=False).ok


# A backup of an index alone, without the files that it knows.
INDEX_OF_NINE = """
import sqlite3, uuid
index = sqlite3.connect("/srv/images/index")
index.execute("CREATE TABLE AttachedFiles(id INTEGER, uuid TEXT)")
rows = [(number, str(uuid.uuid4())) for number in range(9)]
index.executemany("INSERT INTO AttachedFiles VALUES (?, ?)", rows)
index.commit()
"""
NEW_DISK = """
    mkdir -p {0} {1}; mount -t tmpfs -o mode=755 disk {0}; mkdir -m 700 {0}/lost+found
    mount --bind {0} {1}
"""


class Disks:
    """A server whose home and images are on disks of their own."""

    gone = "orthanc:paths:storage: the server had images in /srv/images, and none of them is there"
    lacking = "orthanc:paths:storage: the index knows images whose files are not in /srv/images"

    def __init__(self, host, users, image):
        self.host, self.users, self.image = host, users, image
        self.who = ("anna", users["anna"]["password"])
        self.paths = {"storage": "/srv/images"}

    def apply(self):
        return self.host.apply(users=self.users, paths=self.paths)

    def refused(self, *words, tests=(False,)):
        pid = self.host.pid()
        for test in tests:
            run = self.host.state(test=test)
            for word in words:
                assert word in run.failed["orthanc-pillar"], str(run)
            assert not run.changes
        assert self.host.pid() == pid

    def store(self):
        answer = self.host.ask("POST", "/instances", *self.who, data=f"@{self.image()}")
        assert answer.code == 200, str(answer)
        return answer.json["ID"]

    def stored(self):
        return self.host.ask("GET", "/instances", *self.who).json


@pytest.fixture(scope="module")
def disks(minion, users, image):
    minion.run(NEW_DISK.format("/mnt/home", "/var/lib/orthanc"))
    minion.run(NEW_DISK.format("/mnt/disk", "/srv/images"))
    return Disks(minion, users, image)


def test_an_index_that_was_restored_alone_is_refused(disks, users):
    host = disks.host
    host.run(f"python3 -c '{INDEX_OF_NINE}'")
    host.pillar(users=users, paths=disks.paths)
    remedy = "restore them to /srv/images; to begin anew without them, stop the server and move"
    there_is_no_account = "or install the package of orthanc and chown"
    disks.refused(disks.lacking, remedy, there_is_no_account, tests=(True, False))
    assert not host.run("dpkg -s orthanc", check=False).ok
    host.run("rm /srv/images/index")


def test_new_disks_of_root_take_one_run(disks):
    host = disks.host
    assert not host.state(test=True).failed
    disks.apply()
    places = "/srv/images /var/lib/orthanc /srv/images/lost+found /var/lib/orthanc/lost+found"
    assert host.run(f"stat -c '%a %U %G' {places}").out.splitlines() == [
        *["750 orthanc orthanc"] * 2,
        *["700 root root"] * 2,
    ]
    assert host.run("stat -c '%a %U' /etc/orthanc.identity").out.split() == ["600", "root"]
    disks.store()
    assert host.state().changes == {}


def test_a_disk_that_is_not_mounted_is_missed(disks, users):
    host, stored = disks.host, disks.stored()
    assert stored
    host.run("systemctl stop orthanc; umount /srv/images; chown orthanc /srv/images")
    host.pillar(users={"anna": users["anna"]}, paths=disks.paths)
    disks.refused(disks.gone, "`mount /srv/images`", "rm /etc/orthanc.identity")
    # As at a boot without it, where it is not in /etc/fstab.
    host.run("systemctl reset-failed orthanc; systemctl start orthanc")
    host.wait_for_port()
    assert disks.stored() == []
    disks.refused(disks.gone, tests=(True,))
    disks.store()
    disks.refused(disks.gone)
    found = host.call("orthanc_conf.validate", check=False)
    assert found.code == 1
    assert disks.gone in found.out
    # It is there again, but not for the Orthanc that runs.
    host.run("mount --bind /mnt/disk /srv/images")
    assert "restarted" in str(host.state(test=True).changes["orthanc-serving"])
    run = disks.apply()
    assert "orthanc-serving" in run.changes
    assert (
        "beneath the point where the disk is mounted now"
        in run.states["orthanc-serving"]["warnings"][0]
    )
    assert disks.stored() == stored
    assert host.state().changes == {}


def test_images_and_index_belong_together(disks):
    host, stored = disks.host, disks.stored()
    host.run("systemctl stop orthanc; mv /srv/images/index /mnt/index")
    words = "orthanc:paths:index: there are images in /srv/images, and their index"
    disks.refused(words, "put it back from the backup")
    host.run("mv /mnt/index /srv/images/index; mkdir /mnt/aside; mv /srv/images/?? /mnt/aside")
    disks.refused(disks.lacking)
    host.run("mv /mnt/aside/?? /srv/images")
    disks.apply()
    assert disks.stored() == stored
    # What was deleted through Orthanc is not missed.
    for name in stored:
        assert host.ask("DELETE", f"/instances/{name}", *disks.who).code == 200
    host.run("systemctl stop orthanc")
    disks.apply()
    assert disks.stored() == []


def test_images_move_to_a_new_disk(disks):
    host, name = disks.host, disks.store()
    # Somebody wrote into the note: it is made anew.
    host.write("/etc/orthanc.identity", '{"storage": []}')
    disks.apply()
    host.run("systemctl stop orthanc; umount /srv/images; mkdir /mnt/new")
    host.run("mount -t tmpfs new /mnt/new; mount --bind /mnt/new /srv/images")
    disks.refused(disks.gone, "another file system is mounted at /srv/images now")
    host.run("cp -aT /mnt/disk /srv/images")
    disks.apply()
    assert disks.stored() == [name]
    assert host.state().changes == {}


def test_images_are_given_up_as_the_sentence_says(disks):
    host = disks.host
    host.run("systemctl stop orthanc; umount /srv/images; rm -r /srv/images/*")
    disks.refused(disks.gone)
    host.run("rm /etc/orthanc.identity")
    disks.apply()
    assert disks.stored() == []


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
    server.write(other, '{"LimitFindResults": 7, // mine\n "DicomAet": "MINE", "LuaScripts": []}')
    server.pillar(users=users, dicom={"aet": "OURS"})
    run = server.state()
    for sentence in (
        f"{other} sets LimitFindResults, which the formula sets too, by default; say it in"
        " orthanc:limit_find and remove it from that file",
        f"{other} sets DicomAet, which orthanc:dicom:aet sets too; remove it from that file",
        f"{other} sets LuaScripts, which the formula sets too; say it in orthanc:config:LuaScripts",
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
