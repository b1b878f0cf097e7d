"""Over salt-ssh: by an ordinary account with sudo, from gitfs, what stays on the target, and what
goes on there by itself: backups into S3, and old studies.
"""

import json
import re

import documentation
import pytest
import s3
import yaml
from ways import GITFS, NEWEST, OLDEST, ROOTS, TOP, SaltSsh, open_for_ssh, put_into_git

PASSWORD = "Geheim-4711"
ANNA = ("anna", PASSWORD)
WRONG = "Geheim-0815-and-wrong"
JOB, SECRET = "/etc/orthanc-backup/job.json", "/etc/orthanc-backup/password"
PILLAR = {"users": {"anna": {"password": PASSWORD, "role": "admin"}}, "remote_access": True}
# All parts of the formula; what they need is not there, because they are only rendered.
ALL_PARTS = {
    **PILLAR,
    "https": {"enabled": True, "certificate": "salt://chain.pem", "key": "salt://key.pem"},
    "postgresql": {"enabled": True},
    "plugins": [{"source": "salt://one-1.0", "insecure": True, "name": "libOne.so"}],
    "backup_key": {"enabled": True},
    "links": {"enabled": True},
}
IDS = {
    *("orthanc-packages", "orthanc-database", "orthanc-nginx-tried", "orthanc-plugin-libOne.so"),
    *("orthanc-config", "orthanc-serving", "orthanc-link-config", "orthanc-backup-key"),
}
SLS = "#!py\ndef run():\n    {}\n    return {{}}\n"
# What is packed counts as well.
FIND = f"""
grep -rlsF {PASSWORD} / /dev/shm --exclude-dir=proc --exclude-dir=sys --exclude-dir=dev |
    grep -v ^/etc/orthanc
find / /tmp /run -xdev -name '*.t*gz' -type f | while read file; do
    tar -xzOf $file 2>/dev/null | grep -qF {PASSWORD} && echo $file
done; true
"""


class Ordinary(SaltSsh):
    """Logs in as an account that may use sudo."""

    def set_up(self):
        super().set_up()
        login = open_for_ssh(self.leader, self.target, user="admin")
        self.leader.write("/etc/salt/roster", yaml.safe_dump({self.id: login}))


# Each of them once: pytest shares a site among tests that name the very same one.
SALTS = {"trixie": NEWEST, "bookworm": OLDEST, "leap": NEWEST}
SITES = [pytest.param(each, id=each[0]) for each in SALTS.items()]
DEBIAN = SITES[:2]


@pytest.fixture(scope="module", params=SITES)
def site(request):
    with Ordinary(*request.param) as site:
        site.pillar(**PILLAR)
        yield site


def left_behind(site) -> list[str]:
    """Return the files with the password on the target, Orthanc's own aside."""
    return site.target.run(FIND).out.split()


def test_an_ordinary_account_with_sudo(site):
    assert site.target.run("sudo -n id -u", user="admin").out.strip() == "0"
    site.leader.write("/srv/salt/own.lua", "-- own\n")
    network = {"modalities_in_database": True, "network": {"group": "hospital"}}
    site.pillar(
        **{**PILLAR, **network, "lua_scripts": {"own": "salt://own.lua"}},
        dicom={"enabled": True, "aet": "PACS1"},
    )
    card = {"group": "hospital", "role": "archive", "port": 4242, "tls": False}
    other = {**card, "aet": "SOUTH", "host": "192.0.2.7"}
    site.leader.write(
        "/srv/pillar/cards.json", json.dumps({"south-1": other, "x": {**other, "group": "x"}})
    )
    texts = [text for *_, text in documentation.section("Sites that know each other")]
    gather, group = (text for text in texts if "cards.json" in text)
    site.leader.write("/srv/pillar/network.sls", group)
    site.leader.write("/srv/pillar/top.sls", "base: {'*': [orthanc, network]}")
    run = site.state()
    assert run.ok, str(run)
    assert site.target.ask("GET", "/modalities", "anna", PASSWORD).json == ["south-1"]
    assert site.target.ask("GET", "/system", "anna", PASSWORD, remote=True).code == 200
    assert site.target.read("/etc/orthanc/formula-script-own.lua") == "-- own\n"
    assert site.state().changes == {}
    site.leader.run(gather)
    own = {**card, "role": "workstation", "aet": "PACS1", "host": site.target.address}
    assert json.loads(site.leader.read("/srv/pillar/cards.json")) == {site.id: own}
    site.leader.write("/srv/pillar/top.sls", TOP)
    # Functions of several files are one module here, too.
    assert site.returned("orthanc.access")["users"] == "anna"
    assert site.returned("orthanc.system")["DatabaseVersion"] == 6
    gone = site.salt("orthanc.answers http://127.0.0.1:1")
    assert (gone.code, "false" in gone.out) == (20, True), gone


