"""What restic is told, and what it says."""

import json
import os
import subprocess
import tempfile
import threading

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
    assert "ConnectTimeout=30" in command
    assert "-i '/k y'" in command
    assert command.endswith(f" {end}")
    assert "-i" not in orthanc_restic._ssh({**job, "key": None}, match)


# Restic 0.14, whatever keeps it from the repository.
ASKED = "\nIs there a repository at the following location?\ns3:http://far/x"


@pytest.mark.parametrize("repository", ["/srv/x", "rest:https://far/", "s3:far/x"])
def test_what_is_not_reached_over_ssh_needs_none(repository):
    assert orthanc_restic.SFTP.fullmatch(repository) is None


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("Fatal: wrong password or no key found", "put the one with which it was made into /f/p"),
        ("Save: write /srv/x: no space left on device", "the disk of the repository is full"),
        ("Write: write /tmp/restic-temp-pack-1: no space left on device", "/tmp of this host is"),
        ("me@far: Permission denied (publickey).", "orthanc.backup_key"),
        ("unable to start the sftp session, error: EOF", "orthanc.backup_key` shows the key"),
        # As one says whose key is not known there, where ssh's own words came too late.
        (
            "subprocess ssh: Warning: Permanently added 'far' to the list of known hosts.\nFatal:"
            " unable to open repository at sftp:me@far:x: unable to start the sftp session, error:"
            " error receiving version packet from server: server unexpectedly closed connection:"
            f" unexpected EOF{ASKED}",
            "does not let this one in, or has no sftp",
        ),
        (
            "ssh: connect to host far: Connection refused\nunable to start the sftp session",
            "the other host does not answer",
        ),
        (
            '{"message_type":"exit_error","code":1,"message":"Fatal: odd"}',
            "restic says: Fatal: odd",
        ),
        ("", "exit code 7"),
        ("Fatal: Resolving password failed: /f/password does not exist", "your copy of it there"),
        ("Fatal: an empty password is not allowed by default.", "your copy of it there"),
        ("ssh: connect to host far port 22: Connection refused", "the other host does not answer"),
        ("Connection timed out during banner exchange", "the other host does not answer"),
        ("Fatal: error receiving version packet from server", "the other host does not answer"),
        ("Fatal: dial tcp 192.0.2.1:80: i/o timeout", "the other host does not answer"),
        ("stat /etc/passwd/config: not a directory", "no folder that can be used"),
        ("Is there a repository at the following location?\n/srv/none", "is its disk mounted"),
        (f"Stat: The AWS Access Key Id you provided does not exist{ASKED}", "AWS_ACCESS_KEY_ID"),
        (f"Stat: Access Denied.{ASKED}", "AWS_SECRET_ACCESS_KEY of orthanc:backup:environment"),
        (f"unexpected HTTP response (401): 401 Unauthorized{ASKED}", "the account in orthanc:"),
        (f"dial tcp 192.0.2.1:9000: connect: connection refused{ASKED}", "does not answer"),
        (f"Stat: The specified bucket does not exist{ASKED}", "there is no repository"),
        ("x509: certificate signed by unknown authority", "update-ca-certificates"),
        ("The difference between the request time and the server's time is too large", "the clock"),
    ],
)
def test_a_failure_is_said_in_plain_words(said, words):
    job = {"folder": "/f", "repository": "/srv/x", "environment": {}}
    with pytest.raises(CommandExecutionError) as err:
        orthanc_restic._succeed(job, {"retcode": 7, "stdout": "", "stderr": said}, "it failed")
    assert str(err.value).startswith("it failed")
    assert words in str(err.value)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("Stat: The specified key does not exist", "was there, and is gone"),
        ("Stat: The specified bucket does not exist", "was there, and is gone"),
        ("Stat: The request signature we calculated does not match", "does not let this host in"),
        ("dial tcp 192.0.2.1:9000: connect: connection refused", "the other host does not answer"),
    ],
)
def test_one_that_is_not_reached_is_neither_gone_nor_made_anew(monkeypatch, said, words):
    job = {"folder": "/f", "repository": "s3:http://far/x", "environment": {}}
    told = {
        "retcode": 1,
        "stdout": "",
        "stderr": f"Fatal: unable to open config file: {said}{ASKED}",
    }
    asked = []
    monkeypatch.setattr(orthanc_restic, "_run", lambda job, words: asked.append(words) or told)
    monkeypatch.setattr(orthanc_restic, "known", lambda folder: {"s3:http://far/x": "5f"})
    with pytest.raises(CommandExecutionError, match=words):
        orthanc_restic.ready(job)
    assert asked == [["cat", "config"]]
    with pytest.raises(CommandExecutionError):
        orthanc_restic.opens(job)


