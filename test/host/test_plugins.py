"""
Plugins of packages: what the pillar uses is loaded, and nothing else. Plugins that are downloaded,
and scripts: what Orthanc takes serves, what would stop it changes nothing.
"""

import documentation
import plugins
import pydicom
import pytest
import testbed
import yaml
from https import login
from minion import Minion

PACKAGED = "/usr/share/orthanc/plugins"
FOLDER = "/usr/local/lib/orthanc-plugins"
# A private tag, which Orthanc forgets if libMultitenantDicom.so is loaded with Debian's DCMTK.
DICTIONARY = {"00e1,10c2": ["UI", "PET-CT Multi Modality Name", 1, 1, "ELSCINT1"]}
NAME = "libMadeForTests.so"
COPIES = "formula-script-*"
# Owner, mode and content of all that must not change.
STATE = (
    "cd /; find etc/orthanc etc/orthanc.last-good usr/share/orthanc -printf '%p %u %g %m %T@\\n'"
    " | sort; find etc/orthanc* usr/share/orthanc -type f -exec sha256sum {} +"
)
# Of the broken plugins; all of them are tried on Debian 12.
ON_EACH_SYSTEM = ("another processor", "missing library", "another ABI")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("plugins")


@pytest.fixture(scope="module")
def web(folder):
    with plugins.WebServer(testbed.network().gateway, folder) as server:
        yield server


@pytest.fixture(scope="module")
def broken(folder):
    return plugins.broken(folder)


@pytest.fixture(scope="module", params=["bookworm", "trixie", "leap"])
def server(request, salt_version, users):
    with Minion(testbed.deployed(request.param, salt_version)) as host:
        host.apply(users=users)
        assert loaded(host, users) == {}
        yield host


@pytest.fixture
def first(server, web, folder, users):
    """The server with one plugin; its entry in the pillar."""
    path = plugins.make(folder / NAME)
    key = plugins.sha256(path)
    there = files(server) == [key, f"{key}/{NAME}"]
    if not there or loaded(server, users).get("made-for-tests") != "1.0":
        server.apply(users=users, plugins=[entry_of(path, web)])
    return entry_of(path, web)


def entry_of(path, web, **more):
    """Return what the pillar says of a plugin that the web server has."""
    return {
        "source": f"{web.url}/{path.name}",
        "source_hash": f"sha256={plugins.sha256(path)}",
        **more,
    }


def loaded(server, users):
    """Return the versions of the plugins that the running server says it has, by name."""
    who = ("anna", users["anna"]["password"])
    names = set(server.ask("GET", "/plugins", *who).json) - {"explorer.js"}
    return {name: server.ask("GET", f"/plugins/{name}", *who).json["Version"] for name in names}


def files(server):
    """Return what is in the folder of the plugins."""
    found = server.run(f"cd {FOLDER} && find . -mindepth 1 | sort", check=False)
    return found.out.replace("./", "").split()


def private_tag(server, users, image):
    """Return what the server calls the private tag of an image."""
    path = image()
    content = pydicom.dcmread(path)
    content.private_block(0x00E1, "ELSCINT1", create=True).add_new(0xC2, "UI", "1.2.3")
    content.save_as(path)
    who = ("anna", users["anna"]["password"])
    stored = server.ask("POST", "/instances", *who, data=f"@{path}").json["ID"]
    return server.ask("GET", f"/instances/{stored}/tags?simplify", *who).json


def comment(run):
    return run.states["orthanc-config"]["comment"]


