"""Files and options, read as the real Orthanc reads them."""

import json
import re

import json_cases
import orthanc_conflicts
import orthanc_json
import orthanc_names
import orthanc_options
import orthanc_paths
import orthanc_shapes
import orthanc_tables
import pytest
import testbed
from testbed import Host

# As Salt lets them call each other.
orthanc_names.__salt__ = {"orthanc_shapes.near": orthanc_shapes.near}
orthanc_options.__salt__ = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (orthanc_conflicts, orthanc_names, orthanc_shapes, orthanc_tables)
    for name in dir(module)
    if not name.startswith("_")
}
orthanc_conflicts.__salt__ = {"orthanc_paths.found": orthanc_paths.found}
# Orthanc starts with each folder, shows what it has read through the Python plugin, and ends.
SHOW = """
import json, orthanc, os
with open(os.environ["SHOWN"], "w") as file:
    file.write(orthanc.GetConfiguration())
os._exit(0)
"""
BASE = {
    "StorageDirectory": "/srv/scratch",
    "HttpServerEnabled": False,
    "DicomServerEnabled": False,
    "Plugins": ["/usr/share/orthanc/plugins/libOrthancPython.so"],
    "PythonScript": "/srv/show.py",
}
READ_ALL = """
mkdir -p /srv/scratch
for folder in /srv/cases/*; do
    SHOWN=$folder/shown timeout 20 Orthanc $folder >$folder/log 2>&1 </dev/null || true
done
"""


def test_every_text_is_read_as_orthanc_reads_it(fresh_minion):
    fresh_minion.run("apt-get install -qq orthanc orthanc-python && systemctl stop orthanc")
    fresh_minion.write("/srv/show.py", SHOW)
    for number, (_, text, _) in enumerate(json_cases.CASES):
        folder = fresh_minion.path(f"/srv/cases/{number:03}")
        folder.mkdir(parents=True)
        (folder / "base.json").write_text(json.dumps(BASE))
        (folder / "case.json").write_bytes(text)
    fresh_minion.run(READ_ALL, timeout=600)
    wrong = []
    for number, (name, text, newest) in enumerate(json_cases.CASES):
        expected = json_cases.OLDEST.get(name, json_cases.OLDER.get(name, newest))
        folder = fresh_minion.path(f"/srv/cases/{number:03}")
        read = (folder / "shown").read_text(errors="replace") if (folder / "shown").exists() else ""
        if expected == json_cases.REFUSED:
            right = not read and "started" not in (folder / "log").read_text(errors="replace")
        else:
            options = {key: value for key, value in BASE.items() if key not in expected}
            right = read and as_shown(json.loads(read)) == as_shown({**expected, **options})
        if not right:
            wrong.append((name, text[:80], read[-200:]))
    assert not wrong


def as_shown(value):
    """Return a value as Orthanc shows it, whose texts are always UTF-8."""
    text = json.dumps(value, sort_keys=True)
    return re.sub(r"(\\u(d[89a-f][0-9a-f]{2}|fffd))+", "?", text)


RELEASES = {"bookworm": "1.10.1", "trixie": "1.12.7", "sid": "1.13.0"}


@pytest.fixture(scope="module", params=RELEASES)
def installed(request):
    """A host with the Orthanc of a release of Debian, and its version."""
    with Host(testbed.root(request.param)) as host:
        host.run(
            "DEBIAN_FRONTEND=noninteractive apt-get install -qq orthanc; systemctl stop orthanc"
        )
        version = RELEASES[request.param]
        assert f"Orthanc {version}" in host.run("Orthanc --version").out
        yield host, version


def test_no_option_of_the_samples_is_a_false_alarm(installed):
    """With and without the knowledge of the installed Orthanc, whose sample this is."""
    host, version = installed
    texts = [host.run("Orthanc --config=- 2>/dev/null").out]
    if version == "1.13.0":
        texts.append(host.run("Orthanc --advanced-config=- 2>/dev/null").out)
    for path in host.run("ls /etc/orthanc/*.json").out.split():
        texts.append(host.read(path))
    plugins = host.run("ls /usr/share/orthanc/plugins").out.split()
    for text in texts:
        options = orthanc_json.parse(text)
        sample = dict.fromkeys(options)
        assert options
        for known in ({}, sample):
            assert not orthanc_options.check(options, version, known, plugins)
    # Options that are commented out have an example behind them, on one line.
    examples = 0
    for text in texts:
        for line in re.findall(r'(?m)^  // ("\w+"\s*:.*)$', text):
            try:
                options = orthanc_json.parse("{" + line + "}")
            except ValueError:
                continue
            examples += 1
            assert not orthanc_options.check(options, version, {}, plugins)
    assert examples


@pytest.mark.parametrize("overwrite", [False, True])
def test_options_have_the_form_that_this_orthanc_takes(installed, overwrite):
    host, version = installed
    options = {"StorageDirectory": "/srv/s", "HttpPort": 8099, "DicomServerEnabled": False}
    for given in (overwrite, "Always" if overwrite else "Never"):
        adapted = orthanc_options.adapt({**options, "OverwriteInstances": given}, version)
        assert isinstance(adapted["OverwriteInstances"], str) is (version == "1.13.0")
        host.write("/srv/orthanc.json", orthanc_json.dump(adapted))
        host.run("mkdir -p /srv/s; timeout -s KILL 180 Orthanc /srv/orthanc.json > /srv/log 2>&1 &")
        # Up to 1.12, it dies of a word here.
        host.run("timeout 120 sh -c 'until grep -q \"has started\" /srv/log; do sleep .1; done'")
        host.run("pkill -KILL -x Orthanc")
