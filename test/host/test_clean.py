"""
From the first run to orthanc.clean: nobody reaches an Orthanc that the pillar did not describe, and
what was there before is put back.
"""

import json

CLOSED = "/etc/systemd/system/orthanc.service.d/formula-first-run.conf"
RECORD = "/var/lib/orthanc-formula/first-run.json"
TRIGGER = "dpkg-trigger --by-package=orthanc-gdcm orthanc-restart-trigger"
CT = {"AET": "CT1", "Host": "192.0.2.17", "Port": 104}
MODES = "find /etc/orthanc /var/lib/orthanc /var/log/orthanc -maxdepth 1 ! -name 'Orthanc.log*'"


def modes(minion):
    """Return owner and mode of all that is the package's or the administrator's."""
    found = minion.run(f"{MODES} -printf '%p %m %u:%g\\n'").out.split("\n")
    return sorted(line for line in found if "/index" not in line)


def assert_closed(minion):
    """Orthanc is installed, and neither runs nor can be started by what starts it otherwise."""
    assert minion.run("dpkg-query -Wf '${db:Status-Status}' orthanc").out == "installed"
    for start in ("true", "systemctl start orthanc", TRIGGER):
        minion.run(f"{start} && dpkg --configure --pending")
        minion.run("until systemctl list-jobs | grep -q 'No jobs'; do sleep 0.1; done")
        assert minion.pid() == 0, start
    assert minion.ask("GET", "/system", port=8042).code == 0


def try_in_vain(minion, settings):
    """Let first runs fail, each in another way, and see that nobody reaches an Orthanc."""
    # What is refused only when all is installed; the package of a plugin restarts Orthanc.
    minion.write("/srv/broken.lua", "no Lua at all")
    minion.pillar(**settings, config={"LuaScripts": ["/srv/broken.lua"]})
    assert minion.state("orthanc.packages").ok
    assert_closed(minion)
    assert set(minion.state().failed) >= {"orthanc-config"}
    assert_closed(minion)
    # What is not tried beforehand, and does not start.
    minion.pillar(**settings, config={"LuaScripts": ["/srv/broken.lua"]}, preflight=False)
    run = minion.state()
    assert "never served before, so it was stopped" in run.failed["orthanc-serving"]
    assert_closed(minion)
    minion.reboot()
    assert_closed(minion)


def old_logs_go_and_the_one_that_is_written_stays(minion):
    """However old: an Orthanc may have nothing to say for months."""
    written = minion.run("cd /var/log/orthanc; readlink -f Orthanc.log").out.strip()
    assert minion.run("systemctl list-timers | grep -c orthanc-formula-logs").out.strip() == "1"
    minion.run("cd /var/log/orthanc; echo x > own.log; touch -h -d '40 days ago' *")
    assert len(minion.run("ls /var/log/orthanc").out.split()) > 4
    minion.run("systemctl start orthanc-formula-logs")
    left = ["Orthanc.log", written.rpartition("/")[2], "own.log"]
    assert minion.run("ls /var/log/orthanc").out.split() == left
    # Where the link is gone as well, it is known by who has it open.
    minion.run("rm /var/log/orthanc/Orthanc.log; systemctl start orthanc-formula-logs")
    assert minion.run("ls /var/log/orthanc").out.split() == left[1:]
    assert minion.run(f"ls -l /proc/{minion.pid()}/fd | grep -c {written}").out.strip() == "1"


