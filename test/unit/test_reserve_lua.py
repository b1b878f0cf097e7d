"""The script that refuses images while there is too little space, in a real Lua."""

import json
import pathlib
import subprocess

import jinja2
import lupa
import pytest

FORMULA = pathlib.Path(__file__).resolve().parents[2]
MB, GB = 10**6, 10**9
UNCOMPRESSED, VIDEO = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.102"
# The Lua of the tests has none.
POPEN = """
function io.popen(command)
  local text = run(command)
  return {lines = function() return string.gmatch(text, "[^\\n]+") end, close = function() end}
end
"""
# Tells what stands beside it, and notes that and for what it was asked.
DF = """\
#!/bin/sh
echo "$*" >> {0}/asked
cat {0}/space
"""


class Server:
    """What Orthanc has in its Lua, a clock, and a df that tells of disks."""

    def __init__(self, folder: pathlib.Path, before: str = "") -> None:
        self.folder, self.before = folder, before
        self.said, self.now, self.system = [], 1000, {}
        (folder / "df").write_text(DF.format(folder))
        (folder / "df").chmod(0o755)
        self.asked = folder / "asked"

    def start(self, setting: str, storage: str = "/images", index: str = "/index") -> None:
        self.lua = lupa.LuaRuntime(encoding="utf-8")
        has = self.lua.globals()
        has.print, has.os.time = self.said.append, lambda: self.now
        has.RestApiGet = lambda path: json.dumps(self.system) if path == "/system" else None
        has.ParseJson = lambda text: self.lua.table_from(json.loads(text))
        has.run = lambda command: (
            subprocess.run(
                ["/bin/sh", "-c", command], capture_output=True, check=False, text=True
            ).stdout
        )
        self.lua.execute(POPEN)
        self.lua.execute(self.before)
        self.lua.execute(self.script(setting, storage, index))

    def disks(self, *disks) -> None:
        """Each with its size, what is free, how many files it can have and can still have."""
        lines = ["1B-blocks Avail Inodes IFree Mounted on"]
        for number, disk in enumerate(disks):
            size, free, *files = disk
            total, left = files or ("-", "-")
            lines.append(f"{size:.0f} {free:.0f} {total} {left} /disk {number}")
        (self.folder / "space").write_text("\n".join(lines) + "\n")

    def times(self) -> int:
        """How often it was asked."""
        return len(self.asked.read_text().splitlines()) if self.asked.exists() else 0

    def store(self, pixels: float = 0, syntax: str = UNCOMPRESSED, **tags):
        """Return what the filter says to an image, or the words with which it refuses."""
        if pixels:
            size = {"Rows": "1000", "Columns": f"{pixels / 1000:.0f}", "BitsAllocated": "8"}
            tags = {**size, **tags}
        tables = map(self.lua.table_from, (tags, {}, {"TransferSyntaxUID": syntax}))
        try:
            return self.lua.globals().ReceivedInstanceFilter(*tables)
        except lupa.LuaError as err:
            return str(err).partition("\n")[0]


@pytest.fixture
def server(tmp_path, monkeypatch, read_file):
    template = jinja2.Template((FORMULA / "orthanc/reserve.lua.jinja").read_text())
    filled = {"slsutil.renderer": lambda *_, **values: template.render(**values)}
    made = read_file("orthanc/lua_filter.py", __salt__=filled, __env__="base")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    server = Server(tmp_path)
    server.script = made["reserve_filter"]
    return server


@pytest.mark.parametrize(
    ("setting", "reserve"),
    [
        ("5%", {"percent": 5, "most": 10**18, "least": 100 * MB}),
        ("12 %", {"percent": 12, "most": 10**18, "least": 100 * MB}),
        ("10 GB", {"percent": 0, "most": 10**18, "least": 10 * GB}),
        ("1.5TB", {"percent": 0, "most": 10**18, "least": 1500 * GB}),
        ("500 MB", {"percent": 0, "most": 10**18, "least": 500 * MB}),
        ("5% up to 10 GB", {"percent": 5, "most": 10 * GB, "least": 100 * MB}),
        (False, {}),
    ],
)
def test_the_reserve_of_a_setting(read_file, pillar_files, setting, reserve):
    assert pillar_files["reader"]["mistakes"]({"storage_reserve": setting}) == []
    assert read_file("orthanc/lua_filter.py")["reserve_of"](setting) == reserve


