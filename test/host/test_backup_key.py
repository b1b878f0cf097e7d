"""The key for backups: made once, good for a login, and known to nobody else."""

import json

import documentation
import plugins
import pytest
import testbed
from minion import Minion, Server
from ways import NEWEST, OLDEST, WAYS

FOLDER = "/var/lib/orthanc/.ssh"
KEY = f"{FOLDER}/id_ed25519"
PAIR = f"stat -c '%n %a %U %y %i' {KEY} {KEY}.pub; sha256sum {KEY} {KEY}.pub"
ENABLED = {"backup_key": {"enabled": True, "remote_user": "pacs-backup"}}
# Wherever Salt or a program might have left the private key.
SEARCHED = "/var/log /var/cache /var/tmp /tmp /run /root /srv /etc /opt/gnuhealth"


@pytest.fixture(scope="module")
def backup_host():
    """A host with an SSH server and the account that backups log in to."""
    with Server(testbed.root("bookworm")) as host:
        host.run("apt-get install -y -qq --no-install-recommends openssh-server >/dev/null")
        host.run("systemctl start ssh; useradd --create-home --shell /bin/bash pacs-backup")
        yield host


@pytest.fixture(scope="module", params=["bookworm", "trixie", "leap"])
def server(request, salt_version):
    with Minion(testbed.root_with_salt(request.param, salt_version)) as host:
        host.nologin = request.param != "trixie"
        yield host


def log_in(server, backup_host, shown: str):
    """Run the command that was shown for a first login, and return what it gave."""
    command = shown.splitlines()[-1].replace("BACKUP-HOST", backup_host.address)
    return server.run(command.replace("ssh -i", "ssh -o StrictHostKeyChecking=no -i"), check=False)


def found_elsewhere(server) -> str:
    """Return the files, other than the private key itself, that hold a line of it."""
    line = server.read(KEY).splitlines()[3]
    assert len(line) == 70
    return server.run(f"grep -rlFs '{line}' {SEARCHED}; journalctl | grep -F '{line}'; true").out


def test_the_key_logs_in_and_nobody_sees_it(server, backup_host):
    documentation.write_files(server, "Backup key")
    assert not server.run("command -v ssh-keygen && ! test -e /etc/zypp", check=False).ok
    tried = server.state(test=True)
    assert tried.ok, str(tried)
    if server.nologin:
        assert server.state("orthanc.packages").ok
        server.run("usermod --shell /usr/sbin/nologin orthanc")
    run = server.state()
    assert run.ok, str(run)
    assert run.changes["orthanc-backup-key"] == tried.changes["orthanc-backup-key"]
    assert set(run.changes["orthanc-backup-key"]) == {FOLDER, KEY}
    pair = server.run(PAIR).out
    modes = [line.split()[:3] for line in pair.splitlines()[:2]]
    assert modes == [[KEY, "600", "orthanc"], [f"{KEY}.pub", "644", "orthanc"]]
    assert server.run(f"stat -c '%a %U' {FOLDER}").out.split() == ["700", "orthanc"]
    private = server.read(KEY)
    assert private.startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    for name in ("nobody", "daemon"):
        assert not server.run(f"cat {KEY}", user=name, check=False).ok

    printed = documentation.follow(server, "Backup key")
    public = server.read(f"{KEY}.pub").strip()
    assert public.startswith("ssh-ed25519 ")
    assert public in printed
    shown = json.loads(server.call("orthanc.backup_key", "--out=json").out)["local"]
    assert shown["public_key"] == public
    assert "As pacs-backup, add this line" in shown["on_the_backup_host"]

    assert "Permission denied" in log_in(server, backup_host, shown["on_this_host"]).err
    line = shown["on_the_backup_host"].splitlines()[-1]
    authorized = "/home/pacs-backup/.ssh/authorized_keys"
    backup_host.write(authorized, line + "\n")
    backup_host.run("chown -R pacs-backup: /home/pacs-backup/.ssh; chmod 600 " + authorized)
    assert log_in(server, backup_host, shown["on_this_host"]).ok
    who = shown["on_this_host"].replace(" true", " id -un")
    assert log_in(server, backup_host, who).out.strip() == "pacs-backup"
    if server.nologin:
        assert "not available" in server.run("su - orthanc -c true", check=False).out

    again = server.state()
    assert again.changes == {}
    assert server.state(test=True).changes == {}
    assert server.run(PAIR).out == pair
    outputs = "".join([tried.output, run.output, again.output, printed])
    assert not [part for part in private.splitlines()[1:-1] if part in outputs]
    assert found_elsewhere(server) == ""


