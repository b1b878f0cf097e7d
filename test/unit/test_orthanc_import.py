"""An Orthanc that is there becomes a pillar, and that the same Orthanc again."""

import copy
import json
import os

import configurations
import orthanc_ask_import
import orthanc_files
import orthanc_folder
import orthanc_host
import orthanc_import
import orthanc_layers
import orthanc_passwords
import orthanc_pillar
import orthanc_pillar_file
import orthanc_tables
import pytest
import salt.utils.yaml
from configurations import CASES, DEFAULTS, PLUGINS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from salt.exceptions import CommandExecutionError

VERSION = "1.12.7"
LOADED = [
    "OrthancDicomWeb",
    "OrthancPostgreSQLIndex",
    "OrthancPython",
    "ServeFolders",
    "ModalityWorklists",
]
OWN_WAY = {"Plugins", "RegisteredUsers", "LuaScripts"}


def here(options, _):
    """As ``orthanc_plugins.here``: all are there, and loaded where the option names any."""
    loaded = bool(options.get("Plugins"))
    return [f"lib{n}.so.{VERSION}" if loaded else f"{PLUGINS}/lib{n}.so" for n in LOADED]


def choose(folder, libraries=(), packages=(), **_):
    """As ``orthanc_plugins.choose``."""
    of_packages = {
        n for name, own in orthanc_tables.PLUGINS.items() if name in packages for n in own
    }
    asked = [*libraries, *(of_packages - {*orthanc_tables.PLUGINS["orthanc"]})]
    return {"load": [f"{folder}/lib{n}.so" for n in LOADED if any(piece in n for piece in asked)]}


@pytest.fixture
def server(monkeypatch, formula):
    """The host of an Orthanc with plugins."""
    known = {
        "orthanc_options.installed": lambda _: {"version": VERSION, "sample": DEFAULTS},
        "orthanc_plugins.here": here,
        "orthanc_plugins.choose": choose,
        "orthanc_folder.in_use": lambda folder, _: folder,
    }
    for name, function in known.items():
        monkeypatch.setitem(orthanc_import.__salt__, name, function)
    return formula


@pytest.fixture
def folder(tmp_path):
    """A function that writes files, by their names, and returns their folder."""
    (tmp_path / "orthanc").mkdir()

    def write(texts):
        for name, text in texts.items():
            content = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
            (tmp_path / "orthanc" / name).write_bytes(content)
        return str(tmp_path / "orthanc")

    return write


def read(text):
    """Return what Salt makes of the file of a pillar without templates."""
    loader = salt.utils.yaml.SaltYamlSafeLoader
    return salt.utils.yaml.load(text, Loader=loader)["orthanc"]


def taken_over(path, formula):
    """Return the pillar as Salt reads it, and the comments before it."""
    found = orthanc_import.pillar(path, formula)
    text = orthanc_pillar_file.text(found["settings"], found["remarks"])
    assert read(text) == found["settings"]
    return read(text), "\n".join(line[2:] for line in text.splitlines() if line.startswith("#"))


def made_of(pillar, formula, name):
    """Return the options that the formula makes of a pillar, and what it refuses of that."""
    made = formula["of"](copy.deepcopy(pillar))
    configuration = orthanc_pillar.resolve(made["configuration"](), pillar={"orthanc": pillar})
    wanted = orthanc_layers.complete(configuration)
    return orthanc_layers.options(name, wanted, VERSION)[0], made["problems"]


def meaning(options, name):
    """Return what Orthanc does with options, those that are not set included."""
    found = {**DEFAULTS, **options}
    for option, beside in (("StorageDirectory", "OrthancStorage"), ("IndexDirectory", None)):
        place = options.get(option, beside or found["StorageDirectory"])
        found[option] = os.path.normpath(os.path.join(name, place))
    own = orthanc_files.is_own_name
    found["LuaScripts"] = [path for path in found["LuaScripts"] if not own(path)]
    found.setdefault("RegisteredUsers", {})
    found.setdefault("AuthenticationEnabled", found["RemoteAccessAllowed"])
    section = found.get("PostgreSQL")
    if isinstance(section, dict):
        found["PostgreSQL"] = {"EnableIndex": False, "EnableStorage": False, **section}
    return {option: json.dumps(value, sort_keys=True) for option, value in found.items() if value}


