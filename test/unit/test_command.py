"""The program that ``masterless.sh`` brings: its words, what it makes of Salt's answers, and which
packages go.
"""

import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import test_floors

FORMULA = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(FORMULA / "orthanc/command"))

import call  # noqa: E402
import places  # noqa: E402
import removal  # noqa: E402
import told  # noqa: E402
import words  # noqa: E402

SPEC = importlib.util.spec_from_file_location("command", FORMULA / "orthanc/command/__main__.py")
command = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(command)
KNOWN = words.functions(FORMULA / "_modules")
REFUSED = "The pillar is refused; nothing was changed.\n- orthanc:prot: unknown key"
WAITS = "One or more requisite failed: orthanc.validation.orthanc-pillar"


def returned(**states):
    """What ``state.apply`` returns: states by ID, each a result, a comment and its changes."""
    return {
        f"test_|-{name.replace('_', '-')}_|-name_|-function": {
            "__run_num__": number,
            "result": result,
            "comment": comment,
            "changes": changes or {},
        }
        for number, (name, (result, comment, changes)) in enumerate(states.items())
    }


def test_each_function_for_people_has_a_word():
    names = {function.name for function in KNOWN.values()}
    wanted = {f"orthanc.{name}" for name in test_floors.PEOPLE["orthanc"]}
    assert wanted <= names
    assert "orthanc_conf.validate" in names
    assert not any(name.startswith("orthanc_conf.apply") for name in names)
    # Of two with one name, it is what people ask of the server.
    assert KNOWN["restore"].name == "orthanc.restore"
    assert KNOWN["backup-key"].name == "orthanc.backup_key"
    assert KNOWN["orthanc_conf.restore"].name == "orthanc_conf.restore"


def test_the_help_names_each_word_in_a_line():
    lines = words.help_lines("orthanc-formula", KNOWN)
    for word in {*KNOWN, *words.OWN}:
        assert sum(line.split()[:1] == [word] for line in lines) == 1, word
    assert all(len(line) <= told.WIDTH for line in lines)
    # None is short of what tells it from the others.
    does = [*words.OWN.values(), *(function.does for function in KNOWN.values())]
    assert len({*does}) == len(does)
    assert all(len(each.split()) > 1 for each in does)


@pytest.mark.parametrize("word", sorted({*KNOWN, *words.OWN}))
def test_each_word_has_a_help_of_its_own(word):
    for given in (["help", word], [word, "-h"] if word != "help" else ["help", "help"]):
        assert words.choose(given, KNOWN) == words.Chosen("help", "", "", (word,))
    usage, empty, *text = words.help_of(word, "orthanc-formula", KNOWN)
    assert usage.startswith(f"Usage: orthanc-formula {word}")
    assert (empty, text != []) == ("", True)
    assert "``" not in str(text)
    assert "CLI Example" not in str(text)


def test_what_a_word_takes_is_said():
    usage = words.help_of("echo", "orthanc-formula", KNOWN)[0]
    assert usage == "Usage: orthanc-formula echo NAME [timeout=5] [config=None]"
    text = "\n".join(words.help_of("system", "orthanc-formula", KNOWN))
    assert "/system" in text


def test_functions_are_called_by_the_words_of_the_program():
    def spoken(text):
        return told.spoken(text, KNOWN, "of")

    assert spoken("see orthanc.errors; `salt-call orthanc.backup_key`.") == (
        "see of errors; `of backup-key`."
    )
    assert spoken("orthanc_conf.to_pillar, orthanc.drill") == "of to-pillar, of drill"
    for same in ("/var/log/orthanc.log", "orthanc.json", "x.orthanc.errors", "orthanc.errors_x"):
        assert spoken(same) == same


def salts(tmp_path, monkeypatch, script):
    """A Salt that is a script, and a last pillar of a path."""
    program = tmp_path / "salt-call"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(places, "LAST", tmp_path / "last")
    monkeypatch.setattr(places, "PILLAR", tmp_path / "none")
    monkeypatch.setattr(places, "RUN", tmp_path / "run")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return str(program)