def test_without_a_reserve_there_is_no_script(server):
    assert server.script(False, "/images", "/index") is None


@pytest.mark.parametrize(
    ("setting", "size", "reserve"),
    [
        ("5%", 100 * GB, 5 * GB),
        ("5% up to 10 GB", 100 * GB, 5 * GB),
        ("5% up to 10 GB", 1000 * GB, 10 * GB),
        ("20 GB", 1000 * GB, 20 * GB),
        # What may come in at one time has to fit.
        ("5%", 1 * GB, 100 * MB),
    ],
)
def test_below_the_reserve_images_are_refused(server, setting, size, reserve):
    server.start(setting)
    server.disks((size, reserve + MB), (size, size))
    assert server.store() is True
    server.now += 1
    server.disks((size, reserve - MB), (size, size))
    refused = server.store()
    assert refused.startswith("No new images are taken: the file system of /disk 0 has ")
    assert "a reserve of" in refused
    assert "orthanc:storage_reserve" in refused
    (said,) = server.said
    assert said.startswith("New images are refused from now on: the file system of /disk 0 has ")


def test_the_index_counts_as_well(server):
    server.start("5%")
    server.disks((100 * GB, 100 * GB), (10 * GB, 0.4 * GB))
    assert "/disk 1 has 400 MB free, and a reserve of 500 MB" in server.store()


def test_a_disk_without_room_for_files_is_full(server):
    server.start("5%")
    server.disks((GB, GB, 65536, 999), (GB, GB, 0, 0))
    assert "/disk 0 has room for 999 files only" in server.store()
    server.now += 1
    server.disks((GB, GB, 65536, 1000), (GB, GB, 0, 0))
    assert server.store() is True


def test_it_ends_by_itself_and_says_so_once(server):
    server.start("10 GB")
    server.disks((100 * GB, 9 * GB))
    for _ in range(5):
        server.now += 1
        assert "No new images" in server.store()
    # Not to and fro with each image that is deleted.
    server.disks((100 * GB, 10.1 * GB))
    server.now += 1
    assert "No new images" in server.store()
    server.disks((100 * GB, 11 * GB))
    # In the same second it is not asked again.
    assert "No new images" in server.store()
    server.now += 1
    assert server.store() is True
    first, second = server.said
    assert first.startswith("New images are refused from now on")
    assert second == "New images are taken again: there is room on the file system of /disk 0"


