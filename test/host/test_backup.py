"""Backups of a server that works, killed, restored, and made where there is no Salt."""

import contextlib
import hashlib
import json
import shlex
import time

import documentation
import pytest
import s3
import testbed
import yaml
from clients import meanwhile
from minion import FORMULA, Minion, Server

REPOSITORY = "/srv/backup/orthanc"
FOLDER = "/etc/orthanc-backup"
STORAGE = {"leap": "/var/lib/orthanc/OrthancStorage"}
UNIT = "orthanc-backup"
REST_PASSWORD = "Geheim-1234-of-REST"
# What shells, restic and systemd have words of their own for.
ODD = "/srv/a b/100% [é]* $HOME;x"
# In the place of cp: too slow for a server to stand still meanwhile.
SLOW = "#!/bin/sh\nsleep 60\n"
# What systemd keeps from an Orthanc, which is known by its number or by what it was called with.
RESTRICTIONS = """
for each in $(pgrep -ix orthanc); do
  echo $each $(tr '\\0' ' ' < /proc/$each/cmdline) | grep -q '{of}' || continue
  {{ grep -E '^(NoNewPrivs|Seccomp|Cap...):' /proc/$each/status
     sed -n 's/^ *\\([^:]*\\):.*/reaches \\1/p' /proc/$each/net/dev
     grep -E ' / / ' /proc/$each/mountinfo | cut -d' ' -f5,6; }} 2>/dev/null | sort
done
"""


@pytest.fixture(scope="module", params=["bookworm", "trixie", "leap"])
def server(request, salt_version, users):
    with Minion(testbed.deployed(request.param, salt_version)) as host:
        host.system = request.param
        host.storage = STORAGE.get(request.param, "/var/lib/orthanc/db-v6")
        host.anna = ("anna", users["anna"]["password"])
        host.settings = {"users": users, "backup": {"repository": REPOSITORY}}
        host.first = host.apply(**host.settings)
        host.run("mkdir /srv/backup; mount -t tmpfs other-disk /srv/backup")
        yield host


def store(server, file) -> str:
    answer = server.ask("POST", "/instances", *server.anna, data=f"@{file}")
    assert answer.code == 200, answer
    return answer.json["ID"]


def content(server, image: str) -> str:
    """Return the hash of an image as the server delivers it."""
    answer = server.ask("GET", f"/instances/{image}/file", *server.anna)
    return hashlib.sha256(answer.body).hexdigest() if answer.code == 200 else str(answer)


def hash_of(file) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def delete(server, image: str, **given) -> None:
    assert server.ask("DELETE", f"/instances/{image}", *server.anna, **given).code == 200


def called(server, function: str, *words: str):
    return json.loads(server.call(f"orthanc.{function}", *words, "--out=json").out)["local"]


def wait_for_end(server, unit: str) -> None:
    over = f"systemctl show --property=ActiveState {unit} | grep -Eq 'failed|inactive'"
    server.run(f"for i in $(seq 600); do {over} && exit; sleep 0.1; done; exit 1")


def note(server) -> dict:
    return json.loads(server.read("/etc/orthanc.backup"))


@contextlib.contextmanager
def busy(server, image, doomed: list):
    """Let a client store images, and delete each second one and some that were there before."""
    failed = []

    def work():
        try:
            store(server, image())
            delete(server, store(server, image()))
            if doomed:
                delete(server, doomed.pop())
        except AssertionError as err:
            failed.append(err)

    with meanwhile(work):
        yield
    assert failed == []


@pytest.fixture(scope="module")
def nas():
    """Another host, to which backups go over SSH, or to its REST server, which keeps all."""
    with Server(testbed.root("bookworm")) as host:
        packages = "openssh-server rclone"
        host.run(f"apt-get install -y -qq --no-install-recommends {packages} >/dev/null")
        host.run("systemctl start ssh; useradd --create-home --shell /bin/bash pacs-backup")
        words = f"--append-only --addr :8000 --user pacs --pass {REST_PASSWORD} /srv/rest"
        host.run(f"systemd-run --quiet --unit=rest rclone serve restic {words}")
        host.wait_for_port(8000)
        yield host


@pytest.fixture
def storage():
    """A server of S3."""
    with s3.Storage() as storage:
        yield storage