ANSWERS = """case "$*" in
*pillar_file.check*broken.sls) echo '{"local": ["line 3: a tab"]}'; exit 1;;
*pillar_file.check*) echo '{"local": []}';;
*orthanc_server.paths*) echo '{"local": {"config": "/srv/o"}}';;
*state.apply*--out=yaml*) echo 'local: {}';;
*to_pillar*) echo '{"local": "/root/x.sls"}';;
*orthanc.restart*) echo '{"local": true}';;
*orthanc.jobs*) printf '\nPassed invalid arguments: limit must be less.\n\nUsage:\n' >&2; exit 1;;
*orthanc.nagios*) echo broken >&2; exit 1;;
*) echo '{"local": {"verdict": "ok", "reasons": ["see orthanc.errors"]}}'; exit 2;;
esac"""


@pytest.mark.parametrize("pillar", ["broken.sls", "gone.sls", None])
def test_what_asks_the_server_needs_no_pillar(tmp_path, monkeypatch, capfd, pillar):
    program = salts(tmp_path, monkeypatch, ANSWERS)
    (tmp_path / "broken.sls").touch()
    if pillar:
        (tmp_path / "last").write_text(f"{tmp_path}/{pillar}\n")
    assert command.main(program, "status") == 2
    said = capfd.readouterr()
    assert said.out == f"ok\n- see {places.NAME} errors\n"
    why = {"broken.sls": "line 3: a tab", "gone.sls": "is gone", None: "there was none"}[pillar]
    assert why in said.err
    assert "told of the server as it is" in said.err
    # What is not to be told is no warning, and what a function refuses no failure.
    assert command.main(program, "nagios") == 3
    assert command.main(program, "jobs") == 2
    assert command.main(program, "validate") == 1
    said = capfd.readouterr().err
    assert why in said
    assert "\nlimit must be less.\n" in said
    for word, said in (
        ("to-pillar file=/root/x.sls", f"{places.NAME} test /root/x.sls"),
        ("to-pillar", "/root/x.sls"),
        ("restart", f"Orthanc was restarted. Whether it serves: {places.NAME} status"),
    ):
        assert command.main(program, *word.split()) == 0
        assert capfd.readouterr().out.splitlines()[-1] == said


def test_a_run_is_shown_in_the_form_that_was_asked_for(tmp_path, monkeypatch, capfd):
    program = salts(tmp_path, monkeypatch, ANSWERS)
    pillar = tmp_path / "x.sls"
    pillar.touch()
    assert command.main(program, "test", str(pillar), "--out=yaml") == 0
    assert "\nlocal: {}\n" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("given", "what", "function", "arguments"),
    [
        ([], "help", "", ()),
        (["--help"], "help", "", ()),
        (["apply"], "apply", "", ()),
        (["test=True"], "apply", "", ("test=True",)),
        (["test", "--log-level=debug"], "test", "", ("--log-level=debug",)),
        (["apply", "test=true", "pillar={}"], "apply", "", ("test=True", "pillar={}")),
        (["--out=table", "jobs", "2"], "call", "orthanc.jobs", ("2", "--out=table")),
        (["remove", "--yes"], "remove", "", ("--yes",)),
        (["status"], "status", "orthanc.health", ()),
        (["verify", "sample=5"], "call", "orthanc.verify", ("sample=5",)),
        (["backup-key"], "call", "orthanc.backup_key", ()),
        (["orthanc.backup"], "call", "orthanc.backup", ()),
        (["state.apply", "orthanc.clean"], "call", "state.apply", ("orthanc.clean",)),
        (["orthanc_conf.restore", "/a"], "call", "orthanc_conf.restore", ("/a",)),
        (["--restore", "/a", "/b"], "restore", "", ("/a", "/b")),
    ],
)
def test_what_a_call_means(given, what, function, arguments):
    assert words.choose(given, KNOWN) == words.Chosen(what, function, "", arguments)


