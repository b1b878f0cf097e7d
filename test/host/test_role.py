"""The parameters of the GNU Health role that need no other host, each on and off, on each system.

Which test shows which parameter: ``role_parameters.py``.
"""

import json

import dicom
import plugins
import pytest
import testbed
from minion import Minion

OWN = "/srv/orthanc"
PATHS = {name: f"{OWN}/{name}" for name in ("config", "home", "storage", "plugins")}
LINKS = {
    "dir": "/srv/links",
    "config": {"name": "etc"},
    "data": {"name": "/srv/images"},
    "plugins": {"name": "lib", "target": "/srv/other"},
}
ANNA = ("anna", "Anna's password")
ADMIN, ALICE, BOB = ("admin", "admin"), ("alice", "bob"), ("bob", "alice")
# What tells the version that is installed, and the packages that are held; for openSUSE or not.
VERSION = {
    True: ("rpm -q --qf '%{VERSION}-%{RELEASE}' orthanc", "zypper -n locks"),
    False: ("dpkg-query -Wf '${Version}' orthanc", "apt-mark showhold"),
}
FIND = json.dumps({"Level": "Patient", "Query": {}})


@pytest.fixture(params=["bookworm", "trixie", "leap"])
def minion(request, salt_version):
    with Minion(testbed.root_with_salt(request.param, salt_version)) as host:
        host.suse = request.param == "leap"
        yield host


def logged(minion, name: str) -> bool:
    """Return whether the log has the name of a patient that somebody searches for."""
    words = ("-P", "-k", "QueryRetrieveLevel=PATIENT", "-k", f"PatientName={name}")
    assert minion.ask("PUT", "/tools/log-level-dicom", *ANNA, data="verbose", port=8050).code == 200
    assert dicom.client("findscu", minion.address, *words).ok
    read = "journalctl --unit orthanc --output cat" if minion.suse else "cat /var/log/orthanc/*.log"
    log = minion.run(read).out
    assert "PatientName" in log
    return name in log


def test_each_parameter_on_and_off(minion, image, tmp_path):
    common = {
        "users": {"anna": {"password": ANNA[1], "role": "admin"}},
        "paths": PATHS,
        "modalities": {
            "finder": {"AET": "FINDSCU", "Host": minion.network.gateway, "Port": 104},
        },
    }
    uids = {"SOPInstanceUID": "1.2.3", "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.1"}
    images = [
        image(PatientID="0", ImageComments=comment, **uids) for comment in ("first", "second")
    ]
    images += [image(PatientID=str(number)) for number in (1, 2, 3)]

    def store_again_and_read_comment() -> str:
        for path in images[:2]:
            stored = minion.ask("POST", "/instances", *ANNA, data=f"@{path}", port=8050).json
        tags = f"/instances/{stored['ID']}/simplified-tags"
        return minion.ask("GET", tags, *ANNA, port=8050).json["ImageComments"]

    def found() -> int:
        return len(minion.ask("POST", "/tools/find", *ANNA, data=FIND, port=8050).json)

    minion.path(PATHS["plugins"]).mkdir(parents=True)
    library = plugins.make(tmp_path / "libMade.so", "made-for-tests").read_bytes()
    minion.path(f"{PATHS['plugins']}/libMade.so").write_bytes(library)
    minion.apply(
        **common,
        port=8050,
        remote_access=True,
        demo_users=True,
        dicom={"enabled": True},
        overwrite_instances=True,
        limit_find=2,
        deidentify_logs="2021b",
        links=LINKS,
    )
    for who in (ADMIN, ALICE, BOB):
        assert minion.ask("GET", "/system", *who, port=8050, remote=True).code == 200
    # Orthanc 1.10 has another word for what is not there.
    for who, method, codes in (
        *((ALICE, "POST", {403}), (BOB, "POST", {400, 404})),
        *((BOB, "DELETE", {403}), (ADMIN, "DELETE", {404})),
    ):
        path = "/jobs/none/pause" if method == "POST" else "/patients/none"
        assert minion.ask(method, path, *who, data=FIND, port=8050).code in codes, (who, method)
    assert store_again_and_read_comment() == "second"
    for path in images[2:]:
        assert dicom.client("storescu", minion.address, str(path)).ok
    # Orthanc itself gives one more over REST than over DICOM.
    assert found() in (2, 3)
    assert not logged(minion, "Secret^Nobody")
    assert "made-for-tests" in minion.ask("GET", "/plugins", *ANNA, port=8050).json
    assert minion.run(f"ls {PATHS['storage']}/index").ok
    assert minion.run(f"stat -c '%a %U' {PATHS['home']}").out.split() == ["750", "orthanc"]
    line = minion.run("tr '\\0' ' ' < /proc/$(pgrep -ix orthanc)/cmdline").out
    assert PATHS["config"] in line
    targets = {
        "/srv/links/etc": PATHS["config"],
        "/srv/images": PATHS["storage"],
        "/srv/links/lib": "/srv/other",
        **({} if minion.suse else {"/srv/links/log": "/var/log/orthanc"}),
    }
    for link, target in targets.items():
        assert minion.run(f"readlink {link}").out.strip() == target

    version, held = VERSION[minion.suse]
    assert "orthanc" not in minion.run(held).out
    minion.apply(
        **common,
        version=minion.run(version).out,
        port=8050,
        dicom={"enabled": True},
        limit_find=0,
        deidentify_logs=False,
        links={"enabled": False, **LINKS},
    )
    assert minion.ask("GET", "/system", *ADMIN, port=8050).code == 401
    assert minion.ask("GET", "/system", *ANNA, port=8050, remote=True).code != 200
    assert store_again_and_read_comment() == "second"
    minion.ask("DELETE", "/patients/" + patient(minion), *ANNA, port=8050)
    assert store_again_and_read_comment() == "first"
    assert found() == 4
    assert logged(minion, "Secret^Somebody")
    for link in targets:
        assert not minion.run(f"test -L {link}", check=False).ok
    assert "orthanc" in minion.run(held).out

    minion.apply(**common)
    assert minion.ask("GET", "/system", *ANNA).code == 200
    assert minion.ask("GET", "/system", *ANNA, port=8050).code == 0
    assert not dicom.client("echoscu", minion.address).ok
    assert "orthanc" not in minion.run(held).out
    assert minion.state().changes == {}


def patient(minion) -> str:
    """Return the ID of the patient whose image was stored twice."""
    query = json.dumps({"Level": "Patient", "Query": {"PatientID": "0"}})
    (found,) = minion.ask("POST", "/tools/find", *ANNA, data=query, port=8050).json
    return found
