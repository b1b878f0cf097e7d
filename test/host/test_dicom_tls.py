"""DICOM over TLS: who gets in, who does not, and certificates that change."""

from __future__ import annotations

import re
import subprocess

import dicom
import documentation
import pki
import pytest
import testbed
from minion import NAME, Minion

FOLDER = "/etc/orthanc"
ROOT = pki.make("Test CA", authority=True, rsa_key=True)
MIDDLE = ROOT.sign("Intermediate CA", authority=True, rsa_key=True)
PAIR = MIDDLE.sign(NAME, rsa_key=True)
DEVICE = ROOT.sign("ct", rsa_key=True)
STRANGER = pki.make("Other CA", authority=True, rsa_key=True).sign("ct", rsa_key=True)
ENDED = MIDDLE.sign(NAME, starts=-9, ends=-1, rsa_key=True)
TLS = {
    "enabled": True,
    "certificate": "salt://tls/dicom.pem",
    "key": "salt://tls/dicom.key",
    "trusted_certificates": ROOT.pem + MIDDLE.pem,
}


@pytest.fixture(scope="module", params=["bookworm", "trixie", "leap"])
def server(request, salt_version, users):
    with Minion(testbed.deployed(request.param, salt_version)) as host:
        host.write("/srv/salt/tls/dicom.pem", PAIR.chain)
        host.write("/srv/salt/tls/dicom.key", PAIR.key)
        host.write("/srv/salt/tls/hospital-ca.pem", TLS["trusted_certificates"])
        host.write("/etc/ssl/pacs/dicom.key", PAIR.key)
        documentation.write_files(host, "DICOM over TLS")
        run = host.state()
        assert run.ok, str(run)
        yield host


@pytest.fixture(scope="module")
def client(server, tmp_path_factory):
    """A function that runs a client of DCMTK with a pair, or without one, over TLS."""
    folder = tmp_path_factory.mktemp("clients")
    for name, text in (
        *(("ca", ROOT.pem), ("device", DEVICE.pem), ("device.key", DEVICE.key)),
        *(("stranger", STRANGER.pem), ("stranger.key", STRANGER.key)),
        ("other-ca", STRANGER.issuer.pem),
    ):
        (folder / name).write_text(text)

    def client(program, *words, who="", trusts="ca"):
        pair = [str(folder / name) for name in (f"{who}.key", who)] if who else []
        tls = ["+tls", *pair] if who else ["+tla"]
        return dicom.client(program, server.address, *tls, "+cf", str(folder / trusts), *words)

    return client


def pillar(users, tls=(), **more):
    """Return a pillar; None takes a key out of what is common to all."""
    keys = {key: value for key, value in {**TLS, **dict(tls)}.items() if value is not None}
    dicom_settings = {"enabled": True, "tls": keys}
    return {"users": users, "dicom": dicom_settings, **more}


def ask(server, users, method, path, data=None):
    return server.ask(method, path, "anna", users["anna"]["password"], data=data)


def test_who_shows_a_certificate_that_is_trusted_gets_in(server, users, client, image):
    assert client("echoscu", who="device").ok
    stored = client("storescu", str(image()), who="device")
    assert stored.ok, stored
    assert len(ask(server, users, "GET", "/instances").json) == 1
    for wrong in ({"who": "stranger"}, {"who": ""}, {"who": "device", "trusts": "other-ca"}):
        assert not client("storescu", str(image()), **wrong).ok
    for program in ("echoscu", "storescu"):
        words = [str(image())] if program == "storescu" else []
        assert not dicom.client(program, server.address, *words).ok
    assert len(ask(server, users, "GET", "/instances").json) == 1


def test_the_key_is_for_orthanc_only(server):
    for name in ("orthanc-formula-dicom-tls.pem", "orthanc-formula-dicom-tls-trusted.pem"):
        mode = server.run(f"stat -c '%a %U %G' {FOLDER}/{name}").out.split()
        assert mode == ["640", "root", "orthanc"]
        assert not server.run(f"cat {FOLDER}/{name}", user="nobody", check=False).ok
    assert PAIR.key in server.read(f"{FOLDER}/orthanc-formula-dicom-tls.pem")


