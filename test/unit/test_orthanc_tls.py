"""Certificates and keys are judged, and put into one file."""

import orthanc_tls
import pki
import pytest
from salt.exceptions import SaltInvocationError

pytestmark = pytest.mark.each_salt

PLACE = "orthanc:https"
ROOT = pki.make("Test CA", authority=True)
MIDDLE = ROOT.sign("Intermediate CA", authority=True)
GOOD = MIDDLE.sign("pacs.example.org", "*.pacs.example.org", "192.0.2.1")
OTHER = MIDDLE.sign("other.example.org")
ENDED = MIDDLE.sign("pacs.example.org", starts=-20, ends=-1)
COMING = MIDDLE.sign("pacs.example.org", starts=2)
SOON = MIDDLE.sign("pacs.example.org", ends=5.5)
# The same name, and another key: only the signature tells.
IMPOSTOR = ROOT.sign("Intermediate CA", authority=True)
OLD_MIDDLE = ROOT.sign("Intermediate CA", authority=True, like=MIDDLE, ends=-1, starts=-9)
DAMAGED = GOOD.pem.replace(GOOD.pem[60:90], "A" * 30)
LEGACY = pki.make("legacy", rsa_key=True)


def judge(certificate=GOOD.chain, key=GOOD.key, **more):
    return orthanc_tls.judge({PLACE: {"certificate": certificate, "key": key, **more}})


@pytest.mark.parametrize(
    ("certificate", "key"),
    [
        (GOOD.chain, GOOD.key),
        (GOOD.chain + ROOT.pem, GOOD.key),
        (GOOD.key + GOOD.chain, GOOD.chain + GOOD.key),
        ("Subject: x\n" + GOOD.chain.replace("\n", "\r\n"), GOOD.key.replace("\n", "\r\n")),
        (LEGACY.pem, LEGACY.key),
    ],
)
def test_a_sound_pair(certificate, key):
    assert judge(certificate, key) == {"problems": [], "warnings": []}


def test_a_certificate_whose_signer_nobody_knows_is_a_warning():
    found = judge(GOOD.pem, GOOD.key)
    assert found["problems"] == []
    (warning,) = found["warnings"]
    assert warning.startswith(
        f"{PLACE}:certificate: the certificate of CN=Intermediate CA is neither"
    )
    for trusted in (MIDDLE.pem, ROOT.pem + MIDDLE.pem):
        assert judge(GOOD.pem, GOOD.key, trusted_certificates=trusted)["warnings"] == []
    assert judge(GOOD.pem, GOOD.key, trusted_certificates=OTHER.pem)["warnings"] == [warning]
    # An authority of the hospital's own that the pillar gives elsewhere is no surprise.
    pair = {PLACE: {"certificate": GOOD.pem, "key": GOOD.key}}
    elsewhere = {**pair, "orthanc": {"ca_source": MIDDLE.pem}}
    assert orthanc_tls.judge(elsewhere)["warnings"] == []
    assert orthanc_tls.judge(pair)["warnings"] == [warning]


def test_a_key_that_every_minion_can_read_is_a_warning(monkeypatch, tmp_path):
    (tmp_path / "key").write_text(GOOD.key)
    monkeypatch.setitem(orthanc_tls.__salt__, "cp.cache_file", lambda *_: str(tmp_path / "key"))
    for client, warned in (("remote", True), ("local", False)):
        monkeypatch.setattr(orthanc_tls, "__opts__", {"file_client": client})
        warnings = judge(GOOD.chain, "salt://tls/pacs.key")["warnings"]
        assert ["every minion of this master" in line for line in warnings] == [True] * warned
        assert judge(GOOD.chain, GOOD.key)["warnings"] == []


@pytest.mark.parametrize("text", ["-----BEGIN PGP MESSAGE-----\nx\n-----END PGP MESSAGE-----\n"])
def test_a_block_that_nobody_decrypted_is_called_by_its_name(text):
    found = judge(text, text)["problems"]
    assert [line.split(": ")[0] for line in found] == [f"{PLACE}:certificate", f"{PLACE}:key"]
    assert all("encrypted, and that nobody has decrypted" in line for line in found)