def look_up(settings, path):
    for key in path.split(":"):
        settings = settings[key]
    return settings


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_configuration_that_people_have(server, folder, case):
    name = folder(case.texts())
    pillar, comments = taken_over(name, server)
    for path, value in case.settings.items():
        assert look_up(pillar, path) == value
    if case.config is not None:
        # Beside what is set too, a file's own defaults come along: it goes as a whole.
        config = pillar.get("config", {}).items()
        config = {o: v for o, v in config if o in case.config or DEFAULTS.get(o) != v}
        assert config == case.config
    for words in case.told:
        assert words in " ".join(comments.split())
    options, problems = made_of(pillar, server, name)
    if case.refused:
        assert case.refused in problems[0]
        assert problems[0].partition(": ")[0] in comments
        return
    assert problems == []
    before = orthanc_folder.read(name)["options"]
    old, new = meaning(before, name), meaning(options, name)
    differing = {option for option in {*old, *new} if old.get(option) != new.get(option)}
    assert differing - case.changes - {"Plugins"} == set()
    assert case.changes or " -> " not in comments


SHAPES = {**orthanc_tables.OPTIONS, **orthanc_tables.SECTIONS}
# One of these is a value for each option, and another one than the default.
TRIED = (
    *(True, False, 7, 70, 5000, "x", "/srv/x", "2021b", "Never", "1.2.840.10008.1.2.1", "Greek"),
    *("C-GET", "Reject", ["x"], ["1.2.840.10008.1.2.1"], {"x": 2000}, {"x": [2000, "text/plain"]}),
    *({"0405,1001": ["DA", "Strange date", 1, 1, "Acme"]}, {"x": ["AET", "192.0.2.1", 104]}),
    *(
        {"Instance": ["Rows"]},
        {"x": ["http://192.0.2.1/"]},
        {"W001_TagsBeingReadFromStorage": False},
    ),
)


def accepted(options):
    """Return whether Orthanc takes options as they stand."""
    check = orthanc_import.__salt__["orthanc_options.check"]
    files = here({"Plugins": ["x"]}, "")
    return check(options, VERSION, DEFAULTS, files) == []


def test_every_option_changed(server, folder):
    options = {"RemoteAccessAllowed": True, "RegisteredUsers": {"anna": "a word of her own"}}
    options["Plugins"] = [PLUGINS]
    for option in orthanc_tables.OPTIONS:
        others = [value for value in TRIED if DEFAULTS.get(option) != value]
        fitting = [value for value in others if accepted({option: value})]
        if fitting and accepted({**options, option: fitting[0]}):
            options.setdefault(option, fitting[0])
    del options["HttpServerEnabled"]
    assert len(options) > 100
    name = folder({"all.json": json.dumps(options)})
    pillar, _ = taken_over(name, server)
    made, problems = made_of(pillar, server, name)
    assert problems == []
    old, new = meaning(options, name), meaning(made, name)
    differing = {option for option in {*old, *new} if old.get(option) != new.get(option)}
    assert differing <= {"Plugins"}