def test_clean_and_back_again(fresh_minion, users, image):
    minion = fresh_minion
    version = minion.run("apt-cache show orthanc | sed -n 's/^Version: //p' | head -1").out.strip()
    minion.run("cd /tmp; dpkg-deb -x /var/cache/apt/archives/orthanc_*.deb package")
    names = minion.run("ls /tmp/package/etc/orthanc").out.split()
    packaged = {name: minion.read(f"/tmp/package/etc/orthanc/{name}") for name in names}
    before = minion.run("ls -A /etc /var/lib /opt /srv /usr/local/lib /etc/systemd/system").out

    settings = {"users": users, "version": version, "packages": ["orthanc", "orthanc-gdcm"]}
    settings["lua_scripts"] = {"own": "-- nothing\n"}
    try_in_vain(minion, settings)
    minion.apply(**settings)
    assert not minion.path(CLOSED).exists()
    assert minion.state().changes == {}
    who = ("anna", users["anna"]["password"])
    assert minion.ask("POST", "/instances", *who, data=f"@{image()}").code == 200
    minion.reboot()
    minion.wait_for_port()
    stored = minion.run("find /var/lib/orthanc -type f -size +0").out
    old_logs_go_and_the_one_that_is_written_stays(minion)

    tried = minion.state("orthanc.clean", test=True)
    assert tried.changes
    assert not tried.failed
    assert minion.ask("GET", "/system").code == 401

    run = minion.state("orthanc.clean")
    assert run.ok, str(run)
    assert minion.pid() == 0
    assert minion.ask("GET", "/system").code == 0
    # Nothing of the formula is left; what the package itself brought is back as it was.
    assert "Anna" not in minion.run("grep -rs . /etc/orthanc").out
    for name in ("orthanc.json", "credentials.json", "serve-folders.json", "worklists.json"):
        assert minion.read(f"/etc/orthanc/{name}") == packaged[name]
    assert set(minion.run("ls -A /etc/orthanc").out.split()) >= set(packaged)
    assert not minion.run("ls /etc/orthanc | grep -e formula -e advanced", check=False).ok
    assert not minion.run("test -e /opt/gnuhealth/orthanc", check=False).ok
    assert not minion.run("test -x /usr/sbin/Orthanc", check=False).ok
    assert not minion.run("dpkg -s orthanc-gdcm | grep -q '^Status.* installed'", check=False).ok
    assert minion.run("apt-mark showhold").out == ""
    left = minion.run("find /var/lib/orthanc -type f -size +0").out
    assert set(stored.split()) - set(left.split()) <= {
        "/var/lib/orthanc/db-v6/index-wal",
        "/var/lib/orthanc/db-v6/index-shm",
    }
    assert minion.run("stat -c %U /var/lib/orthanc/db-v6").out.strip() == "orthanc"
    after = minion.run("ls -A /etc /var/lib /opt /srv /usr/local/lib /etc/systemd/system").out
    print(set(after.split("\n")) - set(before.split("\n")))
    assert not {"gnuhealth", "orthanc-plugins", "orthanc.service.d", "orthanc-formula"} & {
        *after.split("\n")
    }
    assert "orthanc-formula" not in after
    assert not minion.run("systemctl cat orthanc-formula-logs.timer", check=False).ok
    assert not minion.run("ls /var/lib/systemd/timers | grep orthanc", check=False).ok
    assert minion.state("orthanc.clean").changes == {}

    # The package can be had by hand, and the formula takes over again.
    minion.run("apt-get install -y orthanc")
    assert minion.run("systemctl is-enabled orthanc").out.strip() == "enabled"
    minion.wait_for_port()
    minion.apply(users=users)
    assert len(minion.ask("GET", "/instances", *who).json) == 1


def differences(minion):
    """Return what a run would change in the server's behaviour."""
    return json.loads(minion.call("orthanc_conf.diff", "--out=json").out)["local"]


def who_would_be_lost_is_said_first(minion, users):
    """And an option is no change that leaves its file with the value that Orthanc itself gives it,
    goes to another file, or has another notation."""
    lost = ["user ward", "modality mr", "peer far"]
    found = differences(minion)
    assert found["gone"] == lost
    options = found["options"]
    assert options["RegisteredUsers:ward"] == {"old": "(hidden)"}
    assert "Far password" not in str(found)
    assert options["Name"] == {"old": "Old server", "new": ""}
    assert options["HttpPort"] == {"old": 8099, "new": 8042}
    assert options["DicomModalities:mr"]["old"]["Host"] == "192.0.2.18"
    assert not [name for name in options if name.startswith(("DicomModalities:ct", "StableAge"))]
    assert "RestApiWriteToFileSystemEnabled" not in options
    assert "/etc/orthanc/orthanc-formula-users.lua" in found["other files"]
    tried = minion.state(test=True).states["orthanc-config"]
    assert tried["comment"].splitlines()[0].endswith(": " + ", ".join(lost)), tried["comment"]
    shown = {o: c for file in tried["changes"].values() for o, c in file.items()}
    assert {o: c for o, c in shown.items() if isinstance(c, dict)} == options
    minion.pillar(users=users, prot=1)
    refused = minion.call("orthanc_conf.diff", check=False)
    assert refused.code == 1
    assert "would be refused" in refused.err
    assert "orthanc:prot" in refused.err
    assert "Traceback" not in refused.err