def test_a_pillar_file_is_one_wherever_it_stands(tmp_path):
    pillar = tmp_path / "orthanc.validate"
    pillar.write_text("orthanc: {}")
    for given in ([str(pillar)], ["apply", str(pillar)]):
        assert words.choose(given, KNOWN) == words.Chosen("apply", "", str(pillar), ())
    tried = words.choose(["apply", "test=True", str(pillar)], KNOWN)
    assert tried == words.Chosen("apply", "", str(pillar), ("test=True",))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["bakcup"], "no word bakcup; the nearest one is backup"),
        (["backup_key"], "the nearest one is backup-key"),
        (["Status"], "the nearest one is status"),
        (["xyzzy"], "There is no word xyzzy. All"),
        (["orthanc.helth"], "no word orthanc.helth; the nearest one is orthanc.health"),
        (["orthanc_conf.option"], "the nearest one is orthanc_conf.options"),
        (["remove", "--wrong"], "remove takes --yes and --keep-orthanc, not --wrong"),
        (["remove", "/a.sls"], "There is no file /a.sls"),
        (["$(reboot)"], "There is no word $(reboot)"),
        (["-x"], "There is no word -x"),
        ([""], "There is no word "),
        (["none.sls"], "There is no file none.sls"),
        (["apply", "none.sls"], "There is no file none.sls"),
        (["apply", "/a.sls", "/b.sls"], "apply takes no /b.sls"),
        (["help", "bakcup"], "no word bakcup; the nearest one is backup"),
        (["echo"], "echo needs NAME. Usage: echo NAME [timeout=5]"),
        (["log", "limit=5"], "log takes no limit=. Usage: log [count=50]"),
        (["status", "--vebose"], "status takes no --vebose"),
        (["system", "/etc/orthanc", "x"], "system takes no x"),
        (["remove", "--dry-run"], "not --dry-run"),
        (["apply", "--vebose"], "A run takes no --vebose"),
        (["--restore", "/a"], "Say of what"),
        (["tset=True"], "A run takes no tset=True; the nearest one is test="),
        (["apply", "--test"], "A run takes no --test; the nearest one is test="),
        (["apply", "port=8043"], "A run takes no port=8043"),
        (["apply", "test=ture"], "test must be True or False, but is ture"),
    ],
)
def test_what_means_nothing(given, said):
    with pytest.raises(words.Wrong) as error:
        words.choose(given, KNOWN)
    assert said in str(error.value)


def test_a_run_is_told_in_a_line_for_each_change():
    lines = told.Run(
        returned(
            orthanc_pillar=(
                True,
                "The pillar is sound\nWarnings:\n- the first\n- the second",
                None,
            ),
            orthanc_packages=(True, "Installed: orthanc", {"orthanc": {"old": "", "new": "1"}}),
            orthanc_storage=(True, "", {"/var/lib/orthanc": {"directory": "new"}}),
            orthanc_hold=(True, "x" * 300, {"a": "b"}),
        )
    ).lines()
    assert lines[0] == "4 states: 3 changed something."
    assert lines[1].split() == ["orthanc-packages", "Installed:", "orthanc"]
    assert lines[2].split() == ["orthanc-storage", "/var/lib/orthanc"]
    assert len(lines[3]) == told.WIDTH
    assert lines[4:] == ["", "To be thought of:", "  - the first", "  - the second"]


def test_a_line_of_a_run_says_what_is_about_to_be_done():
    lines = told.Run(
        returned(
            orthanc_enabled=(None, "Service orthanc set to be enabled", None),
            orthanc_access=(None, "The following files will be changed:", {"/a": 1, "/b": 1}),
            orthanc_other=(True, "The service runs", None),
        )
    ).lines()
    assert lines[0] == "3 states: 2 would change something."
    assert lines[1].split(maxsplit=1) == ["orthanc-enabled", "Service orthanc set to be enabled"]
    assert lines[2].split(maxsplit=1) == ["orthanc-access", "/a, /b"]