def seen_while(server, command: str, look: str = "ps axww -o args") -> str:
    """Return what is seen while a command runs; by default, the command lines."""
    look = f"while kill -0 $pid 2>/dev/null; do {look}\ndone | sort -u"
    return server.run(f"{command.strip()} >/srv/out 2>&1 & pid=$!; {look}; wait $pid").out


def test_it_is_set_up_once_and_tells_to_keep_the_password(server):
    state = server.first.states["orthanc-backup"]
    assert any("KEEP A COPY of /etc/orthanc-backup/password" in w for w in state["warnings"])
    assert f"orthanc:backup:repository: {REPOSITORY} is on the disk of" in str(state["warnings"])
    assert len(state["changes"]) < 10
    password = server.read(f"{FOLDER}/password").strip()
    assert password not in str(server.first)
    shown = server.run(f"stat -c '%a %U' {FOLDER} {FOLDER}/password {FOLDER}/job.json").out
    assert shown.split() == ["700", "root", "600", "root", "600", "root"]
    timer = server.run(f"systemctl show -p NextElapseUSecRealtime --value {UNIT}.timer").out
    assert " 02:" in timer
    again = server.state()
    assert again.ok, str(again)
    assert again.changes == {}
    assert server.read(f"{FOLDER}/password").strip() == password
    (warning,) = again.states["orthanc-backup"]["warnings"]
    assert "no backup yet" in warning


def test_what_was_acknowledged_is_in_it_although_images_come_and_go(server, image):
    files = [image() for _ in range(40)]
    kept = {store(server, file): hash_of(file) for file in files[:30]}
    doomed = [store(server, file) for file in files[30:]]
    with busy(server, image, doomed):
        ((_, _, commands),) = (
            block for block in documentation.section("Backup") if block[0] == "test"
        )
        assert "bytes" in server.run(commands).out
        last = {store(server, file): hash_of(file) for file in (image(), image())}
        # As at night, where the host of salt-ssh has no Salt.
        server.run(f"mv /opt/salt /opt/away; systemctl start {UNIT}; mv /opt/away /opt/salt")
    good = note(server)["good"]
    assert good == note(server)["backup"]
    assert good["error"] is good["warning"] is None
    assert good["lost"] == []
    assert good["images"] >= len(kept) + len(last)
    newest = called(server, "backups")[0]
    assert (newest["snapshot"], newest["images"]) == (good["snapshot"], good["images"])
    assert server.run(f"ls -A {server.storage} | grep orthanc-", check=False).out == ""
    run = server.state()
    assert run.changes == {}
    assert "never restored" in str(run.states["orthanc-backup"]["warnings"])

    # It is tried, and nothing of that stays.
    ((_, _, command),) = documentation.section("Is it good?")
    kept_out = seen_while(server, command, RESTRICTIONS.format(of="orthanc-drill/orthanc.json"))
    assert "served" in server.read("/srv/out")
    of_server = server.run(RESTRICTIONS.format(of=server.pid())).out
    (device,) = {line for line in of_server.splitlines() if "reaches" in line} - {"reaches lo"}
    assert kept_out == of_server.replace(f"{device}\n", "")
    drill = note(server)["drill"]
    assert drill["error"] is None
    assert drill["served"] == min(drill["images"] - len(drill["deleted"]), 200)
    assert drill["images"] == good["images"]
    assert "warnings" not in server.state().states["orthanc-backup"]
    assert server.run(f"ls -A {server.storage} | grep orthanc-", check=False).out == ""

    # All is lost but the repository and the copy of the password.
    server.run(f"systemctl stop orthanc; cp {FOLDER}/password /root; rm -rf {server.storage}")
    server.run("rm -rf /etc/orthanc /etc/orthanc.*; rm -rf /etc/systemd/system/orthanc.service.d")
    ((_, _, commands),) = documentation.section("Restoring by hand")
    server.run(f"set -e\n{commands.replace('/var/lib/orthanc/db-v6', server.storage)}")
    server.wait_for_port()
    for known, wanted in {**kept, **last}.items():
        assert content(server, known) == wanted
    assert server.ask("GET", "/system").code == 401
    # Only what was being deleted or stored in the very moment differs.
    found = json.loads(server.call("orthanc.verify", "--out=json", check=False).out)["local"]
    assert found["wrong"] == found["empty"] == []
    for study in found["studies"]:
        assert server.ask("DELETE", f"/studies/{study}", *server.anna).code == 200
    # As long as damage is noted, no older backup is removed.
    called(server, "verify")
    run = server.state()
    assert run.ok, str(run)


