"""What the unit keeps from Orthanc, and what works in spite of it: asked of the real server.

https://www.freedesktop.org/software/systemd/man/latest/systemd-analyze.html
"""

import base64
import itertools
import json
import re
import time

import dicom
import pytest
import testbed
from minion import Minion
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

# A grey image of 64 by 64 pixels, as JPEG 2000.
JPEG_2000 = base64.b64decode(
    "/0//UQApAAAAAABAAAAAQAAAAAAAAAAAAAAAQAAAAEAAAAAAAAAAAAABBwEB/1IADAAAAAEABQQEAAH/XAATQEBISFBI"
    "SFBISFBISFBISFD/kAAKAAAAAAAYAAH/k9+AEAiQgICAgID/2Q=="
)
# Exposure to the host, by systemd-analyze: as it is, with something in a home, and with a
# port below 1024 besides.
LIMIT, LIMIT_HOME, LIMIT_LOW = 1.1, 1.2, 1.5
DROP_IN = "/etc/systemd/system/orthanc.service.d/formula.conf"
# A callback that runs a program and looks at the disk of the images, and one that writes elsewhere.
LUA = """
function OnStoredInstance(id, tags)
  local pipe = io.popen('df -P /srv/pacs/images | tail -n 1')
  RestApiPut('/instances/' .. id .. '/metadata/4001', pipe:read('*a'))
  pipe:close()
  local file, why = io.open('/srv/exports/' .. id, 'w')
  if file then file:close() else error('no list: ' .. why) end
end
"""
# What runs inside tells what it may do.
PYTHON = """
import ctypes, json, mmap, os, socket, subprocess, threading
import orthanc

def refused(ask, *words):
    try:
        ask(*words)
    except (OSError, PermissionError, subprocess.CalledProcessError) as err:
        return type(err).__name__
    return ""

def run(output, uri, **request):
    said = []
    thread = threading.Thread(target=lambda: said.append(subprocess.check_output(['id', '-un'])))
    thread.start()
    thread.join()
    status = dict(line.split(':', 1) for line in open('/proc/self/status') if ':' in line)
    answer = {
        'ran': said[0].decode().strip(),
        'free': os.statvfs('/srv/pacs/images').f_bavail > 0,
        'callback': ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda x: x + 1)(1),
        'name': socket.gethostbyname('localhost'),
        'etc': refused(open, '/etc/orthanc/x', 'w'),
        'run': refused(os.mkdir, '/usr/share/x'),
        'other programs': os.path.exists('/proc/1'),
        'home': refused(open, '/home/site/x', 'w'),
        'other homes': refused(os.listdir, '/root'),
        'tmp': os.path.exists('/tmp/of-others'),
        'code': refused(mmap.mmap, -1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 7),
        'raw': refused(socket.socket, socket.AF_PACKET, socket.SOCK_RAW),
        'devices': os.path.exists('/dev/kmsg'),
        'capabilities': status['CapEff'].strip(),
        'no new': status['NoNewPrivs'].strip(),
        'filter': status['Seccomp'].strip(),
    }
    output.AnswerBuffer(json.dumps(answer), 'application/json')

orthanc.RegisterRestCallback('/inside', run)
"""
PACKAGES = ["dicomweb", "gdcm", "python", "webviewer", "wsi"]
SETTINGS = {
    "packages": ["orthanc", *(f"orthanc-{name}" for name in PACKAGES)],
    "postgresql": {"enabled": True},
    "paths": {"storage": "/srv/pacs/images", "log": "/srv/pacs/log"},
    "dicom": {"enabled": True, "unknown": ["echo", "store", "find_worklist"]},
    "dicomweb": {"enabled": True},
    "worklists": {"enabled": True, "folder": "/srv/pacs/worklists", "writer": "ris"},
    "config": {
        "TemporaryDirectory": "/srv/pacs/tmp",
        "LuaScripts": ["/srv/scripts/own.lua"],
        "PythonScript": "/srv/scripts/own.py",
        "ServeFolders": {"/docs": "/home/site/docs"},
        # One that Orthanc itself makes.
        "WebViewer": {"CachePath": "/srv/cache/of/viewer"},
    },
}