def test_what_was_there_before_is_kept(fresh_minion, users):
    minion = fresh_minion
    minion.run("DEBIAN_FRONTEND=noninteractive apt-get install -y orthanc")
    minion.wait_for_port()
    by_hand = '{ // by hand\n "Name": "Old server", "HttpPort": 8099,\n'
    by_hand += ' "StableAge": 60, "StorageDirectory": "/var/lib/orthanc/db-v6",\n'
    by_hand += ' "DicomModalities": {"ct": ["CT1", "192.0.2.17", 104], // kept\n'
    by_hand += ' "mr": ["MR1", "192.0.2.18", 104]},\n'
    by_hand += ' "OrthancPeers": {"far": ["http://192.0.2.19:8042/", "far", "Far password"]},}\n'
    minion.write("/etc/orthanc/orthanc.json", by_hand)
    accounts = {"anna": users["anna"]["password"], "ward": "Ward password"}
    minion.write("/etc/orthanc/credentials.json", json.dumps({"RegisteredUsers": accounts}))
    worklists = "/etc/orthanc/worklists.json"
    minion.run(f"chgrp orthanc {worklists} && chmod 640 {worklists}")
    minion.run("chmod 755 /var/lib/orthanc/db-v6")
    minion.run("apt-mark hold orthanc; systemctl restart orthanc")
    minion.wait_for_port(8099)
    pid, before = minion.pid(), modes(minion)

    # A first run that fails leaves it to serve as it is.
    minion.pillar(users=users, config={"LuaScripts": ["/srv/none.lua"]})
    assert set(minion.state().failed) >= {"orthanc-config"}
    assert minion.pid() == pid
    minion.write("/srv/broken.lua", "no Lua at all")
    minion.pillar(users=users, config={"LuaScripts": ["/srv/broken.lua"]}, preflight=False)
    assert "Orthanc serves with it" in minion.state().failed["orthanc-serving"]
    assert minion.ask("GET", "/system", port=8099).json["Name"] == "Old server"

    settings = {"users": users, "modalities": {"ct": CT}}
    minion.pillar(**settings)
    who_would_be_lost_is_said_first(minion, users)
    run = minion.apply(**settings)
    assert "gone from the server" in run.states["orthanc-config"]["comment"]
    assert differences(minion) == {"gone": [], "options": {}, "other files": []}
    minion.apply(users=users, paths={"config": "/srv/config-at-first"})
    moved = {"paths": {"config": "/srv/conf"}, "port": 8043}
    minion.apply(users=users, **moved, packages=["orthanc", "orthanc-gdcm"])
    assert minion.read("/etc/orthanc/before-formula/orthanc.json") == by_hand
    assert not minion.run("cat /etc/orthanc/before-formula/*", user="nobody", check=False).ok

    run = minion.state("orthanc.clean")
    assert run.ok, str(run)
    assert minion.ask("GET", "/system", port=8099).json["Name"] == "Old server"
    assert minion.ask("GET", "/system", port=8043).code == 0
    assert minion.run("systemctl is-enabled orthanc").out.strip() == "enabled"
    assert minion.run("apt-mark showhold").out.strip() == "orthanc"
    assert not minion.run("dpkg -s orthanc-gdcm | grep -q '^Status.* installed'", check=False).ok
    assert set(before) <= set(modes(minion)), set(before) - set(modes(minion))
    assert not minion.path(RECORD).exists()
    assert not minion.run("ls -d /srv/conf* /etc/orthanc.* /etc/orthanc/before*", check=False).out
    assert minion.state("orthanc.clean").changes == {}


def test_each_part_can_be_cleaned_alone(fresh_minion, users):
    minion = fresh_minion
    minion.apply(users=users)
    for part in ("links", "service", "config"):
        run = minion.state(f"orthanc.{part}.clean")
        assert run.ok, str(run)
        assert run.changes
        assert minion.state(f"orthanc.{part}.clean").changes == {}
    assert minion.run("dpkg-query -Wf '${db:Status-Status}' orthanc").out == "installed"
    minion.apply(users=users)
    assert minion.ask("GET", "/system").code == 401

    # A host of an earlier version of the formula, which noted nothing: what came is not known.
    for again in (False, True):
        minion.run(f"rm {RECORD}")
        if again:
            pid = minion.pid()
            assert set(minion.apply(users=users).changes) == {"orthanc-first-run"}
            assert minion.pid() == pid
        run = minion.state("orthanc.clean")
        assert run.ok, str(run)
        words = "There before" if again else "all stay"
        assert words in run.states["orthanc-packages"]["comment"]
        assert minion.run("dpkg-query -Wf '${db:Status-Status}' orthanc").out == "installed"
        assert minion.pid() == 0
        assert minion.run("systemctl is-enabled orthanc", check=False).out.strip() == "disabled"
        assert minion.state("orthanc.clean").changes == {}
        minion.apply(users=users)
