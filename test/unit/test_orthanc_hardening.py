"""What the unit keeps from Orthanc: the rows, what follows from the options, and the words of the
trial. https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html
"""

import orthanc_folder
import orthanc_hardening as hardening
import orthanc_host
import orthanc_paths
import orthanc_postgresql
import orthanc_trial
import pytest

DROP_IN = "/etc/systemd/system/orthanc.service.d/formula.conf"
OPTIONS = {"StorageDirectory": "/var/lib/orthanc/db-v6", "IndexDirectory": "/var/lib/orthanc/db-v6"}
TEXT = "[Service]\nUMask=0027\n"
UNIT = f"""\
# /lib/systemd/system/orthanc.service
[Unit]
ProtectHome=of no service
[Service]
ExecStart=/usr/sbin/orthanc \\
  /etc/orthanc
ProtectSystem=true
RuntimeDirectory=x
ReadWritePaths=%S/orthanc
# ProtectProc=noaccess

# /etc/systemd/system/orthanc.service.d/before.conf
[Service]
PrivateTmp=no
# {DROP_IN}
[Service]
ProtectClock=yes
# /etc/systemd/system/orthanc.service.d/home.conf
[Service]
ReadWritePaths="-/srv/a 100%% b"
ProtectHome=yes
"""


@pytest.fixture
def rows(monkeypatch, read_yaml):
    """A function from options and what the pillar gives to the rows."""
    table = read_yaml("defaults.yaml")["system"]["hardening"]
    known = {
        "orthanc_folder.options": lambda *_: {},
        "orthanc_folder.with_places": orthanc_folder.with_places,
        **{f"orthanc_paths.{n}": getattr(orthanc_paths, n) for n in ("found", "named", "written")},
        "orthanc_postgresql.section_of": orthanc_postgresql.section_of,
        "orthanc_postgresql.parameters_of": orthanc_postgresql.parameters_of,
        "orthanc_host.as_account": lambda user, _: ["setpriv", user],
        "orthanc_host.unit_lines": orthanc_host.unit_lines,
    }
    monkeypatch.setattr(orthanc_host, "ask", lambda _: UNIT)
    monkeypatch.setattr(hardening, "__salt__", known, raising=False)
    monkeypatch.setattr(hardening, "first_open_port", lambda: 1024)

    def wanted(given):
        folders = ["/var/lib/orthanc", "/var/log/orthanc"]
        return {
            "hardening": {
                **{"drop_in": DROP_IN, "rows": table, "given": given, "folders": folders},
            },
            "texts": {DROP_IN: TEXT},
            **{"main_file": "orthanc.json", "option_files": {}, "aside": None},
            **{"user": "orthanc", "group": "orthanc", "service": "orthanc"},
        }

    def rows(options=(), **given):
        return hardening.rows("/etc/orthanc", wanted(given), {**OPTIONS, **dict(options)})

    rows.wanted, rows.table = wanted, table
    return rows


def test_each_row_can_be_left_out(rows, problems_of):
    """As the trial start says it is to be done."""
    for row, value in rows.table.items():
        assert problems_of({"hardening": {row: False}}) == []
        left_out = rows(**{row: False}).get(row)
        assert left_out == (["no"] if value is True or row == "ProtectHome" else None), row


