"""Failures that only a start shows: what the trial sees never touches the host, the rest is undone.

https://orthanc.uclouvain.be/book/users/configuration.html
"""

import time

import pytest

CONFIG = "/etc/orthanc"
# Owner, mode and content of all that must not change.
FILES = (
    "cd /etc && find orthanc orthanc.last-good -printf '%p %u %g %m %T@\\n' | sort;"
    " find /etc/orthanc* -type f -exec sha256sum {} +"
)
# What a trial would leave: a process besides the service's, a mount, a folder.
REMAINS = (
    "pgrep -xc Orthanc; grep -l orthanc-preflight /proc/[0-9]*/mountinfo 2>/dev/null;"
    " cd /etc; ls -d orthanc.new orthanc/scratch orthanc/.*.new-* .*.new-* 2>/dev/null; true"
)
# For how many seconds Orthanc is waited for by default. What is known to fail is not waited for.
START_TIMEOUT = 60
# Where packages have their plugins.
FOLDER = "/usr/share/orthanc/plugins"
CERTIFICATE = """
    openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=testhost -days 2 \
        -keyout /srv/key.pem -out /srv/cert.pem 2>/dev/null
    cat /srv/key.pem /srv/cert.pem > /srv/both.pem
    chmod 0644 /srv/*.pem
"""


@pytest.fixture(scope="module")
def server(minion, users):
    minion.apply(users=users, packages=["orthanc", "orthanc-postgresql"])
    minion.run(CERTIFICATE)
    minion.write("/srv/broken.lua", "function (")
    minion.write("/srv/failing.lua", "error('the reason is in the script')")
    minion.write("/srv/closed.lua", "-- readable by root only")
    minion.run("chmod 600 /srv/closed.lua; mkdir -p /srv/plugins /srv/readonly /srv/full")
    minion.write("/srv/plugins/libBroken.so", "no library")
    minion.run("mount -t tmpfs -o ro,mode=777 none /srv/readonly")
    minion.run("mount -t tmpfs -o size=64k,mode=777 none /srv/full")
    minion.run("mkdir -p /srv/notmine; chmod 755 /srv/notmine")
    minion.run("systemd-run -q --unit taken python3 -m http.server 8099")
    return minion