def test_of_a_refused_run_only_what_counts_is_told():
    run = told.Run(
        returned(
            orthanc_pillar=(False, f"{REFUSED}\nWarnings:\n- other", None),
            orthanc_config=(False, WAITS, None),
            orthanc_serving=(False, WAITS, None),
        )
    )
    assert run.lines() == [
        "3 states: 0 changed something, 1 failed, 2 wait for what failed.",
        *("", "To be thought of:", "  - other"),
    ]
    failures = run.failures()
    assert failures == ["orthanc-pillar:", *(f"  {line}" for line in REFUSED.splitlines())]


def test_of_a_call_that_fails_only_the_reason_is_told():
    assert told.refusal("Error running 'orthanc.x': it is away", "orthanc.x") == "it is away"


CHANGES = {
    "/etc/orthanc/orthanc.json": {
        "HttpPort": {"old": 8042, "new": 8043},
        "Name": {"old": "Orthanc"},
        "Moved": {"old": [1]},
        "DicomModalities:ct:AET": {"new": "CT1"},
        "DicomModalities:ct:Host": {"new": "192.0.2.1"},
        "DicomModalities:mr:Port": {"old": 104, "new": 105},
    },
    "/etc/orthanc/advanced.json": {"Moved": {"new": [1]}},
    "/etc/orthanc/credentials.json": {
        "RegisteredUsers:anna": {"new": "(hidden)"},
        "RegisteredUsers:bob": {"old": "(hidden)"},
        "RegisteredUsers:carl": {"old": "(hidden)", "new": "(hidden)"},
    },
    "/etc/orthanc/orthanc-formula-users.lua": {"old": "other text", "new": "written"},
    "/etc/orthanc/orthanc-formula-reserve.lua": {"old": None, "new": "written"},
}


def test_what_is_different_begins_with_who_is_lost():
    assert told.behaviour(CHANGES) == [
        "user bob goes",
        "modality ct comes",
        "user anna comes",
        "modality mr changes (Port: 104 -> 105)",
        "user carl changes (password)",
        "what the users may do",
        "HttpPort: 8042 -> 8043",
        'Name: "Orthanc" -> default',
    ]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"LuaScripts": {"old": ["/a"], "new": ["/a", "/b"]}}, 'LuaScripts: "/b" comes'),
        ({"Plugins": {"old": ["/a"], "new": ["/b"]}}, 'Plugins: "/a" goes, "/b" comes'),
        ({"Plugins": {"old": [1, 2], "new": [2, 1]}}, "Plugins: [1, 2] -> [2, 1]"),
        ({"Plugins": {"old": [1]}}, "Plugins: [1] -> default"),
        (
            {"OrthancPeers:b:Password": {"old": "(hidden)", "new": "(hidden)"}},
            "peer b changes (Password)",
        ),
        (
            {"DicomModalities:ct": {"old": ["CT", "h", 1], "new": ["CT", "h", 2]}},
            "modality ct changes (ct: 1 goes, 2 comes)",
        ),
    ],
)
def test_what_a_change_is_about_is_told(options, line):
    assert told.behaviour({"/etc/orthanc/orthanc.json": options}) == [line]


@pytest.mark.parametrize(("before", "told_of"), [("stopped", False), ("running", True)])
def test_nobody_used_a_server_that_did_not_run(before, told_of):
    start = {"orthanc": {"old": before, "new": "started"}}
    run = told.Run(
        returned(orthanc_config=(True, "", CHANGES), orthanc_serving=(True, "It answers", start))
    )
    assert any("user bob goes" in line for line in run.lines()) is told_of