def test_a_list_is_lines_and_a_switch_is_a_word(rows):
    found = rows()
    assert found["NoNewPrivileges"] == ["yes"]
    assert found["CapabilityBoundingSet"] == [""]
    assert found["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]
    assert found["ReadWritePaths"] == [
        *("-/var/lib/orthanc", "-/var/lib/orthanc/db-v6", "-/var/log/orthanc"),
    ]


@pytest.mark.parametrize(
    ("given", "row", "values"),
    [
        ({"MemoryDenyWriteExecute": False}, "MemoryDenyWriteExecute", ["no"]),
        ({"ProtectHome": "tmpfs"}, "ProtectHome", ["tmpfs"]),
        ({"RestrictAddressFamilies": ["AF_UNIX"]}, "RestrictAddressFamilies", ["AF_UNIX"]),
        # What is no switch is left out.
        ({"SystemCallFilter": False}, "SystemCallFilter", None),
        ({"IPAddressDeny": ["any"]}, "IPAddressDeny", ["any"]),
        (
            {"ReadWritePaths": ["/srv/x"]},
            "ReadWritePaths",
            [
                "-/srv/x",
                *("-/var/lib/orthanc", "-/var/lib/orthanc/db-v6", "-/var/log/orthanc"),
            ],
        ),
    ],
)
def test_the_pillar_gives_single_rows(rows, given, row, values):
    found = rows(**given)
    assert found.get(row) == values
    others = {name: value for name, value in rows().items() if name != row}
    assert {name: value for name, value in found.items() if name != row} == others


@pytest.mark.parametrize(
    ("options", "writable"),
    [
        ({"StorageDirectory": "/srv/a b"}, ["/srv/a b"]),
        ({"IndexDirectory": None, "StorageDirectory": "below"}, ["/etc/orthanc/below"]),
        ({"TemporaryDirectory": "/srv/tmp/"}, ["/srv/tmp"]),
        ({"DelayedDeletion": {"Path": "/srv/queue/q.db"}}, ["/srv/queue"]),
        ({"WebViewer": {"CachePath": "/srv/cache"}}, ["/srv/cache"]),
        # From which some versions remove what is done.
        ({"Worklists": {"Enable": True, "Database": "/srv/lists"}}, ["/srv/lists"]),
        ({"Worklists": {"Enable": False, "Database": "/srv/lists"}}, []),
        ({"ServeFolders": {"/a": "/srv/read"}}, []),
    ],
)
def test_where_orthanc_writes_is_writable(rows, options, writable):
    own = {"-/var/lib/orthanc", "-/var/log/orthanc", "-/var/lib/orthanc/db-v6"}
    assert set(rows(options)["ReadWritePaths"]) - own == {f"-{path}" for path in writable}


def test_what_lies_in_a_home_or_in_tmp_is_still_there(rows, tmp_path):
    assert rows()["ProtectHome"] == rows()["PrivateTmp"] == ["yes"]
    for options in ({"LuaScripts": ["/home/x/a.lua"]}, {"StorageDirectory": "/root/images"}):
        assert rows(options)["ProtectHome"] == ["read-only"]
    assert rows({"LuaScripts": ["/homes/a.lua"]})["ProtectHome"] == ["yes"]
    uri = {"PostgreSQL": {"EnableIndex": True, "ConnectionUri": "postgresql:///x?host=/tmp"}}
    for options in ({"WebViewer": {"CachePath": "/var/tmp/cache"}}, uri):
        found = rows(options)
        assert found["PrivateTmp"] == ["no"]
        # Otherwise it would be as read-only as all else.
        assert {"-/tmp", "-/var/tmp"} <= set(found["ReadWritePaths"])
    # The pillar has the last word.
    assert rows({"LuaScripts": ["/home/x/a.lua"]}, ProtectHome=True)["ProtectHome"] == ["yes"]


def test_a_low_port_takes_one_capability(rows):
    low = {"DicomPort": 104, "DicomServerEnabled": True}
    tenants = {"MultitenantDicom": {"Servers": [{"AET": "A", "Port": 105}]}}
    for options in (low, {"HttpPort": 80, "DicomServerEnabled": False}, tenants):
        found = rows(options)
        assert found["AmbientCapabilities"] == ["CAP_NET_BIND_SERVICE"]
        assert found["CapabilityBoundingSet"] == ["CAP_NET_BIND_SERVICE"]
        assert found["PrivateUsers"] == ["no"]
    assert rows({**low, "DicomServerEnabled": False})["PrivateUsers"] == ["yes"]
    given = rows(low, CapabilityBoundingSet=["CAP_SYS_NICE"])
    assert given["CapabilityBoundingSet"] == ["CAP_SYS_NICE", "CAP_NET_BIND_SERVICE"]


def test_the_drop_in_gets_the_rows_and_what_orthanc_would_make(rows):
    options = {**OPTIONS, "StorageDirectory": '/srv/100% "a"'}
    text = hardening.texts("/etc/orthanc", rows.wanted({}), options)[DROP_IN]
    assert text.startswith(TEXT.rstrip("\n"))
    lines = text.splitlines()
    assert r'ReadWritePaths="-/srv/100%% \"a\""' in lines
    assert r'ExecStartPre=+-setpriv orthanc mkdir -p -- "/srv/100%% \"a\""' in lines
    # What is below the home is made by the package, or by Orthanc.
    assert not [line for line in lines if "mkdir" in line and "/var/lib/orthanc" in line]
    assert "CapabilityBoundingSet=" in lines
    off = {**rows.wanted({}), "hardening": None}
    assert hardening.texts("/etc/orthanc", off, options) == {DROP_IN: TEXT}


def test_the_trial_has_what_others_set_in_the_unit_in_its_order(rows):
    words = hardening.words("/etc/orthanc", rows.wanted({}), OPTIONS, without="ProtectClock")
    given = [word[len("--property=") :] for word in words if word.startswith("--property=")]
    own = given.index("ProtectSystem=strict")
    assert given.index("ProtectSystem=true") < given.index("PrivateTmp=no") < own
    assert given[-1] == "ProtectHome=yes"
    assert {"User=orthanc", "Group=orthanc", "PrivateTmp=yes"} <= set(given)
    assert 'ReadWritePaths="-/srv/a 100% b"' in given
    # What is of another kind, what is left out, and what would be another thing there.
    text = " ".join(given)
    assert not [
        word for word in ("ExecStart", "Runtime", "noaccess", "%S", "Clock") if word in text
    ]


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("E1 x.cpp:1] Lua: /srv/own.lua:3: /srv/out/x: Read-only file system", "/srv/out/x"),
        ("E1 OSError: [Errno 30] Read-only file system: '/srv/out/x'", "/srv/out/x"),
        ("E1 mkdir: Read-only file system", ""),
        ("E1 /srv/own.lua: attempt to index a nil value", ""),
    ],
)
def test_what_cannot_be_written_is_found_in_orthancs_words(line, path):
    assert orthanc_trial._read_only(["E1 before", line]) == path


def test_the_sentence_names_the_row_and_the_remedy():
    assert "add ReadWritePaths: [/srv/out])" in hardening.sentence("ProtectSystem", "/srv/out/x")
    assert "set PrivateTmp: false" in hardening.sentence("PrivateTmp", "")
    assert "set orthanc:hardening: false" in hardening.sentence("", "")
    assert "orthanc:hardening:X: systemd" in hardening.unknown("X", "no")
    assert "orthanc:hardening: systemd" in hardening.unknown("", "no")