def test_a_wrong_password_does_not_open_it(monkeypatch):
    told = {"retcode": 1, "stdout": "", "stderr": "Fatal: wrong password or no key found"}
    monkeypatch.setattr(orthanc_restic, "_run", lambda job, words: told)
    assert orthanc_restic.opens({"folder": "/f"}) is False


def test_on_an_empty_machine_the_password_is_where_it_was_said_to_be():
    job = {"folder": "/f", "password_file": "/root/pw", "repository": "/srv/x", "environment": {}}
    told = {"retcode": 1, "stdout": "", "stderr": "Fatal: wrong password or no key found"}
    with pytest.raises(CommandExecutionError, match="it was made into /root/pw, or"):
        orthanc_restic._succeed(job, told, "it failed")


def test_what_is_said_again_and_again_is_told_in_a_few_lines():
    job = {"folder": "/f", "repository": "rest:http://far/", "environment": {}}
    said = "".join(f"retrying after {n} s: dial tcp: connection refused\n" for n in range(50))
    with pytest.raises(CommandExecutionError, match="does not answer") as err:
        orthanc_restic._succeed(job, {"retcode": 1, "stdout": "", "stderr": said}, "it failed")
    assert str(err.value).count("retrying") == 3


def test_a_disk_that_is_full_is_the_one_that_is_restored_to(monkeypatch):
    said = {"retcode": 1, "stdout": "", "stderr": "write /srv/x/y: no space left on device"}
    monkeypatch.setattr(orthanc_restic, "_patient", lambda job, words: said)
    with pytest.raises(CommandExecutionError, match="no room for the backup in /srv/x;"):
        orthanc_restic.restore({}, "5f", "/srv/x", ["/"])


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


@pytest.mark.parametrize(
    ("said", "heard", "ends"),
    [
        ("write: no space left on device", True, True),
        ("open /srv/x/config: not a directory", False, True),
        ("dial tcp: connection refused", False, True),
        # It was there, so it may come back in the hours that a backup takes.
        ("dial tcp: connection refused", True, False),
        ("odd", False, False),
        ("The request signature we calculated does not match", False, True),
        ("The specified bucket does not exist", False, True),
        # It may not be allowed to delete one file, and all else goes on.
        ("Access Denied.", True, False),
    ],
)
def test_it_is_ended_where_trying_again_is_no_use(monkeypatch, said, heard, ends):
    monkeypatch.setattr(orthanc_restic, "CONTACT", 1)
    printed = threading.Event()
    if heard:
        printed.set()
    with tempfile.TemporaryFile() as errors, subprocess.Popen(["sleep", "3"]) as process:
        errors.write(f"returned error, retrying after 720ms: {said}\n".encode())
        errors.flush()
        orthanc_restic._watch(process, errors, printed)
        assert process.wait() == (-9 if ends else 0)


def test_one_that_says_nothing_for_long_is_ended(monkeypatch):
    monkeypatch.setattr(orthanc_restic, "SILENCE", 1)
    with tempfile.TemporaryFile() as errors, subprocess.Popen(["sleep", "60"]) as process:
        orthanc_restic._watch(process, errors, threading.Event())
        assert process.wait() == -9