CONFIG = {name: value for name, value in SETTINGS["config"].items() if name != "ServeFolders"}
NO_HOMES = {**SETTINGS, "config": CONFIG}


@pytest.fixture(scope="module", params=["bookworm", "trixie", "leap"])
def server(request, salt_version, users):
    with Minion(testbed.deployed(request.param, salt_version)) as host:
        host.write("/srv/scripts/own.lua", LUA)
        host.write("/srv/scripts/own.py", PYTHON)
        host.write("/home/site/docs/page.html", "a page")
        host.run("install -d -o orthanc /srv/pacs/tmp /srv/cache; mkdir /srv/exports")
        host.run("chmod 777 /srv/exports; touch /tmp/of-others; useradd ris")
        # A host of an earlier version, on which it is switched on later.
        # (openSUSE's own unit hides all homes.)
        host.apply(users=users, **NO_HOMES, hardening=False)
        host.pids = [host.pid()]
        host.apply(users=users, **SETTINGS)
        host.pids.append(host.pid())
        yield host


def ask(server, users, method, path, **given):
    return server.ask(method, path, "anna", users["anna"]["password"], **given)


def wait_until(server, condition, otherwise="it did not come to pass"):
    loop = f"until {condition}; do sleep 0.1; done"
    assert server.run(f"timeout 30 sh -c '{loop}'", check=False).ok, otherwise


def exposure(server):
    said = server.run("systemd-analyze security --no-pager orthanc.service").out
    return float(re.search(r"exposure level for orthanc.service: ([\d.]+)", said)[1])


def test_the_unit_is_as_closed_as_can_be_and_comes_with_one_restart(server, users):
    assert exposure(server) <= LIMIT_HOME
    assert server.pids[0] != server.pids[1] == server.pid()
    assert server.state().changes == {}
    assert server.pid() == server.pids[1]
    # There is no row that its systemd does not know.
    said = server.run("systemd-analyze verify orthanc.service 2>&1", check=False).out
    assert "formula.conf" not in said, said
    assert "formula.conf" not in server.run("journalctl -b _PID=1", check=False).out


def test_what_runs_inside_gets_at_nothing_that_is_not_orthancs(server, users):
    found = ask(server, users, "GET", "/inside").json
    assert found == {
        **{"ran": "orthanc", "free": True, "callback": 2, "name": "127.0.0.1"},
        **{"etc": "OSError", "run": "OSError", "home": "OSError"},
        **{"other homes": "PermissionError", "other programs": False, "tmp": False},
        **{"code": "PermissionError", "raw": "OSError", "devices": False},
        **{"capabilities": "0000000000000000", "no new": "1", "filter": "2"},
    }


def test_all_that_orthanc_does_works_as_before(server, users, image):
    path = image()
    stored = ask(server, users, "POST", "/instances", data=f"@{path}").json
    assert stored["Status"] == "Success"
    assert dicom.client("storescu", server.address, str(image())).ok
    assert dicom.client("echoscu", server.address).ok
    instance, study = f"/instances/{stored['ID']}", f"/studies/{stored['ParentStudy']}"
    assert ask(server, users, "GET", f"{instance}/file").body == path.read_bytes()
    for what in (
        *(f"{instance}/preview", f"{study}/archive", f"{study}/media", "/dicom-web/studies"),
        *("/docs/page.html", "/statistics", "/tools/metrics-prometheus"),
        f"/web-viewer/series/{stored['ParentSeries']}",
    ):
        assert ask(server, users, "GET", what).code == 200, what
    archive = json.dumps({"Synchronous": False, "Resources": [stored["ParentStudy"]]})
    job = ask(server, users, "POST", "/tools/create-archive", data=archive).json["ID"]
    wait_until(server, "test $(ls /srv/pacs/tmp | wc -l) -gt 0", f"no archive of job {job}")
    assert ask(server, users, "POST", f"{study}/anonymize", data="{}").code == 200
    # In the index of PostgreSQL, which knows Orthanc by its account.
    assert ask(server, users, "GET", "/system").json["DatabaseBackendPlugin"]
    assert json.loads(server.call("orthanc.verify", "--out=json").out)["local"]
    # By a program that a script runs.
    # Scripts are told a moment later.
    deadline = time.monotonic() + 30
    while (said := ask(server, users, "GET", f"{instance}/metadata/4001")).code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert re.search(r" \d+% /", said.body.decode()), said
    assert server.run("find /srv/pacs/images -type f -perm /007").out == ""
    assert server.run("ls -d /srv/cache/of/viewer /srv/pacs/log/?rthanc.log").ok