TEXTS = st.one_of(
    st.text(),
    st.text("{}%#:&*!|>'\"@`,[]?- \n\t\r\\$<=~0123456789eE.+_"),
    st.sampled_from(
        ["yes", "No", "on", "OFF", "null", "~", "0123", "1e3", "0x1f", "1_0", "12:30:45"]
    ),
    st.sampled_from(
        [".inf", "2026-01-01", "!!int 3", "<<", "=", "- a", "a: b", "a #b", "\ufeff", "\x85"]
    ),
)
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        TEXTS,
    ),
    lambda inside: st.one_of(
        st.lists(inside, max_size=4), st.dictionaries(TEXTS, inside, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(TEXTS, JSON, max_size=4), st.lists(TEXTS, max_size=3))
def test_salt_reads_what_was_written(value, remarks):
    text = orthanc_pillar_file.text(value, [(remark, remarks) for remark in remarks])
    assert read(text) == value
    assert json.dumps(read(text)) == json.dumps(value)
    template = any(mark in text for mark in ("{{", "{%", "{#"))
    assert text.startswith("#!yaml\n") is template


NAMES = st.one_of(st.sampled_from(sorted(SHAPES)), st.sampled_from(sorted(DEFAULTS)), TEXTS)
VALUES = st.one_of(
    st.sampled_from(TRIED),
    st.dictionaries(TEXTS, TEXTS, max_size=3),
    st.dictionaries(TEXTS, st.sampled_from([configurations.DEVICE, ["A", "192.0.2.1", 104]])),
    JSON,
)


@pytest.mark.parametrize("formula", ["Debian"], indirect=True)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_whatever_stands_there(server, tmp_path_factory, options):
    name = str(tmp_path_factory.getbasetemp())
    with open(os.path.join(name, "any.json"), "w") as file:
        json.dump(options, file)
    pillar, comments = taken_over(name, server)
    if not accepted(options):
        return
    made, problems = made_of(pillar, server, name)
    for problem in problems:
        assert problem.partition(": ")[0] in comments
    old, new = meaning(options, name), meaning(made, name)
    differing = {o for o in {*old, *new} if old.get(o) != new.get(o)} - OWN_WAY
    assert {o for o in differing if f"{o}:" not in comments} == set()


def test_secrets_are_shown_by_their_names(server, folder):
    words = [f"S3cr3t-{number}" for number in range(9)]
    options = {
        "RemoteAccessAllowed": True,
        "RegisteredUsers": {"anna": words[0]},
        "OrthancPeers": {
            "a": ["http://h/", "u", words[1]],
            "b": {"Url": "http://h/", "Password": words[2]},
        },
        "DicomWeb": {"Servers": {"n": ["http://h/", "u", words[3]]}},
        "PostgreSQL": {"EnableIndex": True, "ConnectionUri": f"postgresql://u:{words[4]}@h/d"},
        "Own": {"Whatever": words[5], "ApiKey": words[6]},
        "Plugins": [PLUGINS],
        "StableAge": words[7],
        "HttpPort": words[8],
    }
    found = orthanc_import.pillar(folder({"a.json": json.dumps(options)}), server)
    shown = orthanc_ask_import._without_secrets(found["settings"])
    text = orthanc_pillar_file.text(shown, found["remarks"])
    # What is no secret by its name may be shown where it stands.
    assert [word for word in words[:7] if word in text] == []
    assert "<secret of orthanc:users:anna:password>" in text
    assert "<secret of OrthancPeers:b:Password>" in text
    # Nobody lets somebody in with one of these.
    options, problems = made_of(shown, server, "/etc/orthanc")
    redact = orthanc_import.__salt__["orthanc_options.redact"]
    hidden = {option: redact(option, value) for option, value in options.items()}
    failed = [":".join(path) for path, _ in orthanc_passwords.check(options, hidden)["failed"]]
    assert {"RegisteredUsers:anna", "OrthancPeers:b:Password"} <= {*failed}
    assert any(line.startswith("orthanc:postgresql:uri: ") for line in problems)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({}, "holds no *.json"),
        ({"a.json": '{"Name": "x"'}, "a.json: Orthanc does not start with this file: line 1"),
        ({"a.json": "[]"}, "must hold an object"),
        ({"a.json": b"\xff\xfe{\x00}"}, "a.json: Orthanc does not start"),
        ({"a.json": '{"Name": "x"}', "b.json": '{"Name": "y"}'}, "b.json: Name: is set in"),
        ({"a.json": '{"a":' * 300}, "nested too deeply"),
        ({"a.json": '{"Name": "\\q"}'}, "escape"),
    ],
)
def test_what_orthanc_would_not_start_with_is_an_error(server, folder, texts, words):
    with pytest.raises(CommandExecutionError) as raised:
        orthanc_import.pillar(folder(texts), server)
    assert words in str(raised.value)


def test_all_of_it_is_told_at_once(server, folder):
    with pytest.raises(CommandExecutionError) as raised:
        orthanc_import.pillar(folder({"a.json": "{", "b.json": "["}), server)
    assert len(str(raised.value).splitlines()) == 2


def test_a_text_that_is_no_utf_8(server, folder):
    name = folder({"a.json": b'{"Name": "M\xfcnchen", "RemoteAccessAllowed": false}'})
    _, comments = taken_over(name, server)
    assert "Name: contains ${" in comments


@pytest.mark.parametrize(
    "value", [None, True, 5, 1.5, "x", "", [], [5], [None], {}, {"x": 5}, {"": {"x": None}}]
)
def test_whatever_stands_in_the_place_of_another_kind(server, folder, value):
    options = dict.fromkeys([*DEFAULTS, *OWN_WAY, *orthanc_tables.SECTIONS], value)
    alone = [{option: value} for option in (*OWN_WAY, "PostgreSQL", "RemoteAccessAllowed")]
    for config in (options, *alone):
        _, comments = taken_over(folder({"a.json": json.dumps(config)}), server)
        assert "The options of Orthanc in" in comments