# The oldest and the newest restic that there are.
@pytest.mark.parametrize("server", ["bookworm", "trixie"], indirect=True, scope="module")
def test_one_that_is_killed_leaves_the_server_running(server, image):
    known = store(server, image())
    called(server, "backup")
    server.write("/usr/local/bin/cp", SLOW)
    server.run("chmod +x /usr/local/bin/cp")
    pid = server.pid()
    server.run(f"systemctl start --no-block {UNIT}")
    stopped = f"grep -q '^State:.T' /proc/{pid}/status"
    server.run(f"timeout 60 sh -c 'until {stopped}; do sleep 0.05; done'")
    # With all that the unit has started, and what it starts at its end.
    server.run(f"systemctl kill -s KILL {UNIT}")
    assert server.ask("GET", "/system", *server.anna, limit=30).code == 200
    server.run("rm /usr/local/bin/cp")
    wait_for_end(server, UNIT)
    assert "was killed" in note(server)["backup"]["error"]
    assert note(server)["good"]["error"] is None
    assert "was killed" in str(server.state().states["orthanc-backup"]["warnings"])

    # While restic writes: its lock is in the way of the next one, which removes old backups.
    server.apply(**{**server.settings, "backup": {"repository": REPOSITORY, "limit_upload": 1}})
    server.run(f"systemctl start --no-block {UNIT}")
    writes = 'pgrep -f "^[^ ]*restic .*backup" && ls -A /srv/backup/orthanc/locks | grep -q .'
    server.run(f"timeout 60 sh -c 'until {writes}; do sleep 0.05; done'")
    server.run(f"systemctl kill -s KILL {UNIT}")
    assert server.ask("GET", f"/instances/{known}", *server.anna).code == 200
    assert server.run("ls -A /srv/backup/orthanc/locks").out
    server.apply(**server.settings)
    found = called(server, "backup")
    assert found["warning"] is None
    assert server.run("ls -A /srv/backup/orthanc/locks").out == ""
    assert server.run(f"ls -A {server.storage} | grep orthanc-", check=False).out == ""
    assert server.pid() == pid


@pytest.mark.parametrize("server", ["trixie"], indirect=True, scope="module")
def test_a_drill_finds_what_a_backup_lacks(server, image):
    # More than half of all are not lost.
    for _ in range(4):
        store(server, image())
    file = image()
    lost = store(server, file)
    info = server.ask("GET", f"/instances/{lost}/attachments/dicom/info", *server.anna).json
    uuid = info["Uuid"]
    path = f"{server.storage}/{uuid[:2]}/{uuid[2:4]}/{uuid}"
    sound = called(server, "backup")["snapshot"]
    server.run(f"mv {path} /srv/lost")
    found = called(server, "backup")
    assert found["lost"] == [uuid]
    assert "no older backup is removed" in found["warning"]
    failed = server.call("orthanc.drill", check=False)
    assert "of the restored files are 1 missing" in failed.out + failed.err
    # Nor is what it lacks restored as if it were an image.
    study = server.ask("GET", f"/instances/{lost}/study", *server.anna).json["ID"]
    failed = server.call("orthanc.restore", "target=/srv/none", f"study={study}", check=False)
    assert f"this backup has no sound file ({lost}). An earlier" in failed.out + failed.err
    assert not server.run("ls -A /srv/none").out
    # One of another size is lost, too, as after a full disk.
    server.run(f"cp -p /srv/lost {path}; truncate -s 0 {path}")
    assert called(server, "backup")["lost"] == [uuid]
    # Of what only a drill sees, the sound files in older backups stay, too.
    server.run(f"cp -p /srv/lost {path}; printf X | dd of={path} bs=1 seek=300 conv=notrunc")
    found = called(server, "backup")
    assert found["lost"] == []
    assert "the last drill found files" in found["warning"]
    # An older one has it, and the newest has not.
    ((_, _, command),) = documentation.section("Damaged files")
    assert "the backup" not in server.run(command).out
    words = ("repair", f"snapshot={sound}")
    would = called(server, *words)
    assert would["put back"] == {uuid: "the backup"}
    assert called(server, *words, "test=False") == would
    assert content(server, lost) == hash_of(file)
    called(server, "verify")
    server.run("rm /srv/lost")