@pytest.mark.parametrize("server", ["bookworm"], indirect=True, scope="module")
def test_a_key_that_exists_is_never_replaced(server):
    server.apply(**ENABLED)
    pair, private = server.run(PAIR).out, server.read(KEY)
    public = server.read(f"{KEY}.pub")

    # Half a pair: the public key follows from the private one, but not the other way round.
    server.run(f"rm {KEY}.pub")
    run = server.state("orthanc.backup_key")
    assert set(run.changes["orthanc-backup-key"]) == {f"{KEY}.pub"}
    assert server.read(f"{KEY}.pub") == public
    server.run(f"mv {KEY} /root/moved")
    run = server.state("orthanc.backup_key")
    assert f"its private key {KEY} is not" in run.failed["orthanc-backup-key"]
    assert server.run(f"ls -d {KEY}*").out.split() == [f"{KEY}.pub"]
    server.run(f"mv /root/moved {KEY}; chmod 640 {KEY}; chmod 755 {FOLDER}")

    # Rights that let others in, and what a killed run left.
    server.run(f"mkdir {KEY}.new-abc; touch {KEY}.new-abc/key; chown -R orthanc: {FOLDER}")
    run = server.state("orthanc.backup_key")
    assert set(run.changes["orthanc-backup-key"]) == {FOLDER, KEY}
    assert server.run(f"stat -c %a {FOLDER} {KEY}").out.split() == ["700", "600"]
    assert server.read(KEY) == private
    assert server.run(f"ls -d {KEY}*").out.split() == [KEY, f"{KEY}.pub"]

    # A key of somebody else, or with a passphrase.
    server.run(f"chown root {KEY}")
    run = server.state("orthanc.backup_key")
    assert f"{KEY} does not belong to orthanc" in run.failed["orthanc-backup-key"]
    server.run(f"chown orthanc {KEY}")
    own = f"{FOLDER}/own"
    server.run(f"ssh-keygen -q -t rsa -b 2048 -N 'secret' -f {own}; chown orthanc: {own}*")
    server.pillar(backup_key={"enabled": True, "path": own})
    before = server.run(f"sha256sum {own} {own}.pub").out
    assert server.state("orthanc.backup_key").changes == {}
    server.run(f"rm {own}.pub")
    assert "incorrect passphrase" in server.state("orthanc.backup_key").failed["orthanc-backup-key"]
    assert server.run(f"sha256sum {own}").out in before
    assert pair.splitlines()[2:] == server.run(PAIR).out.splitlines()[2:]


def test_a_folder_of_its_own_and_what_is_in_the_way(server):
    server.run("mkdir -p /srv/taken /srv/empty /srv/keys/key; touch /srv/taken/file")
    server.run("chown -R orthanc: /srv/keys")
    for path, words in {
        "/srv/taken/key": "/srv/taken does not belong to orthanc",
        "/srv/keys/key": "/srv/keys/key is no file",
    }.items():
        server.pillar(backup_key={"enabled": True, "path": path})
        run = server.state("orthanc.backup_key")
        assert words in run.failed["orthanc-backup-key"]
    assert server.run("stat -c '%a %U' /srv/taken /srv/keys/key").out.split() == [
        *("755", "root", "755", "orthanc")
    ]
    for folder in ("/srv/empty", "/srv/new/below"):
        server.pillar(backup_key={"enabled": True, "dir": folder})
        assert server.state("orthanc.backup_key").ok
        assert server.run(f"stat -c '%a %U' {folder}").out.split() == ["700", "orthanc"]
        shown = json.loads(server.call("orthanc.backup_key", "--out=json").out)["local"]
        assert shown["public_key"] == server.read(f"{folder}/id_ed25519.pub").strip()
        assert f"{folder}/id_ed25519 orthanc-backup@" in shown["on_this_host"]


@pytest.mark.parametrize("server", ["bookworm"], indirect=True, scope="module")
def test_it_stays(server):
    """Last: it takes the server away."""
    server.apply(**ENABLED)
    pair = server.run(PAIR).out
    server.apply()
    run = server.state("orthanc.backup_key")
    assert KEY in run.states["orthanc-backup-key"]["comment"]
    server.pillar(**ENABLED)
    run = server.state("orthanc.clean")
    assert run.ok, str(run)
    assert f"stays in {KEY}" in run.states["orthanc-backup-key"]["comment"]
    assert server.run(PAIR).out == pair
    missing = server.call("orthanc.backup_key", "/srv/none", check=False)
    assert "there is no /srv/none.pub" in missing.err + missing.out


@pytest.mark.parametrize(("way", "salt"), [("master", NEWEST), ("salt-ssh", OLDEST)])
def test_with_a_master_and_over_salt_ssh(way, salt, tmp_path):
    """A plugin of the file server, and the key: what Salt has to bring along or to look up."""
    path = plugins.make(tmp_path / "libMade.so", "made-for-tests")
    with WAYS[way]("bookworm", salt) as site:
        site.leader.path("/srv/salt/plugins").mkdir(parents=True)
        site.leader.path("/srv/salt/plugins/one").write_bytes(path.read_bytes())
        entry = {"source": "salt://plugins/one", "source_hash": plugins.sha256(path)}
        settings = {**ENABLED, "plugins": [{**entry, "name": "libMade.so"}]}
        site.pillar(**settings)
        run = site.state()
        assert run.ok, str(run)
        assert "made-for-tests" in site.target.ask("GET", "/plugins").json
        assert site.state().changes == {}
        words = "orthanc.backup_key"
        if way == "salt-ssh":
            words += f" {KEY} pacs-backup"
        shown = site.returned(words)
        assert shown["public_key"] == site.target.read(f"{KEY}.pub").strip()
        assert f"-i {KEY} pacs-backup@" in shown["on_this_host"]
        private = site.target.read(KEY).splitlines()[1:-1]
        assert not [name for name, text in site.shown.items() for p in private if p in text]
        assert found_elsewhere(site.target) == ""
        site.pillar(**{**settings, "plugins": [{**entry, "source_hash": 64 * "0"}]})
        wrong = site.state()
        assert list(wrong.changes) == []
        assert not wrong.ok