def test_only_what_the_pillar_uses_is_loaded(server, folder, users, image):
    worklists = {"Worklists": {"Enable": True, "Database": "/srv"}}
    settings = {"users": users, "dicom": {"enabled": True}}
    wanted = {"packages": ["orthanc", "orthanc-dicomweb"]}
    server.pillar(**settings, **wanted, config={"Dictionary": DICTIONARY, **worklists})
    tried = server.state(test=True)
    assert not tried.failed, str(tried)
    run = server.state()
    assert run.ok, str(run)
    assert set(loaded(server, users)) == {"dicom-web", "worklists"}
    names = ("libModalityWorklists.so", "libOrthancDicomWeb.so")
    # It was told before the package was there.
    for it in (tried, run):
        changes = it.changes["orthanc-config"].values()
        (change,) = [options["Plugins"] for options in changes if "Plugins" in options]
        assert change == {"old": [], "new": [f"{PACKAGED}/{name}" for name in names]}
    assert "libServeFolders.so (orthanc)" in comment(run)
    assert server.ask("GET", "/dicom-web/studies", "anna", users["anna"]["password"]).code == 200
    run = server.state()
    assert run.changes == {}
    assert "lib" not in comment(run)

    # A package that leaves the pillar, a file that somebody put there, and one that is no plugin.
    server.path(f"{PACKAGED}/libOwn.so").write_bytes(
        plugins.make(folder / "libOwn.so", "own").read_bytes()
    )
    helper = plugins.compile(folder / "libHelper.so", "int x;")
    server.path(f"{PACKAGED}/libHelper.so").write_bytes(helper.read_bytes())
    server.pillar(users=users, config={"Dictionary": DICTIONARY})
    for test in (True, False):
        run = server.state(test=test)
        assert not run.failed, str(run)
        assert "libOrthancDicomWeb.so (orthanc-dicomweb)" in comment(run)
    assert set(loaded(server, users)) == {"own"}
    assert server.ask("GET", "/dicom-web/studies", "anna", users["anna"]["password"]).code == 404
    assert server.run(f"test -e {PACKAGED}/libOrthancDicomWeb.so").ok
    assert private_tag(server, users, image)["PET-CT Multi Modality Name"] == "1.2.3"
    run = server.state()
    assert run.changes == {}
    assert comment(run).endswith(": libOrthancDicomWeb.so (orthanc-dicomweb)")

    # Its section alone asks for it, too, also in a file of the administrator's own.
    server.write("/etc/orthanc/site.json", '{"ServeFolders": {"/own": "/srv"}}')
    run = server.apply(users=users, config={"DicomWeb": {"Enable": True}})
    assert set(loaded(server, users)) == {"dicom-web", "own", "serve-folders"}
    server.run(f"rm /etc/orthanc/site.json {PACKAGED}/libOwn.so {PACKAGED}/libHelper.so")
    server.apply(users=users)
    assert loaded(server, users) == {}


def test_a_plugin_from_a_url_serves(server, web, folder, users):
    path = plugins.make(folder / NAME, version="1.0")
    entry, key = entry_of(path, web), plugins.sha256(path)
    before = server.run(STATE).out
    server.pillar(users=users, plugins=[entry])
    tried = server.state(test=True)
    assert not tried.failed, str(tried)
    assert (server.run(STATE).out, files(server)) == (before, [])
    assert "made-for-tests" not in loaded(server, users)

    run = server.state()
    assert run.ok, str(run)
    assert set(run.changes) == set(tried.changes)
    assert set(run.changes) == {f"orthanc-plugin-{NAME}", "orthanc-config", "orthanc-serving"}
    assert run.changes["orthanc-config"] == tried.changes["orthanc-config"]
    assert loaded(server, users)["made-for-tests"] == "1.0"
    assert files(server) == [key, f"{key}/{NAME}"]
    modes = server.run(f"stat -c '%a %U:%G' {FOLDER} {FOLDER}/{key} {FOLDER}/{key}/{NAME}").out
    assert modes.splitlines() == ["755 root:root", "755 root:root", "644 root:root"]

    everything = f"{STATE}; find {FOLDER} -printf '%p %i %T@\\n' | sort"
    pid, before, asked = server.pid(), server.run(everything).out, len(web.requests)
    assert server.apply(users=users, plugins=[entry]).changes == {}
    assert server.state(test=True).changes == {}
    assert (server.pid(), server.run(everything).out, len(web.requests)) == (pid, before, asked)