@pytest.mark.parametrize("server", ["trixie"], indirect=True, scope="module")
def test_a_drill_that_is_killed_leaves_nothing(server):
    """And no Orthanc either."""
    server.run("systemctl start --no-block orthanc-drill")
    restored = f"ls {server.storage}/.orthanc-drill"
    server.run(f"timeout 60 sh -c 'until {restored}; do sleep 0.05; done' 2>/dev/null")
    server.run("kill -9 $(systemctl show --property=MainPID --value orthanc-drill)")
    wait_for_end(server, "orthanc-drill")
    assert not server.run(restored, check=False).ok
    assert server.run("pgrep -icx orthanc").out.strip() == "1"
    assert note(server)["drill"]["error"] == "it was killed"
    called(server, "backup")
    called(server, "drill")


@pytest.mark.parametrize("server", ["trixie"], indirect=True, scope="module")
def test_links_and_another_disk_are_no_good_backup(server, image):
    # restic keeps links as they are, and what a drill restores of them leads to the server's own.
    path = f"/instances/{store(server, image())}/attachments/dicom/info"
    folder = f"{server.storage}/{server.ask('GET', path, *server.anna).json['Uuid'][:2]}"
    server.run(f"mv {folder} /srv/folder; ln -s /srv/folder {folder}")
    failed = server.call("orthanc.backup", check=False)
    assert f"what links lead to is not in it: {folder}." in failed.out + failed.err
    failed = server.call("orthanc.drill", check=False)
    assert "missing; see orthanc.verify" in failed.out + failed.err
    server.run(f"rm {folder}; mv /srv/folder {folder}")
    # Where the disk of the images is another one, there is no backup, which would be the newest.
    server.state()
    before = called(server, "backups")
    server.run(f"mount -t tmpfs empty {server.storage}")
    failed = server.call("orthanc.backup", check=False)
    assert "and none of them is there" in failed.out + failed.err
    assert "critical: the server had images" in server.call("orthanc.health", check=False).out
    server.run(f"umount {server.storage}")
    assert called(server, "backups") == before
    called(server, "backup")
    called(server, "drill")


@pytest.mark.parametrize("server", ["trixie"], indirect=True, scope="module")
def test_a_backup_comes_back_whole_or_in_part(server, image):
    file = image()
    known = store(server, file)
    found = called(server, "backup")
    study = server.ask("GET", f"/instances/{known}/study", *server.anna).json
    newer = image()
    later = store(server, newer)
    # A study that was deleted by mistake, by either of its names.
    delete(server, known)
    uid = study["MainDicomTags"]["StudyInstanceUID"]
    for name, folder in ((study["ID"], "/srv/one"), (uid, "/srv/other")):
        paths = called(server, "restore", f"target={folder}", f"study={name}")
        assert paths == [f"{folder}/{known}.dcm"]
        assert server.path(paths[0]).read_bytes() == file.read_bytes()
    # All, in the place of what the server has.
    refused = server.call("orthanc.restore", check=False)
    assert "overwrite=True puts the backup in their place" in refused.out + refused.err
    assert content(server, later) == content(server, later)
    back = called(server, "restore", "overwrite=True", f"snapshot={found['snapshot']}")
    assert [back[name] for name in ("snapshot", "images")] == [
        found[name] for name in ("snapshot", "images")
    ]
    assert content(server, known) == hash_of(file)
    assert server.ask("GET", f"/instances/{later}", *server.anna).code == 404
    assert server.path(f"{back['kept']}/index").exists()
    # It was the wrong one.
    ((_, _, commands),) = documentation.section("The way back from a restore")
    server.run(f"set -e\n{commands}")
    server.wait_for_port()
    assert content(server, later) == hash_of(newer)
    assert server.ask("GET", f"/instances/{known}", *server.anna).code == 404
    server.run(f"rm -r {server.storage}/.before-restore-* /srv/one /srv/other")
    assert server.state().changes == {}