@pytest.fixture(scope="module")
def storage(site):
    """A server of S3 for each site, of which the last test takes it away."""
    with s3.Storage() as storage:
        yield storage


def back_up(site, storage):
    """Apply the formula with backups into a bucket, and let what is old enough go."""
    site.pillar(
        **PILLAR,
        backup={
            "repository": f"s3:{storage.url}/pacs/site",
            "environment": storage.credentials,
            "drill": "weekly",
        },
        retention={
            "rules": [{"older_than": "10 years", "by": "study_date"}],
            **{"dry_run": False, "max_percent": 100},
        },
        config={"StableAge": 1},
    )
    run = site.state()
    assert run.ok, str(run)


def stored(site, file) -> str:
    answer = site.target.ask("POST", "/instances", *ANNA, data=f"@{file}")
    assert answer.code == 200, answer
    return answer.json["ID"]


def has(site, known: str, file) -> bool:
    """Return whether the server delivers an image as it was stored, and not that it has none."""
    answer = site.target.ask("GET", f"/instances/{known}/file", *ANNA)
    assert (answer.code, answer.body) == (200, file.read_bytes()) or answer.code == 404
    return answer.code == 200


@pytest.mark.parametrize("site", SITES[2:], indirect=True, scope="module")
def test_backups_and_retention_where_there_is_no_salt(site, storage, image):
    back_up(site, storage)
    target, files = site.target, [image(StudyDate=f"{year}0102") for year in (2010, 2025)]
    old, new = (stored(site, file) for file in files)
    timers = target.run("systemctl list-timers --all").out
    for job in ("backup", "drill", "retention"):
        assert f"orthanc-{job}.timer" in timers
    # As it comes at night.
    target.run("systemctl start orthanc-backup")
    assert site.returned("orthanc.backup")["warning"] is None
    last, first = site.returned("orthanc.backups")
    assert (last["images"], first["images"], first["host"]) == (2, 2, "testhost")
    assert "no backup was ever restored" in str(site.returned("orthanc.retention"))
    assert site.returned("orthanc.drill")["served"] == 2
    assert site.returned("orthanc.verify")["missing"] == []
    found = site.returned("orthanc.retention")
    assert (found["due"], found["nothing is deleted"]) == (1, [])
    target.run("sleep 2; systemctl start orthanc-retention")
    assert (has(site, old, files[0]), has(site, new, files[1])) == (False, True)
    # What was deleted comes back: as a file, and with all else.
    study, words = found["list"][0]["study"], f"orthanc.restore snapshot={first['snapshot']}"
    (path,) = site.returned(f"{words} target=/srv/study study={study}")
    assert target.path(path).read_bytes() == files[0].read_bytes()
    later = stored(site, image())
    kept = site.returned(f"{words} overwrite=True")["kept"]
    assert has(site, old, files[0]) and has(site, new, files[1])
    assert target.ask("GET", f"/instances/{later}", *ANNA).code == 404
    target.run(f"rm -r {kept}")


# The oldest and the newest restic.
@pytest.mark.parametrize("site", SITES[1:], indirect=True, scope="module")
def test_what_is_in_the_way_of_a_backup_is_said_with_its_remedy(site, storage, image):
    back_up(site, storage)
    target, file = site.target, image()
    known, job = stored(site, file), json.loads(target.read(JOB))
    target.run("systemctl start orthanc-backup")
    # A disk that gets full meanwhile.
    images = json.loads(target.read("/etc/orthanc-backup/manifest.json"))["storage"]
    folders = {"target=/srv/small": "/srv/small", "overwrite=True": f"{images}/.orthanc-restore"}
    for words, folder in folders.items():
        target.run(f"mkdir {folder}; mount -t tmpfs -o size=16k small {folder}")
        failed = site.salt(f"orthanc.restore {words}")
        assert failed.code == 20
        assert f"there is no room for the backup in {folder}; make room first" in failed.out
        assert target.run(f"ls -A {folder}").out.split() in ([], ["chosen"])
        assert has(site, known, file)
        target.run(f"umount {folder}; rmdir {folder}")

    def fails(*sentences: str, **given) -> None:
        """Let a backup fail, with another job than that of the pillar."""
        target.write(JOB, json.dumps({**job, **given}))
        assert not target.run("systemctl start orthanc-backup", check=False).ok
        error = json.loads(target.read("/etc/orthanc.backup"))["backup"]["error"]
        assert [each for each in sentences if each not in error] == [], error
        assert has(site, known, file)

    secret = {**storage.credentials, "AWS_SECRET_ACCESS_KEY": WRONG}
    refused = "AWS_SECRET_ACCESS_KEY of orthanc:backup:environment"
    fails(refused, environment=secret)
    assert refused in site.salt("orthanc.restore overwrite=True").out
    fails(refused, environment={**storage.credentials, "AWS_ACCESS_KEY_ID": "AKIAUNKNOWN"})
    fails(
        "this host trusts",
        "orthanc:backup:repository",
        repository=job["repository"].replace("http:", "https:"),
    )
    copy = target.read(SECRET)
    target.write(SECRET, "another one\n")
    fails("the password does not open the repository", "orthanc:backup:password")
    target.write(SECRET, copy)
    storage.remove("pacs")
    fails("the repository was there, and is gone", "the bucket")
    # One that is not there yet is made.
    target.write(JOB, json.dumps({**job, "repository": f"s3:{storage.url}/other"}))
    done = site.returned("orthanc.backup")
    assert done.get("lost") == [], done
    if "0.14" in target.run("restic version").out:
        # A newer one tries for two minutes.
        storage.end()
        fails("the other host does not answer", "orthanc:backup:repository")
    shown = [*site.shown.values(), target.run("journalctl; cat /etc/orthanc.backup").out]
    shown.append(str(site.returned("state.show_low_sls orthanc")))
    for secret in (storage.credentials["AWS_SECRET_ACCESS_KEY"], WRONG):
        assert not [text for text in shown if secret in text]