def test_a_plugin_that_would_stop_orthanc_changes_nothing(server, first, web, broken, users):
    pid, before = server.pid(), server.run(STATE).out
    for what, (path, words) in broken.items():
        if what not in ON_EACH_SYSTEM and "bookworm" not in str(server.layers):
            continue
        server.pillar(users=users, plugins=[first, entry_of(path, web)])
        run = server.state()
        assert words in run.failed["orthanc-config"], (what, run)
        assert set(run.changes) == {f"orthanc-plugin-{path.name}"}, what
        assert (server.pid(), server.run(STATE).out) == (pid, before), what
    # Nor does it play a part later.
    server.run("systemctl restart orthanc")
    server.wait_for_port()
    assert loaded(server, users)["made-for-tests"] == "1.0"
    server.apply(users=users, plugins=[first])
    key = first["source_hash"].replace("sha256=", "")
    assert files(server) == [key, f"{key}/{NAME}"]


@pytest.mark.parametrize("server", ["bookworm"], indirect=True, scope="module")
def test_an_interrupted_change_of_a_plugin_is_finished_by_the_next_run(
    server, first, web, folder, users
):
    new = entry_of(plugins.make(folder / NAME, version="1.5"), web)
    pid = server.pid()
    server.pillar(users=users, plugins=[new])
    assert server.state("orthanc.plugins").ok
    assert loaded(server, users)["made-for-tests"] == "1.0"
    assert server.state("orthanc.config").ok
    assert server.pid() == pid
    run = server.state()
    assert set(run.changes) == {"orthanc-serving", "orthanc-plugins-unused"}
    assert loaded(server, users)["made-for-tests"] == "1.5"


def test_a_new_version_takes_the_place_of_the_old_one(server, first, web, folder, users):
    path = plugins.make(folder / NAME, version="2.0")
    key = plugins.sha256(path)
    run = server.apply(users=users, plugins=[entry_of(path, web)])
    assert "orthanc-plugins-unused" in run.changes
    assert loaded(server, users)["made-for-tests"] == "2.0"
    assert files(server) == [key, f"{key}/{NAME}"]
    assert server.state().changes == {}


def test_the_old_one_returns_if_the_new_one_does_not_serve(server, first, web, folder, users):
    """It starts on trial only, where the folder of the configuration has a scratch folder."""
    trial = 'access("/etc/orthanc/scratch", F_OK)'
    path = plugins.make(folder / NAME, version="3.0", initialize=trial)
    server.pillar(users=users, plugins=[entry_of(path, web)])
    run = server.state()
    assert "Error while initializing plugin" in run.failed["orthanc-serving"], str(run)
    assert "The last good configuration is back" in run.failed["orthanc-serving"]
    assert loaded(server, users)["made-for-tests"] == "1.0"
    key = first["source_hash"].replace("sha256=", "")
    assert f"{key}/{NAME}" in files(server)
    assert server.apply(users=users, plugins=[first]).changes.keys() == {"orthanc-plugins-unused"}


def test_a_wrong_hash_is_refused(server, first, web, folder, users):
    path = plugins.make(folder / "libWrong.so", "wrong")
    server.write("/srv/here.so", "what is here")
    server.write("/srv/salt/plugins/there.so", "what is there")
    sources = {
        "libX.so": f"{web.url}/{path.name}",
        "libY.so": "/srv/here.so",
        "libZ.so": "salt://plugins/there.so",
        "libXX.so": f"{web.url}/none.so?token=Geheim-4711",
        "libYY.so": "/srv/none.so",
        "libZZ.so": "salt://plugins/none.so",
    }
    wrong = [
        {"source": source, "name": name, "source_hash": "sha256=" + 64 * "0"}
        for name, source in sources.items()
    ]
    pid, before = server.pid(), server.run(STATE).out
    server.pillar(users=users, plugins=[first, *wrong])
    run = server.state()
    for name, source in sources.items():
        comment = run.failed[f"orthanc-plugin-{name}"]
        words = "cannot be had" if "none" in source else "which is not the one of the pillar"
        assert f"{source.split('?')[0]} " in comment, str(run)
        assert words in comment, str(run)
    assert "Geheim" not in run.output
    assert run.changes == {}
    server.pillar(users=users, plugins=[first, {"source": f"{web.url}/{path.name}"}])
    asked = len(web.requests)
    run = server.state()
    assert "orthanc:plugins:1:source_hash" in run.failed["orthanc-pillar"], str(run)
    assert run.changes == {}
    assert len(web.requests) == asked
    assert len(files(server)) == 2
    assert (server.pid(), server.run(STATE).out) == (pid, before)