@pytest.mark.parametrize("server", ["trixie"], indirect=True, scope="module")
def test_what_nobody_could_open_is_refused(server):
    password = server.read(f"{FOLDER}/password")
    server.run(f"mv {FOLDER}/password /root/copy")
    health = server.call("orthanc.health", check=False).out
    assert f"the password of the backups, {FOLDER}/password, is gone" in health
    for test in (True, False):
        run = server.state("orthanc.backup", test=test)
        assert "Put your copy of it back there" in run.failed["orthanc-backup"]
    server.run(f"mv /root/copy {FOLDER}/password")
    other = {"repository": REPOSITORY, "password": "Another-one"}
    server.pillar(**{**server.settings, "backup": other})
    run = server.state("orthanc.backup")
    assert "does not open the repository" in run.failed["orthanc-backup"]
    assert "Another-one" not in str(run)
    assert server.read(f"{FOLDER}/password") == password
    # A disk that is not mounted is no reason to begin anew.
    server.apply(**server.settings)
    server.run("mv /srv/backup/orthanc /srv/aside")
    failed = server.call("orthanc.backup", check=False)
    assert "Is its disk mounted" in failed.out + failed.err
    assert not server.path(REPOSITORY).exists()
    # Nor a full one to do harm.
    server.run(f"mkdir -p {REPOSITORY}; mount -t tmpfs -o size=64k small {REPOSITORY}")
    server.run(f"rm {FOLDER}/repositories")
    failed = server.call("orthanc.backup", check=False)
    assert "the disk of the repository is full" in failed.out + failed.err
    assert server.ask("GET", "/system", *server.anna).code == 200
    server.run(f"umount {REPOSITORY}; rmdir {REPOSITORY}; mv /srv/aside {REPOSITORY}")
    called(server, "backup")
    # A schedule that systemd does not know.
    server.pillar(**{**server.settings, "backup": {"repository": REPOSITORY, "schedule": "noon"}})
    run = server.state("orthanc.backup")
    assert "orthanc:backup:schedule: systemd does not know 'noon'" in run.failed["orthanc-backup"]


@pytest.mark.parametrize("server", ["bookworm"], indirect=True, scope="module")
def test_a_rest_server_keeps_what_the_host_would_delete(server, nas, image):
    address = f"rest:http://pacs:{REST_PASSWORD}@{nas.address}:8000/"
    kept = dict.fromkeys(("daily", "weekly", "monthly", "yearly"), 0)
    settings = {**server.settings, "backup": {"repository": address, "keep": kept}}
    shown = [server.apply(**settings)]
    known = store(server, image())
    seen = seen_while(server, "salt-call -l debug orthanc.backup")
    found = note(server)["good"]
    assert (found["error"], found["warning"]) == (None, None)
    # Who has taken over the host has all that restic needs.
    server.write("/root/address", address)
    restic = f"restic --repository-file /root/address --password-file {FOLDER}/password"
    assert not server.run(f"{restic} forget {found['snapshot']} --prune", check=False).ok
    drill = called(server, "drill")
    assert drill["served"] == min(drill["images"], 200)
    delete(server, known)
    called(server, "restore", "overwrite=True", f"snapshot={found['snapshot']}")
    assert content(server, known)
    # As on an empty machine.
    begin = f"bash {FORMULA}/orthanc/masterless.sh --restore {{}} {FOLDER}/password"
    refused = server.run(begin.format(address), check=False)
    assert "write it into a file (chmod 600), and name that" in refused.out + refused.err
    seen += seen_while(server, f"sh -c '{begin.format('/root/address')}; true'")
    assert "This backup is of a server with a master" in server.read("/srv/out")
    shown += [seen, server.read("/srv/out"), refused, server.state()]
    shown += [server.run("journalctl; cat /var/log/salt/* /etc/orthanc.backup").out]
    assert not [str(text) for text in shown if REST_PASSWORD in str(text)]


