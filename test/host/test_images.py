"""The files of the images, held against the index while the server stores and deletes."""

import contextlib
import json
import time

import documentation
import pytest
import testbed
from clients import meanwhile
from minion import Minion

STORAGE = "/var/lib/orthanc/db-v6"
# In the place of cp: too slow for a server to stand still meanwhile.
SLOW = "#!/bin/sh\nsleep 60\n"


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def server(request, salt_version, users):
    with Minion(testbed.deployed(request.param, salt_version)) as host:
        host.apply(users=users, overwrite_instances=True)
        host.anna = ("anna", users["anna"]["password"])
        yield host


def store(server, file) -> dict:
    answer = server.ask("POST", "/instances", *server.anna, data=f"@{file}")
    assert answer.code == 200, answer
    return answer.json


def files_of(server, image: dict) -> list[str]:
    """Return the paths of an image's files."""
    path = f"/instances/{image['ID']}/attachments"
    kinds = server.ask("GET", path, *server.anna).json
    uuids = [server.ask("GET", f"{path}/{k}/info", *server.anna).json["Uuid"] for k in kinds]
    return [f"{STORAGE}/{uuid[:2]}/{uuid[2:4]}/{uuid}" for uuid in uuids]


def called(server, function: str, *words: str) -> tuple[dict, bool]:
    """Return what a function returned, and whether it says that all is well."""
    done = server.call(f"orthanc.{function}", *words, "--out=json", check=False)
    return json.loads(done.out)["local"], done.ok


@contextlib.contextmanager
def busy(server, image):
    """Let a client store and delete images, and give those that it has kept."""
    kept, failed = [], []

    def work():
        try:
            kept.append(store(server, image()))
            gone = store(server, image())
            path = f"/instances/{gone['ID']}"
            assert server.ask("DELETE", path, *server.anna).code == 200
        except AssertionError as err:
            failed.append(err)

    with meanwhile(work):
        yield kept
    assert failed == []


def test_a_sound_server_is_found_sound_while_it_works(server, image):
    images = [store(server, image()) for _ in range(5)]
    with busy(server, image) as kept:
        for number in range(1, 4):
            while len(kept) < 5 * number:
                time.sleep(0.05)
            found, ok = called(server, "verify")
            assert ok, found
            # Those that were deleted before they were read are not damaged.
            assert found["files"] >= found["read"] >= len(images)
            for kind in ("missing", "empty", "wrong", "orphans", "studies"):
                assert found[kind] == [], found
    ((_, _, command),) = documentation.section("Are all images there?")
    assert "orphans" in server.run(command).out
    assert server.run(f"ls -A {STORAGE} | grep orthanc-index", check=False).out == ""
    # For root alone.
    assert server.run("stat -c '%a %U' /etc/orthanc.verified").out.split() == ["600", "root"]


def test_damage_is_found_and_what_is_certain_put_right(server, image):
    sound, lost, hollow, spoilt = (store(server, image()) for _ in range(4))
    files = {
        name: files_of(server, name_of)
        for name, name_of in zip("slhw", (sound, lost, hollow, spoilt))
    }
    twin = f"{STORAGE}/ab/cd/abcd0000-0000-0000-0000-000000000000"
    copy = f"{STORAGE}/ab/cd/abcd0000-0000-0000-0000-000000000001"
    server.run(
        f"mkdir -p {STORAGE}/ab/cd; cp -p {files['s'][0]} {twin}; cp -p {files['h'][0]} {copy}"
        f"; touch -d yesterday {twin} {copy}; chown -R orthanc: {STORAGE}/ab"
        f"; rm {files['l'][0]}; : > {files['h'][0]}; printf XXXX |"
        f" dd of={files['w'][0]} bs=1 seek=200 conv=notrunc 2>/dev/null"
    )
    found, ok = called(server, "verify")
    assert not ok
    uuids = {name: paths[0].rpartition("/")[2] for name, paths in files.items()}
    assert (found["missing"], found["empty"], found["wrong"]) == (
        *([uuids["l"]], [uuids["h"]]),
        [uuids["w"]],
    )
    assert found["orphans"] == [path.rpartition("/")[2] for path in (twin, copy)]
    assert found["studies"] == sorted(each["ParentStudy"] for each in (lost, hollow, spoilt))

    would, ok = called(server, "repair")
    assert ok
    assert server.path(files["h"][0]).stat().st_size == 0
    assert called(server, "repair", "test=False") == (would, True)
    for each in (sound, hollow):
        path = f"/instances/{each['ID']}/attachments/dicom/verify-md5"
        assert server.ask("POST", path, *server.anna, data="").code == 200
    assert not server.path(twin).exists()
    # What is lost has to come again, from where it is known to be.
    assert would["studies"] == sorted(each["ParentStudy"] for each in (lost, spoilt))
    for each in (lost, spoilt):
        assert server.ask("DELETE", f"/studies/{each['ParentStudy']}", *server.anna).code == 200
    called(server, "repair", "test=False")
    assert called(server, "verify")[1]


@pytest.mark.parametrize("server", ["trixie"], indirect=True)
def test_the_server_goes_on_whatever_becomes_of_the_run(server):
    server.write("/srv/slow/cp", SLOW)
    server.run("chmod +x /srv/slow/cp")
    pid = server.pid()
    call = "PATH=/srv/slow:$PATH salt-call orthanc.verify"
    server.run(f"{call} >/srv/slow/out 2>&1 & echo $! > /srv/slow/pid")
    stopped = f"grep -q '^State:.T' /proc/{pid}/status"
    server.run(f"timeout 60 sh -c 'until {stopped}; do sleep 0.05; done'")
    server.run("pkill -9 -f '[s]alt-call orthanc.verify'")
    assert server.ask("GET", "/system", *server.anna, limit=30).code == 200
    assert not server.run(stopped, check=False).ok
    server.run("pkill -f '[s]rv/slow/cp'")
    # A slow one that lives is told of.
    server.write("/srv/slow/cp", SLOW.replace("60", "10"))
    failed = server.run(call, check=False)
    assert "too large to be copied within the 8 seconds" in failed.out + failed.err
    assert server.ask("GET", "/system", *server.anna).code == 200
    assert server.pid() == pid
    # What a killed run left goes.
    server.run(f"touch -d yesterday {STORAGE}/.orthanc-index-*")
    assert called(server, "verify")[1]
    assert server.run(f"ls -A {STORAGE} | grep orthanc-index", check=False).out == ""