def test_a_lock_that_a_killed_run_left_is_taken_away_at_once(monkeypatch):
    locked = {"retcode": 1, "stdout": "", "stderr": "unable to create lock: already locked by"}
    done = {"retcode": 0, "stdout": "", "stderr": ""}
    asked, slept, answers = [], [], [locked, done, locked, done, done]
    monkeypatch.setattr(orthanc_restic.time, "sleep", slept.append)
    monkeypatch.setattr(
        orthanc_restic, "_run", lambda job, words: asked.append(words[0]) or answers[len(asked) - 1]
    )
    assert orthanc_restic._patient({}, ["forget"]) == done
    assert asked == ["forget", "unlock", "forget", "unlock", "forget"]
    # Only then is it another host's.
    assert slept == [0, orthanc_restic.PAUSE]


def test_the_newest_one_is_the_newest_in_each_zone(monkeypatch):
    """The night in which summer time ends has one hour twice."""
    times = [
        "2026-10-25T02:10:00.5+01:00",
        "2026-10-25T02:50:00.123456789+02:00",
        "2026-10-25T00:30:00Z",
    ]
    said = {"retcode": 0, "stderr": "", "stdout": json.dumps([{"time": each} for each in times])}
    monkeypatch.setattr(orthanc_restic, "_run", lambda job, words: said)
    found = [one["time"] for one in orthanc_restic.snapshots({})]
    assert found == [times[2], times[1], times[0]]


def test_it_goes_on_without_its_cache_where_that_is_full(monkeypatch):
    full = "Copy: write /var/cache/x/5f/tmp-1: no space left on device"
    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/x")
    monkeypatch.setattr(orthanc_restic.log, "warning", lambda *_: None)
    monkeypatch.setattr(
        orthanc_restic,
        "_run",
        lambda *_: {"retcode": int("CACHE_DIRECTORY" in os.environ), "stdout": "", "stderr": full},
    )
    assert orthanc_restic._patient({}, ["backup"])["retcode"] == 0


@pytest.mark.parametrize(
    ("said", "is_damaged"),
    [
        ("Load(<data/9bc7eaf47c>, 3, 6) failed: open /r/data/9b/9bc7: no such file", True),
        ("decrypting blob <data/cf59> from decd failed: ciphertext verification failed", True),
        ("ignoring error for /x: lchown /srv/x: operation not permitted", False),
        ("Load(<data/9bc7eaf47c>, 3, 6) returned error: connection reset by peer", False),
    ],
)
def test_a_damaged_repository_is_called_so(monkeypatch, said, is_damaged):
    job = {"folder": "/f", "repository": "/srv/x", "environment": {}}
    answer = {"retcode": 1, "stdout": "", "stderr": f"{said}\nFatal: There were 2 errors"}
    monkeypatch.setattr(orthanc_restic, "_run", lambda *_: answer)
    with pytest.raises(CommandExecutionError) as err:
        orthanc_restic.restore(job, "5f", "/srv/y", ["/"])
    assert ("the repository is damaged" in str(err.value)) == is_damaged
    assert "There were 2 errors" in str(err.value)


def test_paths_are_restored_in_as_many_commands_as_they_need(monkeypatch):
    """And none of no path: restic would restore all."""
    ran = []
    done = {"retcode": 0, "stdout": "", "stderr": ""}
    monkeypatch.setattr(orthanc_restic, "_patient", lambda _, words: ran.append(words) or done)
    monkeypatch.setattr(orthanc_restic, "_succeed", lambda *_: done)
    paths = [f"/{number}" for number in range(orthanc_restic.WORDS + 1)]
    orthanc_restic.restore({}, "5f", "/srv", paths)
    assert [len(words) - 3 for words in ran] == [orthanc_restic.WORDS, 1]
    assert [word for words in ran for word in words[3:]] == [f"--include={path}" for path in paths]
    orthanc_restic.restore({}, "5f", "/srv", [])
    assert len(ran) == 2