def test_a_file_goes_as_a_whole_with_the_defaults_in_it(server, folder):
    files = {"dicom.json": {"DicomAet": "WARD", "DicomAlwaysAllowStore": True, "StableAge": 60}}
    pillar, comments = taken_over(folder({n: json.dumps(o) for n, o in files.items()}), server)
    assert pillar["config"].items() >= {"DicomAlwaysAllowStore": True, "StableAge": 60}.items()
    assert "in the way" not in comments
    # What Orthanc passes over is named, and not what it needs until then.
    files["dicom.json"]["Nonsense"] = 1
    name = folder({n: json.dumps(o) for n, o in files.items()})
    told = " ".join(taken_over(name, server)[1].split())
    assert "before the first run, which changes nothing: - " in told
    assert "/dicom.json: Nonsense Left out" in told
    made, _ = made_of(pillar, server, name)
    (sentence,) = orthanc_folder.in_part("/x", files["dicom.json"], made)
    assert "where the pillar sets Nonsense as this file does" in sentence
    assert orthanc_folder.in_part("/x", {"StableAge": 70}, made) == []


UNIT = "# /lib/systemd/system/orthanc.service\n[Service]\nExecStart={}\n"
OWN = "/etc/systemd/system/orthanc.service.d/formula.conf"
START = "/usr/sbin/Orthanc --logdir=/var/log/orthanc "


@pytest.mark.parametrize(
    ("unit", "own", "names"),
    [
        (START + "/etc/orthanc", None, None),
        (START + "/etc/orthanc/", None, None),
        (START + "\\\n  /etc/orthanc --verbose", None, None),
        ("/etc/init.d/orthanc start", None, None),
        ("/bin/nice /usr/sbin/Orthanc '/etc/orthanc'", None, None),
        (START + "/srv/oc/all.json", None, "/srv/oc/all.json"),
        (START + "/etc/orthanc/orthanc.json --verbose", None, "/etc/orthanc/orthanc.json"),
        # What the formula is about to write holds, unless it stands before another file.
        (START + "/srv/oc", START + "/etc/orthanc", None),
        (START + f"/x\n# {OWN}\nExecStart=\nExecStart={START}/y", START + "/etc/orthanc", None),
        (
            START + f"/etc/orthanc\n# {OWN[:-12]}z.conf\nExecStart=\nExecStart={START}/y",
            START + "/etc/orthanc",
            "/y",
        ),
        # What it wrote before, and will not any more, does not count.
        (START + f"/etc/orthanc\n# {OWN}\nExecStart=\nExecStart={START}/y", "", None),
    ],
)
def test_a_unit_that_starts_another_configuration_is_named(monkeypatch, unit, own, names):
    monkeypatch.setattr(orthanc_host, "ask", lambda _: UNIT.format(unit))
    text = f"[Service]\nExecStart=\nExecStart={own}\n" if own else "[Service]\n"
    wanted = {"service": "orthanc", "texts": {OWN: text, "x.lua": None}}
    found = orthanc_folder.elsewhere("/etc/orthanc", wanted)
    assert len(found) == bool(names)
    assert all(f"starts Orthanc with {names}, and not with /etc/orthanc:" in line for line in found)


def test_a_file_alone_can_be_taken_over(server, folder):
    path = os.path.join(folder({"a.json": '{"Name": "x"}', "b.json": "{"}), "a.json")
    assert taken_over(path, server)[0]["config"]["Name"] == "x"


def test_what_stands_beside_its_own_default_is_no_change(server, folder):
    """As in the files of Debian."""
    options = {"SslVerifyPeers": False, "SslTrustedClientCertificates": "others.pem"}
    pillar, comments = taken_over(folder({"a.json": json.dumps(options)}), server)
    assert pillar["config"] == configurations.SILENT
    assert " -> " not in comments


@pytest.mark.parametrize("formula", ["Debian"], indirect=True)
def test_thousands_of_modalities(server, folder):
    devices = {f"d{number}": ["AET", f"192.0.2.{number % 256}", 104] for number in range(10000)}
    pillar, _ = taken_over(folder({"a.json": json.dumps({"DicomModalities": devices})}), server)
    assert pillar["modalities"] == devices


def test_where_nobody_knows_the_defaults(server, folder, monkeypatch):
    """As for the copy of a folder, on a host without Orthanc."""
    monkeypatch.setitem(orthanc_import.__salt__, "orthanc_options.installed", lambda _: {})
    options = {"StableAge": 60, "HttpPort": 8043, "HttpsCACertificates": ""}
    name = folder({"a.json": json.dumps(options)})
    pillar, _ = taken_over(name, server)
    made, problems = made_of(pillar, server, name)
    assert (pillar["port"], pillar["config"]["StableAge"], problems) == (8043, 60, [])
    assert meaning(made, name) == meaning(options, name)


def test_without_the_files_of_the_formula(monkeypatch):
    monkeypatch.setitem(orthanc_import.__salt__, "slsutil.renderer", lambda *_, **__: {})
    with pytest.raises(CommandExecutionError, match="salt-ssh"):
        orthanc_import.formula()