@pytest.mark.parametrize("site", DEBIAN, indirect=True, scope="module")
def test_rendering_asks_nothing_of_the_target(site):
    """Compiling the whole formula takes as many commands on the target as compiling nothing."""
    site.leader.write("/srv/salt/nothing.sls", SLS.format(""))
    site.leader.write("/srv/salt/asking.sls", SLS.format('__salt__["cmd.run"]("true")'))
    site.target.write("/etc/ssh/sshd_config.d/log.conf", "LogLevel VERBOSE\n")
    site.target.run("systemctl restart ssh 2>/dev/null || systemctl restart sshd")
    site.pillar(**ALL_PARTS)

    def compiled(sls: str) -> tuple[int, set[str]]:
        """Return how many commands that took on the target, and the IDs of the states."""
        counted = "journalctl | grep -c 'Starting session: command'; true"
        before = int(site.target.run(counted).out)
        low = site.returned(f"state.show_low_sls {sls}")
        return int(site.target.run(counted).out) - before, {chunk["__id__"] for chunk in low}

    compiled("nothing")
    nothing, _ = compiled("nothing")
    asking, _ = compiled("asking")
    orthanc, ids = compiled("orthanc")
    assert ids >= IDS
    assert asking > nothing > 0
    assert orthanc == nothing


def test_what_stays_on_the_target_and_the_switch_that_avoids_it(site):
    site.pillar(**PILLAR)
    assert site.state().ok
    (left,) = left_behind(site)
    assert re.fullmatch(r"/var/tmp/\.admin_\w+_salt/salt_state\.tgz", left)
    # It is in the pillar only, not in the states as well.
    packed = {
        name: site.target.run(f"tar -xzOf {left} {name}.json || tar -xzOf {left} ./{name}.json").out
        for name in ("pillar", "lowstate")
    }
    assert (PASSWORD in packed["pillar"], PASSWORD in packed["lowstate"]) == (True, False)
    assert "orthanc_conf" in packed["lowstate"]
    assert site.target.run(f"test -r {left}", user="admin").ok
    assert not site.target.run(f"test -r {left}", user="nobody", check=False).ok
    wiped = site.run("--wipe state.apply orthanc")
    assert wiped.ok, str(wiped)
    assert wiped.changes == {}
    assert PASSWORD not in str(wiped)
    assert left_behind(site) == []
    assert site.target.run("ls -d /var/tmp/.*_salt", check=False).out == ""


@pytest.mark.parametrize("site", DEBIAN, indirect=True, scope="module")
def test_from_gitfs(site):
    """As docs/ways.md says: salt-ssh takes custom modules from local folders only."""
    put_into_git(site.leader)
    site.leader.write("/etc/salt/master", yaml.safe_dump({**ROOTS, **GITFS}))
    site.leader.run("rm -rf /var/cache/salt")
    refused = site.state()
    assert "'orthanc_conf.valid' was not found" in refused.failed["orthanc-pillar"], refused
    ((_, _, text),) = [block for block in documentation.section("gitfs") if "sync_all" in block[2]]
    site.leader.run(text)
    site.pillar(**PILLAR, port=8043)
    run = site.state()
    assert run.ok, str(run)
    assert site.target.ask("GET", "/system", "anna", PASSWORD, remote=True, port=8043).code == 200