def test_from_the_file_server_from_the_host_and_without_a_hash(server, web, folder, users):
    made = {name: plugins.make(folder / f"lib{name}.so", name) for name in ("one", "two", "three")}
    server.path("/srv/salt/plugins").mkdir(parents=True, exist_ok=True)
    server.path("/srv/salt/plugins/one-1.0").write_bytes(made["one"].read_bytes())
    server.path("/srv/two.so").write_bytes(made["two"].read_bytes())
    entries = [
        {
            "source": "salt://plugins/one-1.0",
            "source_hash": plugins.sha256(made["one"]).upper(),
            "name": "libOne.so",
        },
        {"source": "/srv/two.so", "source_hash": plugins.sha256(made["two"])},
        {"source": f"{web.url}/libthree.so?token=x", "insecure": True},
    ]
    run = server.apply(users=users, plugins=entries)
    assert {"one", "two", "three"} <= set(loaded(server, users))
    (warning,) = run.states["orthanc-pillar"]["warnings"]
    assert warning.startswith("orthanc:plugins:2:insecure: ")
    assert "orthanc:plugins:2:insecure" in server.call("orthanc_conf.validate").out

    # What has no hash is fetched once, until somebody takes it away.
    plugins.make(folder / "libthree.so", "three", version="2.0")
    asked = len(web.requests)
    assert server.state().changes == {}
    assert len(web.requests) == asked
    server.run(f"rm {FOLDER}/insecure-*")
    run = server.state()
    assert run.ok, str(run)
    assert loaded(server, users)["three"] == "2.0"
    assert server.state().changes == {}
    assert len(files(server)) == 7

    # And tried as any other.
    plugins.make(folder / "libthree.so", "three", version="3.0", initialize="-1")
    server.run(f"rm {FOLDER}/insecure-*")
    assert "Error while initializing" in server.state().failed["orthanc-config"]
    server.run("systemctl restart orthanc")
    server.wait_for_port()
    assert loaded(server, users)["three"] == "2.0"


def test_what_leaves_the_pillar_leaves_the_host_and_nothing_else_does(server, first, users):
    packaged = server.run("ls /usr/share/orthanc/plugins").out
    folder = server.run(f"dirname {FOLDER}/*/{NAME}").out.strip()
    server.run(f"cp {folder}/{NAME} {FOLDER}/libOwn.so; echo x > {folder}/libChanged.so")
    server.pillar(users=users)
    tried, run = server.state(test=True), server.state()
    assert run.ok, str(run)
    gone = {f"{folder}/{NAME}": {"old": "present", "new": None}}
    assert run.changes["orthanc-plugins-unused"] == gone
    assert tried.changes["orthanc-plugins-unused"] == gone
    assert "made-for-tests" not in loaded(server, users)
    comment = run.states["orthanc-plugins-unused"]["comment"]
    assert f"{folder}/libChanged.so was changed by hand" in comment
    assert files(server) == [
        *(folder.split("/")[-1], f"{folder.split('/')[-1]}/libChanged.so", "libOwn.so")
    ]
    assert server.run("ls /usr/share/orthanc/plugins").out == packaged
    assert server.state().changes == {}
    server.run(f"rm -r {FOLDER}")
    assert server.state().changes == {}


@pytest.mark.parametrize("server", ["bookworm"], indirect=True, scope="module")
def test_a_plugin_that_somebody_changed_is_put_right(server, first, web, users):
    server.run(f"echo x >> {FOLDER}/*/{NAME}; chmod 666 {FOLDER}/*/{NAME}")
    run = server.apply(users=users, plugins=[first])
    assert set(run.changes) == {f"orthanc-plugin-{NAME}", "orthanc-serving"}
    assert loaded(server, users)["made-for-tests"] == "1.0"
    asked = len(web.requests)
    server.run(f"chown orthanc {FOLDER}/*/{NAME}")
    server.apply(users=users, plugins=[first])
    assert server.run(f"stat -c '%a %U' {FOLDER}/*/{NAME}").out.split() == ["644", "root"]
    assert len(web.requests) == asked
    assert server.state().changes == {}