SETTINGS = {"packages": ["orthanc", "orthanc-postgresql"]}
POSTGRESQL = {"EnableIndex": True, "EnableStorage": False, "Username": "x", "Password": "Geheim"}
SSL = {"SslEnabled": True, "SslCertificate": "/srv/both.pem"}
TLS = {
    "DicomTlsEnabled": True,
    "DicomTlsCertificate": "/srv/cert.pem",
    "DicomTlsPrivateKey": "/srv/key.pem",
    "DicomTlsTrustedCertificates": "/srv/cert.pem",
}
DICOM = {"enabled": True}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"config": {"LuaScripts": ["/srv/broken.lua"]}}, ["<name> expected", "/srv/broken.lua"]),
        ({"config": {"LuaScripts": ["/srv/failing.lua"]}}, ["the reason is in the script"]),
        (
            {"config": {"LuaScripts": ["/srv/closed.lua"]}},
            ["orthanc:config:LuaScripts:0", "closed"],
        ),
        # What Orthanc needs at its start or later on, and all at once.
        (
            {
                "config": {
                    "LuaScripts": ["missing.lua"],
                    "TemporaryDirectory": "/root",
                    "Worklists": {"Enable": True, "Database": "/srv/worklists"},
                    "ServeFolders": {"/doc": "/srv/none"},
                    "HttpsCACertificates": "/srv/none.pem",
                },
                "peers": {"p": {"Url": "https://p/", "CertificateFile": "/srv/closed.lua"}},
                "dicom": {"enabled": True},
            },
            [
                "/etc/orthanc/missing.lua is no file",
                "TemporaryDirectory: /root cannot be read by the user orthanc; choose a folder for",
                "orthanc:config:Worklists:Database: there is no folder /srv/worklists; make it",
                "orthanc:config:ServeFolders:/doc: there is no folder /srv/none",
                "orthanc:config:HttpsCACertificates: /srv/none.pem is no file",
                "orthanc:peers:p:CertificateFile: /srv/closed.lua cannot be read by the user",
            ],
        ),
        ({"paths": {"plugins": "/srv/plugins"}}, ["libBroken.so"]),
        ({"config": {"Plugins": [FOLDER, "/srv/plugins/libBroken.so"]}}, ["libBroken.so"]),
        ({"config": {"Plugins": [FOLDER, "/srv/libNone.so"]}}, ["config:Plugins:1: /srv/libNone"]),
        (
            {"config": {**TLS, "DicomTlsCertificate": "/srv/none.pem"}, "dicom": DICOM},
            ["DicomTlsCertificate: /srv"],
        ),
        (
            {"config": {**SSL, "SslCertificate": "/srv/none.pem"}},
            ["orthanc:config:SslCertificate: /srv/none.pem"],
        ),
        # The distribution's builds crash at the first request over HTTPS.
        ({"config": SSL}, ["cannot do HTTPS themselves", "nginx"]),
        ({"paths": {"storage": "/srv/readonly"}}, ["orthanc:paths:storage", "read-only"]),
        ({"paths": {"storage": "/srv/readonly/below"}}, ["orthanc:paths:storage", "read-only"]),
        ({"paths": {"index": "/srv/full"}}, ["orthanc:paths:index", "is full"]),
        (
            {"config": {"StorageDirectory": "/srv/notmine"}},
            ["StorageDirectory", "the user orthanc"],
        ),
        ({"port": 8099}, ["orthanc:port: 8099", "taken by /usr/bin/python3"]),
        ({"dicom": {**DICOM, "port": 8099}}, ["orthanc:dicom:port: 8099", "taken"]),
        (
            {"dicom": {**DICOM, "port": 104}, "hardening": False},
            ["orthanc:dicom:port", "CAP_NET_BIND_SERVICE"],
        ),
        (
            {"config": {"PostgreSQL": {**POSTGRESQL, "Host": "127.0.0.1", "Port": 5999}}},
            ["orthanc:config:PostgreSQL:Host", "127.0.0.1 port 5999", "no database answers"],
        ),
        (
            {
                "config": {
                    "PostgreSQL": {
                        "EnableIndex": True,
                        "ConnectionUri": "postgresql://x:Geheim@127.0.0.1:5999/orthanc",
                    }
                }
            },
            ["orthanc:config:PostgreSQL:ConnectionUri", "127.0.0.1 port 5999"],
        ),
        (
            {"config": {"PostgreSQL": {**POSTGRESQL, "Host": "/var/run/postgresql"}}},
            ["orthanc:config:PostgreSQL:Host", "/var/run/postgresql/.s.PGSQL.5432"],
        ),
    ],
)
def test_a_failure_that_a_trial_shows_never_touches_the_host(server, users, settings, words):
    pid, files = server.pid(), server.run(FILES).out
    server.pillar(**{**SETTINGS, "users": users, **settings})
    for test in (True, False):
        started = time.monotonic()
        run = server.state(test=test)
        comment = run.failed["orthanc-config"]
        for word in words:
            assert word in comment, str(run)
        assert "Geheim" not in run.output
        # What a new folder was is noted, for orthanc.clean.
        noted = {"orthanc-first-run"} if "paths" in settings else set()
        assert run.changes.keys() <= ({"orthanc-serving"} if test else set()) | noted, str(run)
        assert time.monotonic() - started < START_TIMEOUT
    assert server.pid() == pid
    assert server.run(FILES).out == files
    assert server.run(REMAINS).out.split() == ["1"]
    assert server.ask("GET", "/system", "anna", users["anna"]["password"]).code == 200