@pytest.mark.parametrize("server", ["bookworm"], indirect=True, scope="module")
def test_over_ssh_with_the_key_and_nobody_sees_the_password(server, nas, image):
    secret = "Geheim-0815-of-the-pillar"
    backup = {
        "repository": f"sftp:pacs-backup@{nas.address}:backup",
        "password": secret,
        "environment": {"UNUSED": "Geheim-4711"},
    }
    key = {"enabled": True, "remote_user": "pacs-backup"}
    run = server.apply(**{**server.settings, "backup": backup, "backup_key": key})
    failed = server.call("orthanc.backup", check=False)
    assert "`salt-call orthanc.backup_key` shows the key" in failed.out + failed.err
    line = called(server, "backup_key")["on_the_backup_host"].splitlines()[-1]
    nas.write("/home/pacs-backup/.ssh/authorized_keys", line + "\n")
    nas.run("chown -R pacs-backup: /home/pacs-backup/.ssh")
    store(server, image())
    seen = seen_while(server, "salt-call -l debug orthanc.backup")
    assert "restic" in seen
    assert called(server, "backups")[0]["images"] == note(server)["good"]["images"]
    assert nas.run("ls /home/pacs-backup/backup/snapshots | wc -l").out.strip() == "1"
    # Another server in the same repository.
    server.run(f'sed -i \'s/"host": "[^"]*"/"host": "other"/\' {FOLDER}/job.json')
    called(server, "backup")
    assert len({one["host"] for one in called(server, "backups")}) == 2
    nas.power_off()
    failed = server.call("orthanc.backup", check=False)
    shown = [run, server.state(), failed, server.read("/srv/out"), seen]
    shown += [server.run("journalctl; cat /var/log/salt/* /etc/orthanc.backup").out]
    shown += [server.call("state.show_low_sls", "orthanc").out]
    assert not [str(text) for text in shown if secret in str(text) or "Geheim-4711" in str(text)]


@pytest.mark.parametrize("server", ["trixie"], indirect=True, scope="module")
def test_a_restore_that_was_cut_off_is_repeated(server, image):
    """Killed while it restores, and before the change; then the power is cut amid the change."""
    server.pillar(**server.settings)
    server.run("cp -a /srv/backup/orthanc /srv/aside; umount /srv/backup")
    server.run(f"mv /srv/aside {REPOSITORY}")
    files = [image() for _ in range(4)]
    kept = {store(server, file): hash_of(file) for file in files}
    called(server, "backup")
    later, pid = store(server, image()), server.pid()
    aside = f"{server.storage}/.orthanc-restore"
    for program, word, sign in (("restic", "restore", "chosen"), ("systemctl", "stop", "whole")):
        real = server.run(f"command -v {program}").out.strip()
        slow = f'case " $* " in *" {word} "*) sleep 60;; esac; exec {real} "$@"'
        server.write(f"/usr/local/bin/{program}", f"#!/bin/sh\n{slow}\n")
        server.run(f"chmod +x /usr/local/bin/{program}")
        server.run(
            "salt-call orthanc.restore overwrite=True >/srv/out 2>&1 & "
            f"timeout 90 sh -c 'until [ -e {aside}/{sign} ]; do sleep 0.05; done' && sleep 1; "
            "kill -9 $!; cat /srv/out"
        )
        server.run(f"rm /usr/local/bin/{program}; pkill -x sleep", check=False)
        assert content(server, later) != ""
        assert server.pid() == pid
    # What cannot be moved: the change stops in the midst of it.
    folder = sorted(server.run(f"ls {aside}{server.storage}").out.split())[-1]
    server.run(f"mount -t tmpfs busy {aside}{server.storage}/{folder}")
    failed = server.call("orthanc.restore", "overwrite=True", check=False)
    assert "the server is stopped until you repeat it" in failed.out + failed.err
    server.power_off()
    server.boot()
    server.wait_for_port()
    between = store(server, image())
    failed = server.call("orthanc.backup", check=False)
    assert "a restore was interrupted" in failed.out + failed.err
    assert "a restore was interrupted" in str(server.state("orthanc.backup"))
    told = server.call("orthanc.health", check=False).out
    assert "critical: a restore was interrupted" in told
    back = called(server, "restore")
    assert all(content(server, known) == wanted for known, wanted in kept.items())
    for gone in (later, between):
        assert server.ask("GET", f"/instances/{gone}", *server.anna).code == 404
    found = json.loads(server.call("orthanc.verify", "--out=json").out)["local"]
    assert found["missing"] == found["empty"] == found["wrong"] == []
    indexes = server.run(f"ls {back['kept']} | grep -x 'index[.0-9]*'").out.split()
    assert indexes == ["index", "index.1"]
    assert not server.path(aside).exists()
    called(server, "backup")