@pytest.fixture
def scripts(server):
    """What the pillar of the documentation says of scripts, with the files that it names; and the
    viewers that have packages.
    """
    documentation.write_files(server, "Scripts")
    (text,) = (text for kind, _, text in documentation.section("Scripts") if not kind)
    return {"viewers": ["web_viewer", "whole_slides"], **yaml.safe_load(text)["orthanc"]}


def greeting(server, users):
    return server.ask("GET", "/greeting", "anna", users["anna"]["password"]).body


def test_scripts(server, users, image, scripts):
    """Those of the documentation do what it says; of a wrong one, the line is said."""
    run = server.apply(users=users, **scripts)
    assert "Good morning" not in run.output
    # In the name of one who may only read.
    for path in ("/web-viewer/app/viewer.html", "/wsi/app/viewer.html"):
        assert server.ask("GET", path, *login(users, "rita")).code == 200, path
    assert greeting(server, users) == b"Good morning"
    for modality, status in (("SR", "FilteredOut"), ("OT", "Success")):
        path = f"@{image(Modality=modality)}"
        answer = server.ask("POST", "/instances", *login(users, "wim"), data=path)
        assert answer.json["Status"] == status
    # The users' filter stands behind it.
    assert server.ask("POST", "/greeting", *login(users, "rita"), data="x").code == 403
    modes = server.run(f"cd /etc/orthanc; stat -c '%n %U:%G %a' {COPIES}").out.split("\n")
    assert modes[:-1] == [
        f"formula-script-{name} root:orthanc 640"
        for name in ("greeting.py", "no_reports.lua", "words.py")
    ]
    before, pid = server.run(STATE).out, server.pid()
    wrong = "import orthanc\nX = = 'Geheim'\n"
    server.pillar(users=users, **{**scripts, "python_scripts": {"wrong": wrong}})
    run = server.state()
    assert "orthanc:python_scripts:wrong: line 2 SyntaxError" in run.failed["orthanc-config"]
    assert "Geheim" not in run.output
    assert (server.run(STATE).out, server.pid()) == (before, pid)


@pytest.mark.parametrize("server", ["bookworm"], indirect=True, scope="module")
def test_scripts_that_change_and_go(server, users, scripts):
    settings = {"users": users, **scripts}
    server.write("/srv/scripts/words.py", 'GREETING = "Good evening"\n')
    server.pillar(**settings)
    pid = server.pid()
    for test in (True, False):
        changed = list(server.state(test=test).changes["orthanc-config"])
        assert changed == ["/etc/orthanc/formula-script-words.py"]
    assert greeting(server, users) == b"Good evening"
    assert server.pid() != pid
    wrong = {**settings["lua_scripts"], "no_reports": "x = 1\n\nx = = 'Geheim'\n"}
    server.pillar(**{**settings, "lua_scripts": wrong})
    said = server.state().failed["orthanc-config"]
    assert "]:3: unexpected symbol near '='" in said
    assert "(it was loading the script /etc/orthanc/formula-script-no_reports.lua)" in said
    # What is not tried is put back, the script as well.
    server.pillar(**{**settings, "lua_scripts": wrong, "preflight": False})
    run = server.state()
    assert "The last good" in run.failed["orthanc-serving"]
    assert "Geheim" not in run.output + server.run(f"cat /etc/orthanc/{COPIES}").out
    assert greeting(server, users) == b"Good evening"
    server.pillar(**settings)
    assert server.state().changes == {}
    server.apply(users=users)
    assert not server.run(f"ls /etc/orthanc/{COPIES}", check=False).ok
    assert server.ask("GET", "/greeting", *login(users, "anna")).code == 404


def test_clean(server, first, users):
    """Last: it takes the server away."""
    run = server.state("orthanc.plugins.clean")
    assert "still names them" in run.failed["orthanc-plugins-unused"]
    assert "made-for-tests" in loaded(server, users)
    assert len(files(server)) == 2
    run = server.state("orthanc.clean")
    assert run.ok, str(run)
    assert not server.run(f"test -e {FOLDER}", check=False).ok
    assert server.state("orthanc.clean").changes == {}