def test_what_the_unit_hides_is_no_place(server, users):
    """The trial does not see it, the service would: it dies of it."""
    unit = "/etc/systemd/system/orthanc.service.d/home.conf"
    server.write(unit, "[Service]\nProtectHome=yes\nPrivateTmp=yes\n")
    server.write("/home/scripts/good.lua", "print('good')")
    server.run("systemctl daemon-reload; systemctl restart orthanc")
    server.wait_for_port()
    pid = server.pid()
    settings = {**SETTINGS, "users": users}
    server.pillar(**settings, config={"LuaScripts": ["/home/scripts/good.lua"]})
    assert "hidden or protected by the unit of orthanc" in server.state().failed["orthanc-config"]
    assert server.pid() == pid
    server.run(f"rm {unit}; systemctl daemon-reload; systemctl restart orthanc")
    server.apply(**settings, config={"LuaScripts": ["/home/scripts/good.lua"]})
    server.apply(**settings)


def test_what_is_in_use_and_gets_worse_by_itself_is_warned_about(server, users):
    """Another setting is applied all the same."""
    server.run("install -d -o orthanc /srv/later; chmod 755 /srv")
    settings = {**SETTINGS, "users": users, "config": {"TemporaryDirectory": "/srv/later"}}
    server.apply(**settings)
    server.run("rmdir /srv/later")
    run = server.apply(**settings, limit_find=50)
    (warning,) = [w for w in run.states["orthanc-pillar"]["warnings"] if "/srv/later" in w]
    assert warning.startswith("orthanc:config:TemporaryDirectory: there is no folder /srv/later")
    server.apply(**{**SETTINGS, "users": users})


def test_what_a_trial_shows_to_be_good_is_applied(server, users):
    """The trial has the plugins, scripts and certificates of the host, and other ports."""
    server.write("/srv/good.lua", "print('good')")
    config = {**TLS, "LuaScripts": ["/srv/good.lua"], "PostgreSQL": {"EnableIndex": False}}
    # A folder of plugins that is not there is none of Orthanc's worries.
    config["Plugins"] = ["/usr/share/orthanc/plugins", "/usr/local/share/orthanc/plugins"]
    server.apply(**{**SETTINGS, "users": users, "dicom": DICOM, "config": config})
    assert server.run(REMAINS).out.split() == ["1"]
    assert not server.state().changes
    # The port is the server's own now; a low one is open to a service that may have it.
    server.write(
        "/etc/systemd/system/orthanc.service.d/low.conf",
        "[Service]\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n",
    )
    server.run("systemctl daemon-reload")
    low = {"dicom": {**DICOM, "port": 104}, "hardening": False}
    server.apply(**{**SETTINGS, "users": users, **low})
    assert server.run("grep -i ':0068 ' /proc/net/tcp").ok
    server.apply(**{**SETTINGS, "users": users})


def test_a_program_that_was_upgraded_while_it_runs_has_its_own_ports(server, users):
    server.apply(**{**SETTINGS, "users": users})
    server.run("cd /usr/sbin; cp -a Orthanc Orthanc.dpkg-new; mv Orthanc.dpkg-new Orthanc")
    assert "(deleted)" in server.run("readlink /proc/$(pgrep -x Orthanc)/exe").out
    server.apply(**{**SETTINGS, "users": users, "config": {"Name": "upgraded"}})
    server.apply(**{**SETTINGS, "users": users})


def test_a_link_in_the_folder_is_not_followed(server, users):
    server.run("cp /etc/orthanc/orthanc.json /srv/real.json; ln -sf /srv/real.json /etc/orthanc/")
    server.run("mv /etc/orthanc/real.json /etc/orthanc/orthanc.json")
    before = server.read("/srv/real.json")
    server.pillar(**{**SETTINGS, "users": users, "config": {"Name": "linked"}})
    assert not server.state(test=True).failed
    assert server.read("/srv/real.json") == before
    server.apply(**{**SETTINGS, "users": users, "config": {"Name": "linked"}})
    assert server.read("/srv/real.json") == before
    assert server.ask("GET", "/system", "anna", users["anna"]["password"]).json["Name"] == "linked"


