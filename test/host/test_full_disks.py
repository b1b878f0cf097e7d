"""Disks that get full under a load of images: what was acknowledged is there, whatever happens."""

import base64
import collections
import contextlib
import hashlib
import http.client
import itertools
import json
import random
import re
import threading
import time

import dicom
import pytest
import testbed
from minion import Minion

STORAGE, INDEX = "/srv/images", "/srv/index"
UIDS = {"StudyInstanceUID": "1.2.3.4", "SeriesInstanceUID": "1.2.3.4.5", "PatientID": "P"}
UID = b"1.2.3.4.5.6.10000000000000000000"
# How many pixels images have, and how many of a hundred: Orthanc does something else with what is
# in one page of memory, in a few and in many.
PIXELS = {64: 40, 5_000: 20, 300_000: 30, 3_000_000: 10}
KINDS = [size for size, part in PIXELS.items() for _ in range(part)]
random.Random(1).shuffle(KINDS)
BURST = 30_000_000
# A filter of the administrator's, who throws away what one device sends.
OWN = "function ReceivedInstanceFilter(dicom) return dicom.PatientID ~= 'NO' end"
# What the server keeps free, in bytes, and how large the disks are.
RESERVE, LARGE, SMALL = 100_000_000, 900_000_000, 200_000_000
BEGINS = "New images are refused from now on: the file system of {} has"
ENDS = "New images are taken again: there is room on the file system of {}"
SENT = re.compile(r"Sending file: (\S+)|Received Store Response \(([^)]*)\)")