@pytest.mark.parametrize(
    ("certificate", "key", "path", "words"),
    [
        ("/none.pem", GOOD.key, "certificate", "there is no file /none.pem on this host"),
        ("/etc", GOOD.key, "certificate", "there is no file /etc"),
        (GOOD.chain, "/none.pem", "key", "there is no file /none.pem"),
        (GOOD.key, GOOD.key, "certificate", "no certificate in PEM form"),
        (DAMAGED, GOOD.key, "certificate", "certificate 1 of 1; it is damaged"),
        (GOOD.pem + DAMAGED, GOOD.key, "certificate", "certificate 2 of 2; it is damaged"),
        (GOOD.chain, GOOD.chain, "key", "no private key in PEM form"),
        (GOOD.chain, GOOD.key.replace(GOOD.key[60:90], "A" * 30), "key", "it is damaged"),
        (GOOD.chain, GOOD.encrypted_key, "key", "take that off: openssl pkey -in"),
        (GOOD.chain, OTHER.key, "key", "does not belong to the certificate of CN=pacs.example"),
        (GOOD.chain, LEGACY.key, "key", "does not belong"),
        (ENDED.chain, ENDED.key, "certificate", "ended on"),
        (COMING.chain, COMING.key, "certificate", "only from"),
        (GOOD.pem + OLD_MIDDLE.pem, GOOD.key, "certificate", "CN=Intermediate CA ended on"),
        (GOOD.pem + ROOT.pem, GOOD.key, "certificate", "certificate 2 (CN=Test CA) did not sign"),
        (GOOD.pem + IMPOSTOR.pem, GOOD.key, "certificate", "did not sign certificate 1"),
        (GOOD.pem + OTHER.pem, GOOD.key, "certificate", "put the server's own certificate first"),
        (GOOD.pem + MIDDLE.pem + OTHER.pem, GOOD.key, "certificate", "certificate 3 (CN=other"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(certificate, key, path, words):
    (problem,) = judge(certificate, key)["problems"]
    assert problem.startswith(f"{PLACE}:{path}: ")
    assert words in problem
    assert not any(line in problem for line in key.splitlines()[1:-1])


def test_what_a_server_shows_already_is_a_warning():
    sources = {PLACE: {"certificate": ENDED.chain, "key": ENDED.key}}
    shown = [pair.base64 for pair in (ENDED, MIDDLE)]
    found = orthanc_tls.judge(sources, shown={PLACE: shown})
    assert found["problems"] == []
    (warning,) = found["warnings"]
    assert "ended on" in warning
    assert orthanc_tls.IN_USE in warning
    for other in ({"orthanc:dicom:tls": shown}, {PLACE: shown[:1]}, {PLACE: []}, {}):
        assert "ended on" in orthanc_tls.judge(sources, shown=other)["problems"][0]
    # With another key no server would start.
    sources[PLACE]["key"] = OTHER.key
    (problem,) = orthanc_tls.judge(sources, shown={PLACE: shown})["problems"]
    assert problem.startswith(f"{PLACE}:key: does not belong")


def test_the_order_is_wrong_in_two_ways():
    found = judge(MIDDLE.pem + GOOD.pem)["problems"]
    assert len(found) == 2
    assert "did not sign" in found[0]
    assert "belongs to certificate 2; the server's own certificate must come first" in found[1]


def test_all_that_is_wrong_is_said_at_once():
    found = orthanc_tls.judge(
        {
            PLACE: {"certificate": ENDED.pem, "key": GOOD.encrypted_key},
            "orthanc:dicom:tls": {"certificate": "/x", "key": "/y", "trusted_certificates": "/z"},
        }
    )["problems"]
    assert len(found) == 5


def test_an_end_that_comes_soon_is_a_warning():
    found = judge(SOON.chain, SOON.key)
    assert found["problems"] == []
    (warning,) = found["warnings"]
    assert warning.startswith(f"{PLACE}:certificate: the one of CN=pacs.example.org ends on ")
    assert "in 5 days" in warning


def test_a_key_that_everybody_reads_is_a_warning(tmp_path):
    path = tmp_path / "key.pem"
    path.write_text(GOOD.key)
    path.chmod(0o644)
    assert f"chmod o= {path}" in judge(key=str(path))["warnings"][0]
    path.chmod(0o640)
    assert judge(key=str(path)) == {"problems": [], "warnings": []}


def test_trusted_certificates_need_no_order():
    sound = ROOT.pem + OTHER.pem + MIDDLE.pem
    assert judge(trusted_certificates=sound) == {"problems": [], "warnings": []}
    (warning,) = judge(trusted_certificates=sound + OLD_MIDDLE.pem)["warnings"]
    assert "ended on" in warning
    for wrong in ("/none", GOOD.key, DAMAGED):
        (problem,) = judge(trusted_certificates=wrong)["problems"]
        assert problem.startswith(f"{PLACE}:trusted_certificates: ")


def test_one_file_has_the_certificates_first(tmp_path):
    path = tmp_path / "both.pem"
    path.write_text("a note\n" + GOOD.key + GOOD.chain)
    text = orthanc_tls.pem("/x", {"certificate": str(path), "key": GOOD.key + OTHER.key})
    assert text == GOOD.chain + GOOD.key
    assert orthanc_tls.pem("/x", {"trusted_certificates": ROOT.pem + MIDDLE.pem}) == (
        ROOT.pem + MIDDLE.pem
    )
    assert orthanc_tls.describe(text).startswith("CN=pacs.example.org, until 20")
    assert orthanc_tls.describe(None) is None
    path.write_text(text)
    assert orthanc_tls.chain(str(path))[0] == GOOD.base64
    assert orthanc_tls.names(str(path)) == ["pacs.example.org", "*.pacs.example.org"]


def test_a_self_signed_pair_is_made_once(tmp_path):
    path = tmp_path / "self.pem"
    names = ["pacs", "pacs.example.org", "192.0.2.1", "2001:db8::1"]
    text = orthanc_tls.pem(str(path), {"names": names})
    assert judge(text, text) == {"problems": [], "warnings": []}
    path.write_text(text)
    assert orthanc_tls.names(str(path)) == names[:2]
    assert orthanc_tls.pem(str(path), {"names": names}) == text
    # Somebody else's, a broken one, and one without its key are not kept.
    for other in (GOOD.pem + GOOD.key, text[:900], text.partition("-----BEGIN PRIVATE")[0]):
        path.write_text(other)
        anew = orthanc_tls.pem(str(path), {"names": names})
        assert anew not in (text, other)


@pytest.mark.parametrize(("days", "stays"), [(29, False), (32, True)])
def test_a_self_signed_pair_is_made_anew_before_it_ends(tmp_path, monkeypatch, days, stays):
    path = tmp_path / "self.pem"
    monkeypatch.setattr(orthanc_tls, "VALID", days)
    text = orthanc_tls.pem(str(path), {"names": ["pacs"]})
    path.write_text(text)
    assert (orthanc_tls.pem(str(path), {"names": ["pacs"]}) == text) is stays


def test_nothing_behind_a_source():
    orthanc_tls.__salt__["cp.cache_file"] = lambda url, saltenv: False
    with pytest.raises(SaltInvocationError, match="no salt://x in the file roots"):
        orthanc_tls.read("salt://x")