def test_the_folder_may_be_a_link(server, users):
    server.run(
        "systemctl stop orthanc; mv /etc/orthanc /srv/linked; ln -s /srv/linked /etc/orthanc"
    )
    server.apply(**{**SETTINGS, "users": users})
    server.pillar(**{**SETTINGS, "users": users, "config": {"Name": "linked"}})
    before = server.run("cat /srv/linked/*; ls -lA /srv/linked").out
    assert not server.state(test=True).failed
    assert server.run("cat /srv/linked/*; ls -lA /srv/linked").out == before
    assert server.state().ok
    assert server.ask("GET", "/system", "anna", users["anna"]["password"]).json["Name"] == "linked"
    assert server.run("test -L /etc/orthanc && ls -d /srv/linked*").out.split() == ["/srv/linked"]
    server.run("systemctl stop orthanc; rm /etc/orthanc; mv /srv/linked /etc/orthanc")
    server.apply(**{**SETTINGS, "users": users})


def test_a_changed_file_that_the_configuration_names_is_tried_and_proven(server, users):
    server.write("/srv/own.lua", "dofile('/srv/part.lua')")
    server.write("/srv/part.lua", "print('one')")
    settings = {**SETTINGS, "users": users, "config": {"LuaScripts": ["/srv/own.lua"]}}
    server.apply(**settings)
    assert not server.state().changes
    assert server.run("stat -c '%a %U' /etc/orthanc.as-read").out.split() == ["600", "root"]
    pid = server.pid()
    server.write("/srv/part.lua", "function (")
    for test in (True, False):
        run = server.state(test=test)
        assert "<name> expected" in run.failed["orthanc-config"], str(run)
        assert server.pid() == pid
    server.write("/srv/part.lua", "print('two')")
    tried = server.state(test=True)
    assert list(tried.changes["orthanc-config"]) == ["/srv/part.lua"]
    assert tried.changes["orthanc-serving"]["orthanc"]["new"] == "restarted"
    assert server.pid() == pid
    assert server.state().ok
    assert server.pid() != pid
    assert not server.state().changes
    # What was read since, or only touched, is no change.
    server.write("/srv/part.lua", "print('three')")
    server.run("systemctl restart orthanc")
    server.wait_for_port()
    assert not server.state().changes
    server.run("touch /srv/part.lua")
    assert not server.state().changes
    # Where it is gone, the next start would fail.
    pid = server.pid()
    server.run("mv /srv/own.lua /srv/gone.lua")
    run = server.state()
    assert "LuaScripts:0: /srv/own.lua is no file" in run.failed["orthanc-config"]
    assert server.pid() == pid
    server.run("mv /srv/gone.lua /srv/own.lua")
    # Without a trial, Orthanc dies of it; there is no copy, so the sentence says where to mend it.
    server.write("/srv/part.lua", "function (")
    server.pillar(**settings, preflight=False)
    comment = server.state().failed["orthanc-serving"]
    assert "Files have changed since it last served, put them right: /srv/part.lua." in comment
    server.write("/srv/part.lua", "print('four')")
    assert server.state().ok
    assert not server.state().changes
    server.apply(**{**SETTINGS, "users": users})


def test_a_full_disk_of_the_index_takes_no_server_away(server, users):
    """Orthanc does not start again on one, and serves as long as nobody restarts it."""
    server.run("mkdir -p /srv/disk; mount -t tmpfs -o size=20m,mode=755 none /srv/disk")
    settings = {**SETTINGS, "paths": {"index": "/srv/disk/index"}}
    server.apply(**settings, users=users)
    server.run("head -c 50m /dev/zero > /srv/disk/fill", check=False)
    pid = server.pid()
    new = {"another": {"password": "a long one of another", "role": "reader"}}
    server.pillar(**settings, users={**users, **new})
    for test in (True, False):
        told = server.state(test=test).failed["orthanc-config"]
        assert "orthanc:paths:index: the file system of /srv/disk/index is full" in told
        assert server.pid() == pid
    server.pillar(**settings, users=users)
    run = server.state()
    assert run.ok
    assert "is full" in str(run.states["orthanc-pillar"]["warnings"])
    assert server.pid() == pid
    server.run("rm /srv/disk/fill")
    server.apply(**settings, users={**users, **new})
    assert server.ask("GET", "/system", "another", "a long one of another").code == 200
    server.apply(**{**SETTINGS, "users": users})
    server.run("umount /srv/disk")


