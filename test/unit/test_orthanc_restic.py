"""What restic is told, and what it says."""

import json

import orthanc_restic
import pytest
from salt.exceptions import CommandExecutionError


@pytest.mark.parametrize(
    ("repository", "end"),
    [
        ("sftp:me@far.example.org:/srv/x", "me@far.example.org -s sftp"),
        ("sftp:far:x", "far -s sftp"),
        ("sftp://me@far:2222//srv/x", "-p 2222 me@far -s sftp"),
        ("sftp://far/x", "far -s sftp"),
    ],
)
def test_another_host_is_reached_with_the_key_and_asks_nothing(monkeypatch, repository, end):
    monkeypatch.setattr(orthanc_restic, "ROOTS_KEYS", ("/none",))
    match = orthanc_restic.SFTP.fullmatch(repository)
    job = {"folder": "/f", "key": "/k y"}
    command = orthanc_restic._ssh(job, match)
    assert command.startswith("ssh -o BatchMode=yes ")
    assert "UserKnownHostsFile=/f/known_hosts" in command
    assert "-i '/k y'" in command
    assert command.endswith(f" {end}")
    assert "-i" not in orthanc_restic._ssh({**job, "key": None}, match)


@pytest.mark.parametrize("repository", ["/srv/x", "rest:https://far/", "s3:far/x"])
def test_what_is_not_reached_over_ssh_needs_none(repository):
    assert orthanc_restic.SFTP.fullmatch(repository) is None


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("Fatal: wrong password or no key found", "put the one with which it was made into /f/p"),
        ("Save: write /srv/x: no space left on device", "the disk of the repository is full"),
        ("me@far: Permission denied (publickey).", "orthanc.backup_key"),
        (
            '{"message_type":"exit_error","code":1,"message":"Fatal: odd"}',
            "restic says: Fatal: odd",
        ),
        ("", "exit code 7"),
    ],
)
def test_a_failure_is_said_in_plain_words(said, words):
    job = {"folder": "/f", "repository": "/srv/x", "environment": {}}
    with pytest.raises(CommandExecutionError) as err:
        orthanc_restic._succeed(job, {"retcode": 7, "stdout": "", "stderr": said}, "it failed")
    assert str(err.value).startswith("it failed")
    assert words in str(err.value)


def test_no_secret_is_in_what_is_said():
    job = {
        "repository": "rest:https://me:pass-word@far/",
        "environment": {"AWS_SECRET_ACCESS_KEY": "key/of+mine"},
    }
    text = "https://me:pass-word@far/: key/of+mine; pass-word"
    assert orthanc_restic.hidden(job, text) == "https://(hidden)@far/: (hidden); (hidden)"


def test_what_could_not_be_read_is_told_by_each_version_of_restic():
    old = {"message_type": "error", "error": {"Op": "lstat"}, "during": "scan", "item": "/a"}
    new = {"message_type": "error", "error": {"message": "open"}, "during": "a", "item": "/b"}
    other = {"message_type": "error", "error": {"message": "odd"}, "during": "", "item": ""}
    lines = [*map(json.dumps, (old, new, other)), "no JSON", "1", "[]"]
    assert orthanc_restic._unread(lines) == ["/a", "/b", "{'message': 'odd'}"]
