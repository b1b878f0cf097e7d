"""orthanc.clean takes the service and what the formula wrote away, and leaves the images."""


def test_clean_and_back_again(fresh_minion, users, image):
    minion = fresh_minion
    version = minion.run("apt-cache show orthanc | sed -n 's/^Version: //p' | head -1").out.strip()
    minion.run("cd /tmp; dpkg-deb -x /var/cache/apt/archives/orthanc_*.deb package")
    names = minion.run("ls /tmp/package/etc/orthanc").out.split()
    packaged = {name: minion.read(f"/tmp/package/etc/orthanc/{name}") for name in names}
    minion.apply(users=users, version=version)
    who = ("anna", users["anna"]["password"])
    assert minion.ask("POST", "/instances", *who, data=f"@{image()}").code == 200
    stored = minion.run("find /var/lib/orthanc -type f -size +0").out

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
    assert set(minion.run("ls -A /etc/orthanc").out.split()) == set(packaged)
    assert not minion.run("test -e /opt/gnuhealth/orthanc", check=False).ok
    assert not minion.run("test -x /usr/sbin/Orthanc", check=False).ok
    assert minion.run("apt-mark showhold").out == ""
    left = minion.run("find /var/lib/orthanc -type f -size +0").out
    assert set(stored.split()) - set(left.split()) <= {
        "/var/lib/orthanc/db-v6/index-wal",
        "/var/lib/orthanc/db-v6/index-shm",
    }
    assert minion.run("stat -c %U /var/lib/orthanc/db-v6").out.strip() == "orthanc"
    assert minion.state("orthanc.clean").changes == {}

    # The package can be had by hand, and the formula takes over again.
    minion.run("apt-get install -y orthanc")
    minion.apply(users=users)
    assert len(minion.ask("GET", "/instances", *who).json) == 1


def test_what_was_there_before_is_kept(fresh_minion, users):
    minion = fresh_minion
    minion.run("DEBIAN_FRONTEND=noninteractive apt-get install -y orthanc")
    by_hand = '{ // by hand\n "Name": "Old server", "HttpPort": 8099, "StableAge": 60,}\n'
    minion.write("/etc/orthanc/orthanc.json", by_hand)
    run = minion.apply(users=users)
    # What leaves the file with the value that Orthanc itself gives it is no change.
    shown = run.states["orthanc-config"]["changes"]["/etc/orthanc/orthanc.json"]
    assert shown["Name"] == {"old": "Old server"}
    assert shown["HttpPort"]["old"] == 8099
    assert "StableAge" not in shown
    minion.apply(users=users, port=8043)
    assert minion.read("/etc/orthanc/before-formula/orthanc.json") == by_hand
    assert not minion.run("cat /etc/orthanc/before-formula/*", user="nobody", check=False).ok


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