@pytest.mark.parametrize("server", ["trixie"], indirect=True, scope="module")
def test_it_goes_and_what_was_made_stays(server):
    """Last: it takes the server away."""
    server.apply(users=server.settings["users"])
    assert not server.run(f"systemctl list-timers --all | grep {UNIT}", check=False).ok
    left = server.run(f"ls {FOLDER}").out.split()
    assert left == ["password", "repositories"]
    assert "orthanc_" not in server.run("ls /usr/local/lib/orthanc-formula", check=False).out
    assert server.run(f"ls {REPOSITORY}/config").ok
    assert server.state().changes == {}


def test_with_postgresql(salt_version, users, image):
    with Minion(testbed.deployed("trixie", salt_version)) as server:
        server.anna = ("anna", users["anna"]["password"])
        server.apply(
            users=users,
            postgresql={"enabled": True},
            paths={"storage": ODD},
            backup={"repository": REPOSITORY, "schedule": "Sat 03:00"},
        )
        files = [image() for _ in range(10)]
        kept = {store(server, file): hash_of(file) for file in files}
        with busy(server, image, []):
            found = called(server, "backup")
            drill = called(server, "drill")
        assert min(found["images"], drill["images"]) >= 10
        assert drill["served"] >= 10
        assert "orthanc_drill" not in server.run("psql -Atl", user="postgres").out
        known = next(iter(kept))
        study = server.ask("GET", f"/instances/{known}/study", *server.anna).json
        for number, name in enumerate((study["ID"], study["MainDicomTags"]["StudyInstanceUID"])):
            (path,) = called(server, "restore", f"target=/srv/{number}", f"study={name}")
            assert server.path(path).read_bytes() == files[0].read_bytes()
        later = store(server, image())
        back = called(server, "restore", "overwrite=True")
        assert server.ask("GET", f"/instances/{later}", *server.anna).code == 404
        assert all(content(server, known) == wanted for known, wanted in kept.items())
        assert back["away"] < 60
        # Of what is here already, what is lost comes back alone.
        server.run(f"cd '{ODD}' && rm $(find ?? -type f | head -1)")
        called(server, "restore", "again=True")
        assert all(content(server, known) == wanted for known, wanted in kept.items())
        server.run(f"systemctl stop orthanc; cp {FOLDER}/password /root; rm -rf '{ODD}'")
        server.run("dropdb orthanc; createdb -O orthanc orthanc", user="postgres")
        restore = f"restic -r {REPOSITORY} --password-file /root/password restore latest --target /"
        server.run(restore)
        # As root, who opens the file, and as Orthanc, who owns the database.
        server.run(
            "runuser -u orthanc -- pg_restore --no-owner --exit-on-error --dbname=orthanc"
            f" < '{ODD}/.orthanc-backup/database.dump'"
        )
        server.run("systemctl start orthanc")
        server.wait_for_port()
        for known, wanted in kept.items():
            assert content(server, known) == wanted


def route(host) -> dict:
    told = host.run("orthanc-formula orthanc.routes --out=json", check=False)
    found = json.loads(told.out)
    return found.get("local", found)["routes"]["all"]


def wait_until(host, number: int) -> None:
    """Wait until so many images wait for the route."""
    end = time.monotonic() + 90
    while route(host)["waiting"] != number:
        assert time.monotonic() < end, route(host)


