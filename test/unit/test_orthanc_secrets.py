"""Secrets in what others say."""

import orthanc_options
import orthanc_secrets
import pytest


def test_no_secret_of_the_options_is_left_in_a_line():
    options = {
        "Name": "Ward",
        "RegisteredUsers": {"anna": "Geheim", "rita": "Geheim-2"},
        "OrthancPeers": {"x": ["http://h/", "u", "Peer-3"]},
        "PostgreSQL": {"Password": "Pg-4", "ConnectionUri": "postgresql://u:ab@Uri-6@db/x"},
        "DicomWeb": {"Servers": {"y": {"HttpHeaders": {"k": "Header-5\nLine-7\n"}}}},
        "OfNobody": {"Deep": [{"token": "Token-8"}, ["Token-9", 1]]},
    }
    lines = ["Ward db Geheim Geheim-2", "Peer-3 Pg-4", "Header-5", "Line-7", "at Uri-6@db", "run u"]
    lines += ["Token-8 or Token-9"]
    shown = " ".join(orthanc_secrets.scrub(lines, options))
    for secret in ("Geheim", "-2", "Peer", "Pg", "Header", "Line", "Uri", " u", "Token"):
        assert secret not in shown
    assert "Ward db" in shown
    assert "run" in shown


def test_a_short_secret_is_hidden_where_it_is_a_word_of_its_own():
    options = {"RegisteredUsers": {"anna": "ab"}}
    assert orthanc_secrets.scrub(["no ab, about"], options) == ["no (hidden), about"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Ours:Auth", "x"),
        ("Ours:Bearer", "x"),
        ("Ours:Webhook", "https://example.org/T0/B0"),
        ("Ours:Deep", {"Passphrase": ["x", {"y": 1}]}),
        ("Ours", {"Port": 8042, "On": True, "Name": "x"}),
        ("DicomWeb:NotYetKnown", "x"),
        ("Housekeeper:NotYetKnown", "x"),
        ("DicomWeb", {"NotYetKnown": {"x": "y"}}),
    ],
)
def test_every_value_of_nobodys_keys_is_secret(name, value):
    def leaves(value):
        if isinstance(value, dict):
            return [leaf for item in value.values() for leaf in leaves(item)]
        return (
            [leaf for item in value for leaf in leaves(item)]
            if isinstance(value, list)
            else [value]
        )

    assert set(leaves(orthanc_options.redact(name, value))) == {"(hidden)"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HttpPort", 8042),
        ("Name", "x"),
        ("NewOfOrthanc", "x"),
        ("DicomWeb:Root", "/dicom-web/"),
        ("Housekeeper:Schedule", {"Monday": ["0-6"]}),
        ("DicomModalities:ct", ["CT", "192.0.2.1", 104]),
        ("ServeFolders:/docs", "/srv/docs"),
        ("Dictionary", {"00e1,10c2": ["UI", "Name", 1, 1, "ELSCINT1"]}),
        ("PythonScript", "/srv/x.py"),
    ],
)
def test_what_is_known_to_be_no_secret_is_shown(name, value):
    assert orthanc_options.redact(name, value) == value