@pytest.mark.parametrize(("free", "seconds"), [(6, 1), (9.5, 5), (50, 10)])
def test_it_is_asked_now_and_then(server, free, seconds):
    server.start("5%")
    server.disks((100 * GB, free * GB))
    asked = []
    for _ in range(30):
        server.store()
        asked.append(server.times())
        server.now += 1
    assert asked == [1 + second // seconds for second in range(30)]


def test_it_is_asked_once_a_second(server):
    server.start("5%")
    server.disks((100 * GB, 6 * GB))
    for _ in range(3):
        for _ in range(50):
            assert server.store(500_000) is True
        server.now += 1
    assert server.times() == 3
    # Also where the clock goes back.
    server.now -= 100
    server.store()
    assert server.times() == 4


def test_what_comes_in_within_a_second_counts(server):
    server.start("10 GB")
    server.disks((100 * GB, 11 * GB))
    assert server.store(400_000) is True
    server.disks((100 * GB, 10.1 * GB))
    # Far enough before the reserve is reached.
    for _ in range(1000):
        assert server.store(400_000) is True
    assert server.times() == 1
    for _ in range(600):
        assert server.store(400_000) is True
    # From there on the disk is looked at before each image.
    before = server.times()
    assert before > 1
    assert server.store(400_000) is True
    assert server.times() == before + 1
    server.disks((100 * GB, 10 * GB - 1))
    assert "No new images" in server.store(400_000)


def test_all_that_is_under_way_has_to_fit(server):
    server.start("100 MB")
    server.disks((10 * GB, 2 * GB))
    # Nothing of them has been written yet.
    assert [server.store(600 * MB) for _ in range(3)] == [True] * 3
    assert server.store(600 * MB).startswith("There is no room for 2.4 GB, and ")
    # A small one does.
    assert server.store(500_000) is True
    server.now += 9
    assert "There is no room for 2.4 GB" in server.store(600 * MB)
    # They will be there by then.
    server.disks((10 * GB, 0.7 * GB))
    server.now += 2
    assert server.store(600 * MB) is True
    assert "There is no room for 1.2 GB" in server.store(600 * MB)
    assert server.said == []


@pytest.mark.parametrize(
    ("syntax", "takes"), [(VIDEO, True), ("1.2.840.10008.1.2", False), ("", True)]
)
def test_of_what_is_compressed_much_more_fits(server, syntax, takes):
    server.start("100 MB")
    server.disks((10 * GB, 2 * GB))
    frames = {"Rows": "1000", "Columns": "1000", "BitsAllocated": "8", "SamplesPerPixel": "3"}
    answer = server.store(syntax=syntax, NumberOfFrames="6000 ", **frames)
    assert (answer is True) == takes


@pytest.mark.parametrize("tags", [{"Rows": "x", "Columns": ""}, {"Rows": "5"}, {"Rows": "1\\2"}])
def test_an_image_of_no_known_size_is_taken(server, tags):
    server.start("5%")
    server.disks((10 * GB, 5 * GB))
    assert server.store(**tags) is True


def test_a_lua_that_runs_no_programs_stops_nothing(server):
    server.before = "function io.popen() error('not supported') end"
    server.start("5%")
    assert server.store() is True
    assert server.said


@pytest.mark.parametrize("df", ["exit 1", "echo 'df: nothing'", "sleep 30", "rm $0; exit 127"])
def test_what_cannot_be_told_stops_nothing(server, df):
    (server.folder / "df").write_text(f"#!/bin/sh\necho >> {server.asked}\n{df}\n")
    server.start("5%")
    if df == "sleep 30":
        # Not to wait for it here.
        words = (server.folder / "timeout", '#!/bin/sh\nshift 3\nexec /usr/bin/timeout 0.1 "$@"\n')
        words[0].write_text(words[1])
        words[0].chmod(0o755)
    for _ in range(3):
        assert server.store() is True
        server.now += 1
    # It is not asked again at once, and said once only.
    assert server.times() == 1
    assert server.said == [
        "df does not tell the free space, so images are taken whatever there is of it"
    ]
    (server.folder / "df").write_text(DF.format(server.folder))
    (server.folder / "df").chmod(0o755)
    server.disks((100 * GB, GB))
    server.now += 60
    assert "No new images" in server.store()


@pytest.mark.parametrize(
    ("system", "asked"),
    [
        ({}, "/images /index"),
        ({"StorageAreaPlugin": "/x.so"}, "/index"),
        ({"DatabaseBackendPlugin": "/x.so"}, "/images"),
        ({"StorageAreaPlugin": "/x.so", "DatabaseBackendPlugin": "/y.so"}, None),
    ],
)
def test_what_a_plugin_keeps_is_its_own_matter(server, system, asked):
    server.system = system
    server.start("5%")
    server.disks((100 * GB, GB))
    answer = server.store()
    if asked:
        assert "No new images" in answer
        assert server.asked.read_text().endswith(f" -- {asked}\n")
    else:
        assert answer is True
        assert not server.asked.exists()


def test_large_images_that_a_plugin_keeps_need_no_room_here(server):
    server.system = {"StorageAreaPlugin": "/x.so"}
    server.start("100 MB")
    server.disks((GB, 0.5 * GB))
    assert [server.store(GB) for _ in range(3)] == [True] * 3


def test_a_path_may_hold_anything(server):
    server.start("5%", "/a 'b'\\\"$(touch /tmp/x)`%\u00e4", "/-i")
    server.disks((100 * GB, 50 * GB))
    assert server.store() is True
    assert server.asked.read_text().endswith(" -- /a 'b'\\\"$(touch /tmp/x)`%\u00e4 /-i\n")


def test_a_filter_of_the_administrator_has_to_agree_too(server):
    server.before = "function ReceivedInstanceFilter(dicom) return dicom.PatientID ~= 'no' end"
    server.start("5%")
    server.disks((100 * GB, 50 * GB))
    assert server.store(PatientID="yes") is True
    assert server.store(PatientID="no") is False
    server.now += 10
    server.disks((100 * GB, GB))
    assert "No new images" in server.store(PatientID="yes")
    # Who sends it would try again and again.
    assert server.store(PatientID="no") is False