def test_what_a_function_returns_is_told_without_brackets():
    found = {
        "verdict": "ok",
        "reasons": [],
        "runs": True,
        "none": None,
        "number": 1,
        "list": ["a", {"host": "b", "images": 2}],
        "text": "two\nlines",
    }
    assert told.value(found) == [
        "verdict: ok",
        "reasons: none",
        "runs: yes",
        "none: none",
        "number: 1",
        "list:",
        "  - a",
        "  - host: b",
        "    images: 2",
        "text:",
        "  two",
        "  lines",
    ]
    rows = [{"host": "b", "images": 2}, {"host": "", "images": None}]
    assert told.value({"x": rows}) == ["x:", "  host  images", "  b     2", "        none"]
    for others in ({"host": [], "images": 1}, {"host": "two\nlines", "images": 1}):
        assert "- host: b" in told.value([*rows, others])
    assert told.value({"time": 1796062072}) == ["time: 2026-11-30T18:07:52Z"]
    assert told.value({"time": "soon"}) == ["time: soon"]
    assert told.value(False) == ["no"]
    assert told.value(0) == ["0"]


def test_a_table_has_a_line_for_each_row_whatever_one_lacks():
    rows = [{"path": "/", "result": "denied"}, {"path": "/x" * 50, "study": "1.2"}, {"other": 1}]
    assert [line.split() for line in told.value(rows)] == [
        ["path", "result", "study", "other"],
        ["/", "denied"],
        ["/x" * 50, "1.2"],
        ["1"],
    ]


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (set(), ["gcc", "libnginx-mod", "nginx", "postgresql-15", "python3", "python3-dev"]),
        ({"nginx", "postgresql"}, ["gcc", "python3", "python3-dev"]),
        ({"python3"}, ["gcc", "libnginx-mod", "nginx", "postgresql-15", "python3-dev"]),
    ],
)
def test_which_packages_go(keep, left):
    came = ["orthanc", "orthanc-gdcm", "gcc", "gone", "nginx", "libnginx-mod", "postgresql-15"]
    came += ["python3", "python3-dev", "gcc"]
    assert removal.going(came, {*came, "bash"} - {"gone"}, keep | {"orthanc"}) == left


# As the managers say it: somebody else needs python3.
DPKG = """#!/bin/sh
case "$* " in
*" python3 "*) echo 'dpkg: error processing package python3:amd64 (--purge):' >&2; exit 1;;
esac
"""
RPM = """#!/bin/sh
case "$* " in
*--whatprovides*libpython*) echo python3;;
*" python3 "*) printf '\\tlibpython3.so()(64bit) is needed by (installed) x-1\\n' >&2; exit 1;;
esac
"""


@pytest.mark.parametrize("programs", [{"apt-get": "", "dpkg": DPKG}, {"rpm": RPM}])
def test_what_others_need_is_known_before(tmp_path, monkeypatch, programs):
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert removal.free(["cpp", "gcc", "python3"], ["orthanc"]) == ["cpp", "gcc"]
    assert removal.free([]) == []