def test_so_are_a_certificate_and_a_plugin(server, users):
    server.run(
        "install -d /srv/own; cd /srv/own; cp /srv/cert.pem /srv/key.pem .; chmod 644 *.pem;"
        f" cp {FOLDER}/libServeFolders.so libOwn.so; cp /srv/cert.pem other.pem"
    )
    tls = {option: str(value).replace("/srv/", "/srv/own/") for option, value in TLS.items()}
    config = {**tls, "DicomTlsEnabled": True, "Plugins": ["/srv/own/libOwn.so"]}
    server.apply(users=users, dicom=DICOM, config=config)
    assert not server.state().changes
    pid = server.pid()
    for entry, words in (("cert.pem", "certificate"), ("libOwn.so", "libOwn.so")):
        server.run(f"cd /srv/own; cp -p {entry} kept; echo none > {entry}")
        run = server.state()
        assert words in run.failed["orthanc-config"], str(run)
        assert server.pid() == pid
        # Another content that is sound: a new process reads it.
        server.run(f"cd /srv/own; cp -p kept {entry}; echo >> {entry}")
        run = server.state()
        assert list(run.changes["orthanc-config"]) == [f"/srv/own/{entry}"], str(run)
        assert server.pid() != pid
        pid = server.pid()
        assert not server.state().changes
    server.apply(**{**SETTINGS, "users": users})


def test_two_scripts_that_define_one_callback(server, users):
    """The last one would be called alone; whoever has it so is not stopped by something else."""
    scripts = ["/srv/one.lua", "/srv/two.lua"]
    for path in scripts:
        server.write(path, "function OnStoredInstance() end\n")
    settings = {**SETTINGS, "users": users, "config": {"LuaScripts": scripts}}
    server.pillar(**settings)
    refused = "orthanc:config:LuaScripts:1: /srv/two.lua defines OnStoredInstance, as /srv/one.lua"
    for test in (True, False):
        assert refused in server.state(test=test).failed["orthanc-config"]
    server.apply(**settings, preflight=False)
    settings["config"]["Name"] = "Changed"
    server.apply(**settings)
    server.write("/srv/two.lua", "function OnStoredInstance() return 1 end\n")
    assert refused in server.state().failed["orthanc-config"]
    both = "local before = OnStoredInstance\nfunction OnStoredInstance(...) before(...) end\n"
    server.write("/srv/two.lua", both)
    server.apply(**settings)


def test_the_packages_and_files_of_others_are_compared_too(server, users):
    """A plugin in the place of another one, and a file that somebody put beside the formula's."""
    server.apply(**{**SETTINGS, "users": users})
    server.run("sleep 1.2")
    server.write("/etc/orthanc/own.json", '{"StableAge": 61}')
    run = server.state()
    assert "/etc/orthanc/own.json" in run.changes["orthanc-config"], str(run)
    assert "orthanc-serving" in run.changes
    assert not server.state().changes
    server.run("rm /etc/orthanc/own.json")
    assert "orthanc-serving" in server.state().changes
    assert not server.state().changes


def test_the_files_of_others_take_part_in_the_trial(server, users):
    server.write("/etc/orthanc/own.json", '{"StableAge": "sixty"}')
    pid = server.pid()
    server.pillar(**{**SETTINGS, "users": users, "config": {"Name": "other"}})
    run = server.state()
    assert "StableAge" in run.failed["orthanc-config"]
    assert server.pid() == pid
    server.write("/etc/orthanc/own.json", '{"StableAge": 60} // and more')
    server.apply(**{**SETTINGS, "users": users, "config": {"Name": "other"}})
    server.run("rm /etc/orthanc/own.json; systemctl restart orthanc")
    server.apply(**{**SETTINGS, "users": users})