class Images:
    """Makes images, and knows again what it has made."""

    def __init__(self, folder):
        self.folder = folder
        self.numbers = itertools.count(1)
        self.made = {size: self.template(size) for size in (*PIXELS, BURST)}

    def template(self, size):
        columns = 8 if size < 1000 else 1000
        shape = {
            "Rows": size // columns,
            "Columns": columns,
            "PixelData": b"8 pixels" * (size // 8),
        }
        path = dicom.make(self.folder, **UIDS, SOPInstanceUID=UID.decode(), **shape)
        return path.read_bytes()

    def image(self, size, number):
        return self.made[size].replace(UID, self.uid(number).encode())

    def uid(self, number):
        return f"1.2.3.4.5.6.1{number:019}"

    def name(self, number):
        """Return the identifier that Orthanc gives to an image."""
        parts = (UIDS["PatientID"], *list(UIDS.values())[:2], self.uid(number))
        digest = hashlib.sha1("|".join(parts).encode()).hexdigest()
        return "-".join(digest[start : start + 8] for start in range(0, 40, 8))


class Load:
    """Clients that store images until they are told to stop; what they were told is kept."""

    def __init__(self, server, images):
        self.server, self.images = server, images
        # By number: size, and whether all bytes have to come back as they were sent.
        self.taken = {}
        self.answers = collections.Counter()
        self.over = threading.Event()
        self.threads = []
        self.broken = []

    def clients(self, number, sizes, work=None):
        for _ in range(number):
            self.threads.append(
                threading.Thread(target=self.guard, args=(work or self.rest, sizes))
            )
            self.threads[-1].start()

    def guard(self, work, sizes):
        try:
            work(itertools.cycle(sizes))
        except BaseException as err:
            self.broken.append(err)
            raise

    def rest(self, sizes):
        number = next(self.images.numbers)
        while not self.over.is_set():
            size = next(sizes)
            code, _ = post(self.server, self.images.image(size, number))
            self.answers[code] += 1
            if code == 200:
                self.taken[number] = size, True
            elif not code:
                time.sleep(0.05)
            number = next(self.images.numbers)

    def once(self, sizes):
        number, size = next(self.images.numbers), next(sizes)
        code, _ = post(self.server, self.images.image(size, number))
        self.answers[code] += 1
        if code == 200:
            self.taken[number] = size, True

    def dicom(self, sizes):
        while not self.over.is_set():
            for status in self.send([next(sizes) for _ in range(20)]):
                self.answers[status] += 1

    def send(self, sizes):
        """Send images over DICOM, and return what the answers were."""
        files = {}
        for size in sizes:
            number = next(self.images.numbers)
            path = self.images.folder / f"sent-{number}.dcm"
            path.write_bytes(self.images.image(size, number))
            files[str(path)] = number, size
        output = dicom.client("storescu", self.server.address, "-nh", *files).output
        answers, file = [], ""
        for name, status in SENT.findall(output):
            file = name or file
            if status:
                answers.append(status)
                if status == "Success":
                    self.taken[files[file][0]] = files[file][1], False
        for path in files:
            (self.images.folder / path).unlink()
        return answers

    def wait(self, what, limit=120):
        deadline = time.monotonic() + limit
        while not what():
            assert not self.broken
            assert time.monotonic() < deadline, self.answers
            time.sleep(0.05)

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join()
        assert not self.broken

    def lost(self):
        """Return those that were acknowledged and do not come back as they were sent."""
        connection, found = connect(self.server), []
        for number, (size, whole) in self.taken.items():
            sent = self.images.image(size, number)
            path = f"/instances/{self.images.name(number)}/file"
            code, body = asked(connection, self.server, "GET", path)
            # Over DICOM, what comes before the data set is Orthanc's own.
            same = body == sent if whole else body.endswith(sent[sent.index(b"\x08\x00\x16\x00") :])
            if code != 200 or not same:
                found.append((number, size, code, len(body)))
        connection.close()
        return found


def ask(server, method, path, body=None):
    """Ask the server over HTTP; the code is 0 where there is no answer."""
    with contextlib.closing(connect(server)) as connection:
        return asked(connection, server, method, path, body)


def connect(server):
    return http.client.HTTPConnection(server.address, 8042, timeout=60)


def asked(connection, server, method, path, body=None):
    login = base64.b64encode(":".join(server.anna).encode()).decode()
    try:
        connection.request(method, path, body, {"Authorization": f"Basic {login}"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return 0, b""


def post(server, body, path="/instances"):
    return ask(server, "POST", path, body)


def make_disk(server, point, size):
    """Mount an ext4 of its own on a host."""
    file = server.folder / "disk"
    testbed.local("truncate", "-s", str(size), str(file))
    testbed.local("mkfs.ext4", "-q", "-F", str(file))
    device = testbed.local("losetup", "-f", "--show", str(file)).stdout.strip()
    try:
        number = int(device.rpartition("loop")[2])
        server.run(f"mknod /srv/device b 7 {number}; mkdir -p {point}; mount /srv/device {point}")
    finally:
        # It goes with the host that has it mounted.
        testbed.local("losetup", "-d", device)


def fill(server, point, left):
    """Write a file that leaves so many bytes free."""
    free = server.run(f"df -B1 --output=avail {point} | tail -1").out
    server.run(f"fallocate -l {int(free) - left} {point}/fill")


def log_of(server):
    return server.run("journalctl -u orthanc -o cat; cat /var/log/orthanc/*.log* || :").out


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return Images(tmp_path_factory.mktemp("full"))


@pytest.fixture(scope="module", params=["bookworm", "trixie", "leap"])
def server(request, salt_version, users):
    with Minion(testbed.deployed(request.param, salt_version)) as host:
        make_disk(host, STORAGE, LARGE)
        host.run(f"mkdir -p {INDEX}; mount -t tmpfs -o size={SMALL},mode=755 none {INDEX}")
        host.write("/srv/own.lua", OWN)
        host.settings = {
            **{"users": users, "remote_access": True, "dicom": {"enabled": True}},
            **{"paths": {"storage": STORAGE, "index": INDEX}, "storage_reserve": "100 MB"},
            "overwrite_instances": True,
            "config": {"LuaScripts": ["/srv/own.lua"]},
        }
        host.anna = ("anna", users["anna"]["password"])
        host.apply(**host.settings)
        yield host


def restart_after_a_crash(server):
    server.run("systemctl kill -s KILL orthanc; systemctl reset-failed orthanc", check=False)
    server.run("systemctl restart orthanc")
    server.wait_for_port()


def empty(server):
    assert ask(server, "DELETE", "/patients/" + patient())[0] == 200


def patient():
    digest = hashlib.sha1(UIDS["PatientID"].encode()).hexdigest()
    return "-".join(digest[start : start + 8] for start in range(0, 40, 8))


def takes(server, images):
    return post(server, images.image(64, next(images.numbers)))[0] == 200


def damaged(server):
    done = server.call("orthanc.verify", "rate=0", "--out=json", check=False)
    found = json.loads(done.out)["local"]
    return {kind: found[kind] for kind in ("missing", "empty", "wrong") if found[kind]}


def test_what_was_acknowledged_is_there_after_a_full_disk_and_a_crash(server, images):
    # So far from the reserve that at first the disk is looked at once a second.
    fill(server, STORAGE, RESERVE + 320_000_000)
    load = Load(server, images)
    load.clients(4, KINDS)
    load.clients(1, KINDS, load.dicom)
    load.wait(lambda: load.answers[500] > 20 and load.answers["Refused: OutOfResources"] > 20)
    restart_after_a_crash(server)
    load.wait(lambda: load.answers[0])
    refused = load.answers[500]
    load.wait(lambda: load.answers[500] > refused + 20)
    load.end()
    assert set(load.answers) == {0, 200, 500, "Success", "Refused: OutOfResources"}
    assert min(load.answers[200], load.answers["Success"]) > 50
    assert load.lost() == []
    assert damaged(server) == {}
    server.number = next(iter(load.taken))


def test_who_reads_and_deletes_is_served_meanwhile(server, images):
    number = server.number
    code, answer = post(server, images.image(64, next(images.numbers)))
    assert code == 500
    details = json.loads(answer)["Details"]
    assert f"the file system of {STORAGE} has " in details
    assert "a reserve of 100 MB (orthanc:storage_reserve)" in details
    # The administrator's own filter is asked first.
    ignored = images.image(64, 0).replace(b"\x02\0P ", b"\x02\0NO")
    code, answer = post(server, ignored)
    assert (code, json.loads(answer)["Status"]) == (200, "FilteredOut")
    path = f"/instances/{images.name(number)}"
    asked = json.dumps({"Level": "Instance", "Query": {"SOPInstanceUID": images.uid(number)}})
    code, found = ask(server, "POST", "/tools/find", asked)
    assert (code, json.loads(found)) == (200, [images.name(number)])
    # What makes images is refused as well.
    new = json.dumps({"Replace": {"PatientName": "New"}, "Synchronous": True})
    study = json.loads(ask(server, "GET", f"{path}/study")[1])["ID"]
    assert ask(server, "POST", f"/studies/{study}/modify", new)[0] == 500
    assert ask(server, "DELETE", path)[0] == 200


def test_the_run_and_the_log_tell_of_it(server):
    # Below the reserve, however large what was deleted is.
    server.run(f"fallocate -l 20000000 {STORAGE}/more")
    server.pillar(**server.settings)
    run = server.state(test=True)
    assert run.ok
    assert not run.changes
    told = run.states["orthanc-pillar"]["warnings"]
    (warning,) = [line for line in told if line.startswith("orthanc:storage_reserve: ")]
    assert f"the file system of {STORAGE} has " in warning
    # For each start.
    assert log_of(server).count(BEGINS.format(STORAGE)) >= 2
    errors = json.loads(server.call("orthanc.errors", "--out=json").out)["local"]
    assert any(f"the file system of {STORAGE} has " in line for line in errors)


def test_it_ends_by_itself_and_a_burst_is_no_matter(server, images):
    server.run(f"rm {STORAGE}/fill {STORAGE}/more")
    Load(server, images).wait(lambda: takes(server, images), limit=30)
    assert log_of(server).rpartition(BEGINS.format(STORAGE))[2].count(ENDS.format(STORAGE)) == 1
    empty(server)
    # All at once they are more than all that is free, the reserve included.
    fill(server, STORAGE, RESERVE + 20_000_000)
    load = Load(server, images)
    load.clients(2, [64, 5_000])
    # One of the burst may take all the room that there is.
    load.wait(lambda: {size for size, _ in [*load.taken.values()]} == {64, 5_000})
    load.clients(8, [BURST], load.once)
    load.wait(lambda: sum(thread.is_alive() for thread in load.threads) == 2)
    restart_after_a_crash(server)
    load.end()
    assert load.lost() == []
    assert damaged(server) == {}
    server.run(f"rm {STORAGE}/fill")
    load.wait(lambda: takes(server, images), limit=30)


def test_so_it_is_with_the_index(server, images):
    load = Load(server, images)
    load.clients(4, [64, 5_000])
    load.wait(lambda: load.answers[200] > 20)
    fill(server, INDEX, RESERVE - 500_000)
    load.wait(lambda: load.answers[500] > 20)
    restart_after_a_crash(server)
    load.wait(lambda: load.answers[0])
    load.end()
    assert load.lost() == []
    assert damaged(server) == {}
    assert f"the file system of {INDEX} has " in post(server, images.image(64, 1))[1].decode()
    server.run(f"rm {INDEX}/fill")
    load.wait(lambda: takes(server, images), limit=30)