def test_the_ris_writes_worklists_and_devices_get_them(server, image):
    """The folder is neither Orthanc's nor open to others; what comes in may be read by Orthanc."""
    folder = SETTINGS["worklists"]["folder"]
    step = Dataset()
    step.Modality, step.ScheduledStationAETitle = "CT", "CT1"
    work = image(PatientName="To^Examine", ScheduledProcedureStepSequence=[step])
    text = base64.b64encode(work.read_bytes()).decode()
    put = f"umask 027; base64 -d > {folder}/one.wl"
    server.run(put, user="ris", input=text)
    assert not server.run(f"ls {folder}", user="nobody", check=False).ok
    assert server.run(f"stat -c '%a %U %G' {folder}").out.split() == ["2770", "ris", "orthanc"]
    asked = dicom.client("findscu", server.address, "-W", "-k", "PatientName")
    assert "To^Examine" in asked.output, asked
    # A patient is nobody's to ask for who is not known.
    words = ("-P", "-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientName")
    assert "Find Response" not in dicom.client("findscu", server.address, *words).output


def test_no_request_that_transcodes_ends_it(server, users, image):
    """With GDCM, one does: on Debian 13 all from and to JPEG 2000, on Debian 12 some."""
    pid, size = server.pid(), {"Rows": 64, "Columns": 64}
    compressed = {"PixelData": encapsulate([JPEG_2000]), "syntax": JPEG2000Lossless}
    paths = [image(**size, PixelData=bytes(64 * 64)), image(**size, **compressed)]
    sent = [ask(server, users, "POST", "/instances", data=f"@{path}").json for path in paths]
    wanted = [JPEG2000Lossless, JPEGLSLossless, RLELossless, "1.2.840.10008.1.2.1"]
    for stored, syntax in itertools.product(sent, wanted):
        instance, study = f"/instances/{stored['ID']}", f"/studies/{stored['ParentStudy']}"
        modify = {"Transcode": syntax, "Keep": ["SOPInstanceUID"], "Force": True}
        ask(server, users, "POST", f"{instance}/modify", data=json.dumps(modify))
        ask(server, users, "GET", f"{instance}/file?transcode={syntax}")
        archive = json.dumps({"Transcode": syntax, "Synchronous": True})
        ask(server, users, "POST", f"{study}/archive", data=archive)
        uid = ask(server, users, "GET", study).json["MainDicomTags"]["StudyInstanceUID"]
        accept = f'Accept: multipart/related; type="application/dicom"; transfer-syntax={syntax}'
        ask(server, users, "GET", f"/dicom-web/studies/{uid}", headers=(accept,))
        assert server.pid() == pid, f"{instance} to {syntax}"
    plain, compressed = (f"/instances/{stored['ID']}" for stored in sent)
    modify = json.dumps({"Transcode": JPEGLSLossless, "Keep": ["SOPInstanceUID"], "Force": True})
    assert ask(server, users, "POST", f"{plain}/modify", data=modify).code == 200
    # What is lost, as the run says; the image is not.
    assert "without previews" in str(server.state().states["orthanc-pillar"]["warnings"])
    assert ask(server, users, "GET", f"{compressed}/preview").code == 415
    assert ask(server, users, "GET", f"{compressed}/file").body == paths[1].read_bytes()
    config = {**CONFIG, "Gdcm": {"Enable": True}}
    run = server.apply(users=users, **{**NO_HOMES, "config": config})
    warnings = str(run.states["orthanc-pillar"]["warnings"])
    assert "orthanc:config:Gdcm: one request" in warnings
    assert "without previews" not in warnings
    assert ask(server, users, "GET", f"{compressed}/preview").code == 200
    server.apply(users=users, **SETTINGS)