@pytest.mark.parametrize("manager", [removal.DPKG, removal.RPM], ids=["dpkg", "rpm"])
def test_the_rest_of_a_removal_is_a_script(manager):
    text = removal.REST.format(
        names="'a b'", units="", paths="/a '/b c'", gone="done", program="/p", note="", **manager
    )
    done = subprocess.run(["sh", "-n"], input=text, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_configuration_of_salt_is_made_of_paths_alone(tmp_path):
    call.Salt("/bin/false", str(tmp_path), "/root")
    text = (tmp_path / "minion").read_text()
    assert f"module_dirs: ['{places.FORMULA}']" in text
    assert "{" not in text.replace("{base:", "")


def test_what_salt_says_on_its_way_is_known():
    begun = call.BEGINS.match("[INFO    ] Executing state pkg.installed for [orthanc-packages]")
    assert begun.groups() == ("pkg.installed", "orthanc-packages")


def test_of_a_traceback_only_its_end_is_told():
    traceback = (
        'Traceback (most recent call last):\n  File "x"\nOSError: [Errno 28] No space left\n'
    )
    assert (
        told.reason(f"x\n{traceback}more\nTypeError: later") == "OSError: [Errno 28] No space left"
    )
    # As salt-call has it for an argument that is refused.
    refused = "Passed invalid arguments: x.sls must be new: a\nb.\n\nUsage:"
    assert told.reason(refused) == "x.sls must be new: a\nb."
    assert told.reason("there is no backup: an Error: of its own") == (
        "there is no backup: an Error: of its own"
    )


def test_json_that_is_none_is_no_answer(tmp_path):
    program = tmp_path / "salt-call"
    program.write_text("#!/bin/sh\necho '[ERROR   ] too full' >&2; echo no; exit 3\n")
    program.chmod(0o755)
    answer = call.Salt(str(program), str(tmp_path), "/root").ask("state.apply", "orthanc")
    assert answer == (None, 3, "[ERROR   ] too full")
    new = tmp_path / "new"
    new.mkdir()
    program.write_text(f"#!/bin/sh\necho '{json.dumps({'local': {'a': 1}})}'\n")
    assert call.Salt(str(program), str(new), "/root").ask("orthanc.access") == ({"a": 1}, 0, "")


@pytest.mark.parametrize("name", [b"a\nb.sls", b"\xff.sls", b"\x1b[2J.sls"])
def test_a_pillar_whose_name_cannot_be_noted_is_refused(tmp_path, name):
    path = os.fsdecode(os.path.join(os.fsencode(tmp_path), name))
    pathlib.Path(path).touch()
    for given in ([path], ["apply", path], ["test", path]):
        with pytest.raises(words.Wrong, match="characters that can be printed"):
            words.choose(given, {})


@pytest.mark.parametrize("noted", [b"\xff\xfe", b"\0\0\0", b"/gone.sls\n"])
def test_a_note_that_is_broken_names_no_pillar(tmp_path, monkeypatch, noted):
    (tmp_path / "pillar").write_bytes(noted)
    monkeypatch.setattr(places, "LAST", tmp_path / "pillar")
    with pytest.raises(call.Failed, match=r"is gone\. Bring it back, or name another"):
        command.last()


def test_help_of_the_first_command_brings_nothing():
    words = ["bash", str(FORMULA / "orthanc/masterless.sh"), "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={"PATH": "/bin"})
    assert done.stdout.startswith("Makes this machine an Orthanc server")
    assert "[PILLAR FILE]" in done.stdout
    assert "pipefail" not in done.stdout


GO_ON = """\
#!/bin/sh
touch {0}/begun
until [ -e {0}/go ]; do sleep 0.05; done
cat {1}/*/pillar/orthanc.sls > {0}/done 2>&1
"""


def test_salt_goes_on_where_the_program_is_killed(tmp_path, monkeypatch):
    """It keeps the lock and its pillar; then the next run begins, and what is left goes."""
    run, program = tmp_path / "run", tmp_path / "salt-call"
    monkeypatch.setattr(places, "RUN", run)
    program.write_text(GO_ON.format(tmp_path, run))
    program.chmod(0o755)
    child = os.fork()
    if not child:
        try:
            with call.workplace() as work, call.alone():
                salt = call.Salt(str(program), work, "/root")
                pathlib.Path(work, "pillar/orthanc.sls").write_text("orthanc: {}")
                salt.ask("state.apply")
        finally:
            os._exit(1)
    deadline = time.monotonic() + 30

    def wait_for(what):
        while not what():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    wait_for((tmp_path / "begun").exists)
    with pytest.raises(call.Failed, match=f"Another run goes on: process {child}"), call.alone():
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with call.workplace(), pytest.raises(
        call.Failed, match="or its Salt where that was killed"
    ), call.alone():
        pass
    (tmp_path / "go").touch()
    wait_for(lambda: not subprocess.run(["flock", "-n", run / "lock", "true"]).returncode)
    assert (tmp_path / "done").read_text() == "orthanc: {}"
    with call.workplace() as work, call.alone():
        assert sorted(path.name for path in run.iterdir()) == sorted(
            ["lock", os.path.basename(work)]
        )