@pytest.fixture
def served(server, users):
    """The server with a configuration that is known to serve, and what is in its files."""
    server.apply(**{**SETTINGS, "users": users, "config": {"Name": "good"}})
    return server.run("cat /etc/orthanc/*.json /etc/orthanc/orthanc-formula-users.lua").out


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        # Without a trial, Orthanc dies of it.
        ({"preflight": False, "config": {"LuaScripts": ["/srv/broken.lua"]}}, ["<name> expected"]),
        ({"preflight": False, "config": SSL}, ["The last good"]),
        # A trial has a scratch index.
        ({"paths": {"storage": "/srv/foreign"}}, ["SQLite"]),
        # Something answers on the port of the database, but it is none.
        (
            {
                "start_timeout": 5,
                "config": {"PostgreSQL": {**POSTGRESQL, "Host": "127.0.0.1", "Port": 8099}},
            },
            ["PostgreSQL"],
        ),
    ],
)
def test_the_last_good_configuration_returns(server, served, users, settings, words):
    server.run("mkdir -p /srv/foreign; echo no database > /srv/foreign/index")
    server.run("chown -R orthanc: /srv/foreign; chmod 755 /srv/foreign")
    server.pillar(**{**SETTINGS, "users": users, **settings})
    started = time.monotonic()
    run = server.state()
    assert time.monotonic() - started < START_TIMEOUT
    comment = run.failed["orthanc-serving"]
    for word in (*words, "The last good configuration is back, and Orthanc serves with it"):
        assert word in comment, str(run)
    assert "Geheim" not in run.output
    answer = server.ask("GET", "/system", "anna", users["anna"]["password"])
    assert answer.json["Name"] == "good"
    assert (
        server.run("cat /etc/orthanc/*.json /etc/orthanc/orthanc-formula-users.lua").out == served
    )
    assert server.run("stat -c '%a %U' /etc/orthanc.last-good").out.split() == ["600", "root"]
    # The same pillar fails again, and a good one is applied.
    assert not server.state().ok
    server.apply(**{**SETTINGS, "users": users, "config": {"Name": "better"}})
    assert server.ask("GET", "/system", "anna", users["anna"]["password"]).json["Name"] == "better"
    assert not server.state().changes


def test_a_folder_that_moves_goes_back_with_the_unit(server, users):
    settings = {**SETTINGS, "users": users, "port": 8043}
    server.apply(**settings)
    unit = server.run("systemctl cat orthanc").out
    server.write("/srv/broken.lua", "function (")
    for paths in ({"config": "/srv/pacs/etc"}, {"log": "/srv/pacs/log"}):
        server.pillar(
            **{**settings, "port": 8044, "preflight": False, "paths": paths},
            config={"LuaScripts": ["/srv/broken.lua"]},
        )
        comment = server.state().failed["orthanc-serving"]
        assert "<name> expected" in comment
        assert "The last good configuration is back, and Orthanc serves with it" in comment
        answer = server.ask("GET", "/system", "anna", users["anna"]["password"], port=8043)
        assert answer.code == 200
        assert server.run("systemctl cat orthanc").out == unit
    server.apply(**settings)
    server.apply(**{**SETTINGS, "users": users})


def test_a_first_run_that_does_not_serve_leaves_no_orthanc(fresh_minion, users):
    """The package's own configuration would take images from everybody."""
    fresh_minion.write("/srv/broken.lua", "function (")
    fresh_minion.pillar(users=users, preflight=False, config={"LuaScripts": ["/srv/broken.lua"]})
    run = fresh_minion.state()
    assert "<name> expected" in run.failed["orthanc-serving"]
    assert "never served" in run.failed["orthanc-serving"]
    fresh_minion.run("systemctl start orthanc")
    assert fresh_minion.ask("GET", "/system").code == 0
    assert not fresh_minion.pid()
    fresh_minion.apply(users=users)
    assert fresh_minion.ask("GET", "/system").code == 401