def test_the_same_server_on_an_empty_machine_of_another_system(salt_version, users, image, storage):
    repository = f"s3:{storage.url}/pacs"
    backup = {"repository": repository, "environment": storage.credentials}
    pillar = {"orthanc": {"users": users, "backup": backup, "port": 8050}}
    pillar["orthanc"]["config"] = {"LuaScripts": ["/etc/orthanc/own.lua"], "Name": "Ward 3"}
    # Away: nothing listens there, and nobody sends from there.
    away = {"Url": "http://127.0.0.2:8051/", "Username": "anna"}
    pillar["orthanc"]["peers"] = {"away": {**away, "Password": users["anna"]["password"]}}
    pillar["orthanc"]["routes"] = {"all": {"to": "away"}}
    formula = "cd /srv/formulas/orthanc-formula"
    anna = ("anna", users["anna"]["password"])
    files = [image() for _ in range(5)]
    with Minion(testbed.deployed("bookworm", salt_version)) as old:
        old.anna = anna
        old.write("/etc/orthanc/own.lua", "-- of our own")
        old.write("/root/pacs.sls", yaml.safe_dump(pillar))
        old.run(f"{formula} && bash orthanc/masterless.sh /root/pacs.sls")
        for file in files:
            assert old.ask("POST", "/instances", *anna, data=f"@{file}", port=8050).code == 200
        wait_until(old, 5)
        oldest = route(old)["oldest"]
        old.run(f"{formula} && bash orthanc/masterless.sh orthanc.backup")
        password = old.read(f"{FOLDER}/password")
        images = old.ask("GET", "/instances", *anna, port=8050).json
        kept = {
            each: old.ask("GET", f"/instances/{each}/file", *anna, port=8050).body
            for each in images
        }
        ((_, _, command),) = documentation.section("The same server on an empty machine")
        command = command.replace(REPOSITORY, repository)
        given = shlex.join(f"{name}={value}" for name, value in storage.credentials.items())
        # The next release, and one with other folders and packages.
        for system in ("trixie", "leap"):
            with Server(testbed.root_with_salt(system, salt_version)) as new:
                new.install_formula()
                new.write("/root/password", password)
                done = new.run(f"export {given}; {formula} && {command}", timeout=600)
                assert password.strip() not in str(done)
                assert f"images: {len(kept)}\ndamaged: 0\n" in done.out
                for each, body in kept.items():
                    assert new.ask("GET", f"/instances/{each}/file", *anna, port=8050).body == body
                assert new.ask("GET", "/system", port=8050).code == 401
                assert new.ask("GET", "/system", *anna, port=8050).json["Name"] == "Ward 3"
                assert new.read("/root/pacs.sls") == yaml.safe_dump(pillar)
                # What had not arrived waits here, as it did there.
                found = route(new)
                assert (found["waiting"], found["oldest"]) == (5, oldest)
                again = new.run(f"{formula} && bash orthanc/masterless.sh")
                assert "Nothing changed" in again.out
                # What there is to be said of a run is not lost among what is as it was.
                assert "- there is no backup yet" in again.out
                assert "ID: orthanc-config" not in again.out
                refused = new.run(f"{formula} && {command}", check=False)
                assert "This machine has a pillar already" in refused.err
                if system == "leap":
                    listen = "systemd-run -q --socket-property=ListenStream=127.0.0.2:8051"
                    new.run(f"{listen} /usr/lib/systemd/systemd-socket-proxyd 127.0.0.1:8050")
                    wait_until(new, 0)
                    a_second_pass_brings_what_is_new(old, new, pillar, [image(), image()])


def a_second_pass_brings_what_is_new(old, new, pillar, files):
    """As documented for a move with little time away."""
    delete(old, old.ask("GET", "/instances", *old.anna, port=8050).json[0], port=8050)
    for file in files:
        answer = old.ask("POST", "/instances", *old.anna, data=f"@{file}", port=8050)
        assert answer.code == 200
    wanted = set(old.ask("GET", "/instances", *old.anna, port=8050).json)
    old.write("/root/pacs.sls", yaml.safe_dump({"orthanc": {**pillar["orthanc"], "users": {}}}))
    masterless = "cd /srv/formulas/orthanc-formula && bash orthanc/masterless.sh"
    old.run(f"{masterless} /root/pacs.sls && {masterless} orthanc.backup")
    files_of = f"find {STORAGE['leap']} -path '*/.*' -prune -o -type f -path '*/??/??/*'"
    listed = f"{files_of} -printf '%f-%i\\n'"
    before = set(new.run(listed).out.split())
    new.run(f"{masterless} orthanc.restore host=testhost again=True")
    assert set(new.ask("GET", "/instances", *old.anna, port=8050).json) == wanted
    # What was here already was not restored once more.
    after = new.run(listed).out.split()
    assert len(after) - len({*after} & before) == len(files)
    for one in wanted:
        path = f"/instances/{one}/file"
        answers = [host.ask("GET", path, *old.anna, port=8050).body for host in (old, new)]
        assert answers[0] == answers[1]