def test_orthanc_shows_its_certificate_to_others(server, users, image, tmp_path):
    """The same pair serves where Orthanc opens the connection."""
    (tmp_path / "pair").write_text(DEVICE.pem)
    (tmp_path / "key").write_text(DEVICE.key)
    # DCMTK's servers take no chain: they have to know the intermediate authority.
    (tmp_path / "ca").write_text(ROOT.pem + MIDDLE.pem)
    port = 11113
    receiver = subprocess.Popen(
        ["storescp", "-v", "+tls", "key", "pair", "+cf", "ca", str(port)],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        address = {"AET": "X", "Host": server.network.gateway, "Port": port}
        modalities = {"tls": {**address, "UseDicomTls": True}, "plain": {**address, "AET": "Y"}}
        server.apply(**pillar(users, modalities=modalities))
        assert ask(server, users, "POST", "/modalities/tls/echo", data="{}").code == 200
        assert ask(server, users, "POST", "/modalities/plain/echo", data="{}").code == 500
    finally:
        receiver.kill()
        receiver.wait()


@pytest.mark.parametrize(
    ("tls", "place", "words"),
    [
        ({"key": STRANGER.key}, "key", "does not belong"),
        ({"certificate": ENDED.chain, "key": ENDED.key}, "certificate", "ended on"),
        ({"trusted_certificates": "/srv/none.pem"}, "trusted_certificates", "no file /srv/none"),
    ],
)
def test_what_is_wrong_is_refused(server, users, client, tls, place, words):
    state = f"cd {FOLDER} && stat -c '%n %Y %i' * && sha256sum *.pem"
    before, pid = server.run(state).out, server.pid()
    server.pillar(**pillar(users, tls))
    run = server.state()
    assert f"orthanc:dicom:tls:{place}: " in run.failed["orthanc-pillar"]
    assert words in run.failed["orthanc-pillar"]
    assert run.changes == {}
    assert server.run(state).out == before
    assert server.pid() == pid
    assert client("echoscu", who="device").ok


def test_an_expired_pair_in_use_locks_nobody_in(server, users, client):
    server.apply(**pillar(users))
    ended = MIDDLE.sign(NAME, like=PAIR, starts=-9, ends=-1)
    server.write("/srv/salt/tls/dicom.pem", ended.chain)
    remaining = {name: user for name, user in users.items() if name != "wim"}
    server.pillar(**pillar(remaining))
    assert "ended on" in server.state().failed["orthanc-pillar"]
    # As it will be when the time has come.
    server.write(f"{FOLDER}/orthanc-formula-dicom-tls.pem", ended.chain + PAIR.key)
    run = server.apply(**pillar(remaining))
    assert any("ended on" in text for text in run.states["orthanc-pillar"]["warnings"])
    assert "wim" not in server.read(f"{FOLDER}/credentials.json")
    server.write("/srv/salt/tls/dicom.pem", PAIR.chain)
    server.apply(**pillar(users))
    assert client("echoscu", who="device").ok


def test_a_new_certificate_is_loaded(server, users, client):
    server.apply(**pillar(users))
    assert server.state().changes == {}
    pair = MIDDLE.sign(NAME, rsa_key=True)
    server.write("/srv/salt/tls/dicom.pem", pair.chain)
    server.write("/srv/salt/tls/dicom.key", pair.key)
    pid = server.pid()
    assert set(server.state(test=True).changes) == {"orthanc-config", "orthanc-serving"}
    run = server.state()
    assert run.ok, str(run)
    assert not [line for line in pair.key.splitlines()[1:-1] if line in run.output]
    assert server.pid() != pid
    shown = subprocess.run(
        ["openssl", "s_client", "-connect", f"{server.address}:4242", "-showcerts"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=60,
    ).stdout
    blocks = re.findall(r"-----BEGIN.+?-----END CERTIFICATE-----\n", shown, re.DOTALL)
    assert blocks[:2] == [pair.pem, MIDDLE.pem]
    assert client("echoscu", who="device").ok
    assert server.state().changes == {}


def test_a_pair_goes_back_with_the_configuration(server, users, client):
    """Where Orthanc does not start, at the trial or in earnest, the old pair is the one there."""
    server.apply(**pillar(users))
    before, pid = server.read(f"{FOLDER}/orthanc-formula-dicom-tls.pem"), server.pid()
    server.write("/srv/broken.lua", "function (")
    pair = MIDDLE.sign(NAME, rsa_key=True)
    tls = {"certificate": pair.chain, "key": pair.key}
    for preflight, failed in ((True, "orthanc-config"), (False, "orthanc-serving")):
        more = {"preflight": preflight, "config": {"LuaScripts": ["/srv/broken.lua"]}}
        server.pillar(**pillar(users, tls, **more))
        run = server.state()
        assert failed in run.failed, str(run)
        assert (server.pid() == pid) is preflight
        assert server.read(f"{FOLDER}/orthanc-formula-dicom-tls.pem") == before
        assert client("echoscu", who="device").ok
    server.apply(**pillar(users))


def test_devices_without_a_certificate(server, users, client):
    """Where none is required; Orthanc up to 1.12.3 wants trusted certificates all the same."""
    tls = {"require_certificate": False, "trusted_certificates": None}
    run = server.apply(**pillar(users, tls))
    assert any("DICOM TLS" in text for text in run.states["orthanc-pillar"]["warnings"])
    assert client("echoscu").ok
    assert not dicom.client("echoscu", server.address).ok
    assert not server.run(f"ls {FOLDER} | grep trusted", check=False).ok
    assert server.state().changes == {}


def test_off_again(server, users, client):
    run = server.apply(users=users, dicom={"enabled": True})
    assert "orthanc-config" in run.changes
    assert dicom.client("echoscu", server.address).ok
    assert not client("echoscu", who="device").ok
    assert not server.run(f"ls {FOLDER} | grep pem", check=False).ok
    assert server.state().changes == {}