def test_warnings_do_not_fail_the_run(server, users):
    run = server.apply(**{**SETTINGS, "users": users, "limit_find": 0})
    (warning,) = run.states["orthanc-pillar"]["warnings"][:1]
    assert warning.startswith("orthanc:limit_find: 0 is advised against")


def test_an_administrator_can_ask_without_applying(server, users):
    server.apply(**{**SETTINGS, "users": users})
    files = server.run(FILES).out
    found = server.call("orthanc_conf.validate", "--out=json")
    assert '"problems": []' in found.out
    server.pillar(**{**SETTINGS, "users": users, "config": {"HttpPrt": 1}, "prot": 2})
    found = server.call("orthanc_conf.validate", check=False)
    assert found.code == 1
    assert "orthanc:config:HttpPrt" in found.out
    assert "orthanc:prot" in found.out
    server.write("/srv/files/a.json", '{"HttpPort": 99999, /* x */ "Foo": {}, }')
    server.write("/srv/files/b.json", '{"HttpPort": 1, "WebDavEnabled": true}')
    server.write("/srv/files/.c.JSON", '{"Name": ')
    found = server.call("orthanc_conf.validate", "/srv/files", check=False)
    assert found.code == 1
    for words in (
        "/srv/files/a.json: HttpPort: must be a port",
        "/srv/files/a.json: Foo: unknown option",
        "/srv/files/b.json: HttpPort: is set in /srv/files/a.json too",
        "/srv/files/b.json: WebDavEnabled: true is advised against",
        "/srv/files/.c.JSON: ",
    ):
        assert words in found.out, found
    assert server.call("orthanc_conf.validate", "/srv/files/b.json").ok
    server.write("/srv/files/c.json", '{"DicomWeb": {"Enable": true}}')
    assert server.call("orthanc_conf.validate", "/srv/files/c.json").ok
    server.write("/srv/files/c.json", '{"DicomWeb": {"Enable": true}, "Plugins": ["/srv"]}')
    found = server.call("orthanc_conf.validate", "/srv/files/c.json", check=False)
    assert "/srv/files/c.json: DicomWeb: no plugin of this host reads it" in found.out
    assert server.call("orthanc_conf.validate", "/etc/orthanc").ok
    assert not server.call("orthanc_conf.validate", "/srv/none", check=False).ok
    assert server.run(FILES).out == files


def test_a_section_that_nobody_knows_can_be_allowed(server, users):
    config = {"OurOwnPlugin": {"Deep": [1, {"x": None}]}}
    server.pillar(**{**SETTINGS, "users": users, "config": config})
    assert "OurOwnPlugin: unknown option" in server.state().failed["orthanc-pillar"]
    server.apply(**{**SETTINGS, "users": users, "config": config, "plugin_sections": [*config]})
    assert "OurOwnPlugin" in server.read("/etc/orthanc/orthanc.json")


def test_where_mount_name_spaces_are_forbidden_the_trial_is_left_out(server, users):
    """As in a container that nobody gave CAP_SYS_ADMIN; what remains is the way back."""
    settings = {**SETTINGS, "users": users, "hardening": False}
    contained = "setpriv --bounding-set=-sys_admin salt-call state.apply orthanc 2>&1"
    who = ("anna", users["anna"]["password"])
    server.pillar(**settings, config={"Name": "untried"})
    assert "allows no mount name spaces" in server.run(contained).out
    assert server.ask("GET", "/system", *who).json["Name"] == "untried"
    server.pillar(**settings, config={"LuaScripts": ["/srv/broken.lua"]})
    assert "Orthanc serves with it" in server.run(contained, check=False).out
    assert server.ask("GET", "/system", *who).json["Name"] == "untried"