def test_what_a_script_does_later_on_is_told_and_one_line_mends_it(server, users, image):
    assert ask(server, users, "POST", "/instances", data=f"@{image()}").code == 200
    wait_until(server, "grep -q list: /srv/pacs/log/?rthanc.log")
    told = server.call("orthanc.errors").out
    assert "no list: /srv/exports/" in told
    assert "Read-only file system" in told
    assert server.run("ls /srv/exports").out == ""
    server.apply(users=users, **NO_HOMES, hardening={"ReadWritePaths": ["/srv/exports"]})
    assert exposure(server) <= LIMIT
    stored = ask(server, users, "POST", "/instances", data=f"@{image()}").json["ID"]
    wait_until(server, f"test -e /srv/exports/{stored}")


@pytest.mark.parametrize(
    ("script", "hardening", "words"),
    [
        (
            "assert(io.open('/srv/exports/list', 'w'))",
            {},
            "orthanc:hardening:ReadWritePaths: the unit lets Orthanc write to its own folders only;"
            " where this is to be one, add ReadWritePaths: [/srv/exports])",
        ),
        (
            "assert(io.open('/tmp/of-others'))",
            {},
            "orthanc:hardening:PrivateTmp: this is what keeps Orthanc from it",
        ),
        (
            "print('good')",
            {"RestrictAddressFamilies": ["AF_UNIX"]},
            "orthanc:hardening:RestrictAddressFamilies: this is what keeps Orthanc from it",
        ),
        (
            "print('good')",
            {"SocketBindAllow": ["no-port"]},
            "orthanc:hardening:SocketBindAllow: systemd on this host cannot run anything so",
        ),
    ],
)
def test_what_would_keep_it_from_starting_is_refused(server, users, script, hardening, words):
    server.write("/srv/own.lua", script)
    pid, before = server.pid(), server.read(DROP_IN)
    config = {**SETTINGS["config"], "LuaScripts": ["/srv/own.lua"]}
    server.pillar(users=users, **{**SETTINGS, "config": config}, hardening=hardening)
    run = server.state()
    assert words in run.failed["orthanc-config"], str(run)
    assert server.pid() == pid
    assert server.read(DROP_IN) == before
    assert server.run("pgrep -xic orthanc").out.strip() == "1"
    assert server.run("systemctl list-units --all | grep preflight", check=False).out == ""


def test_what_only_the_server_shows_brings_the_last_good_unit_back(server, users):
    before = server.read(DROP_IN)
    broken = {"RestrictAddressFamilies": ["AF_UNIX"]}
    server.pillar(users=users, **SETTINGS, hardening=broken, preflight=False)
    comment = server.state().failed["orthanc-serving"]
    assert "The last good configuration is back, and Orthanc serves with it." in comment
    assert server.read(DROP_IN) == before
    assert ask(server, users, "GET", "/system").code == 200


def test_a_low_port_takes_one_capability_and_no_drop_in(server, users, image):
    low = {**SETTINGS, "dicom": {"enabled": True, "port": 104}}
    server.apply(users=users, **low)
    assert dicom.client("storescu", server.address, str(image()), port=104).ok
    assert exposure(server) <= LIMIT_LOW
    # Net_bind_service alone.
    assert ask(server, users, "GET", "/inside").json["capabilities"] == "0000000000000400"
    assert server.state().changes == {}
