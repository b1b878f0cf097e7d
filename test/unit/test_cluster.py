"""What the pillar may say of several nodes and of the balancer, and what they get."""

import re
import shutil
import subprocess

import orthanc_cluster
import pytest
from salt.exceptions import CommandExecutionError

USERS = {"anna": {"password": "a word of her own", "role": "admin"}}
REMOTE = {"enabled": True, "host": "db.example.org"}
NODES = {"node-1": "192.0.2.11", "node-2": "192.0.2.12"}
CLUSTER = {"postgresql": REMOTE, "cluster": {"nodes": NODES}}
BALANCED = {
    **CLUSTER,
    "users": USERS,
    "remote_access": True,
    "dicom": {"enabled": True, "check_modality_host": False},
    "balancer": {"addresses": ["192.0.2.10"]},
}
PAIR = {"enabled": True, "certificate": "/srv/c.pem", "key": "/srv/k.pem"}
OWN_URI = {"enabled": True, "uri": "postgresql:///orthanc"}
ON_NODE = {"addresses": ["192.0.2.11"]}


@pytest.mark.parametrize(
    "pillar",
    [
        CLUSTER,
        BALANCED,
        {**BALANCED, "https": PAIR, "balancer": {"addresses": ["::1"], "name": "pacs.example.org"}},
        {**BALANCED, "balancer": {**ON_NODE, "port": 443, "dicom_port": 104}},
        {**CLUSTER, "postgresql": {"enabled": True, "uri": "postgresql:///x?host=db"}},
        {**CLUSTER, "cluster": {"nodes": NODES, "chores": "node-2"}},
    ],
)
def test_what_goes_together(load_settings, pillar):
    assert load_settings(pillar)[1] == []


@pytest.mark.parametrize(
    ("pillar", "path", "words"),
    [
        ({"cluster": {"nodes": NODES}}, "cluster:nodes", "SQLite has room for one"),
        ({**CLUSTER, "postgresql": {"enabled": True}}, "cluster:nodes", "would have its own"),
        ({**CLUSTER, "postgresql": OWN_URI}, "cluster:nodes", "would have its own"),
        ({**CLUSTER, "config": {"PostgreSQL": {"Lock": True}}}, "config:PostgreSQL:Lock", "lock"),
        ({**CLUSTER, "cluster": {"nodes": NODES, "chores": "x"}}, "cluster:nodes", "x is none"),
        ({**CLUSTER, "cluster": {"nodes": {"a": "a b"}}}, "cluster:nodes:a", "the name or the IP"),
        ({"cluster": {"chores": "node-1"}}, "cluster:chores", "name them in"),
        ({"balancer": {"addresses": ["192.0.2.10"]}}, "balancer:addresses", "name them in"),
        ({**BALANCED, "balancer": {"addresses": ["db"]}}, "balancer:addresses:0", "an IP address"),
        ({**BALANCED, "remote_access": False}, "remote_access", "must be true"),
        ({**BALANCED, "dicom": {"enabled": True}}, "dicom:check_modality_host", "a firewall"),
        ({**BALANCED, "https": PAIR}, "balancer:name", "the name in the certificate"),
        (
            {**BALANCED, "https": {"enabled": True, "self_signed": True}},
            *("https:self_signed", "from others"),
        ),
        ({**BALANCED, "balancer": {**ON_NODE, "port": 443}}, "balancer:dicom_port", "not to 4242"),
        (
            {**BALANCED, "balancer": {"addresses": ["192.0.2.10"], "out": ["node-3"]}},
            *("cluster:nodes", "node-3 is none"),
        ),
        (
            {**BALANCED, "balancer": {"addresses": ["192.0.2.10"], "out": sorted(NODES)}},
            *("balancer:out", "names all nodes"),
        ),
    ],
)
def test_what_does_not_is_named(load_settings, pillar, path, words):
    (problem,) = load_settings(pillar)[1]
    assert problem.startswith(f"orthanc:{path}: ")
    assert words in problem


@pytest.mark.parametrize("chores", [None, "node-1", "node-2"])
def test_one_node_does_what_is_done_once(load_settings, chores):
    asked = {"nodes": NODES, **({"chores": chores} if chores else {})}
    pillar = {
        **CLUSTER,
        "cluster": asked,
        "backup": {"repository": "/srv/backup", "drill": "weekly"},
        "retention": {"rules": [{"older_than": "10 years", "by": "received"}], "dry_run": False},
        "peers": {"far": {"Url": "http://192.0.2.9/"}},
        "routes": {"all": {"to": "far"}},
    }
    settings, problems = load_settings(pillar)
    assert problems == []
    here = chores != "node-2"
    assert bool(settings["routes"]) is here
    assert bool(settings["retention"]["rules"]) is here
    assert ("repository" in settings["backup"]) is here


@pytest.mark.parametrize(
    ("path", "repeated"),
    [
        ("/instances", True),
        ("/tools/find", True),
        ("/dicom-web/studies", True),
        ("/dicom-web/studies/1.2.3", True),
        ("/instances/1/modify", False),
        ("/tools/create-archive", False),
        ("/dicom-web/studies/1.2.3/series/1/reject/x", False),
        ("/modalities/ct/store", False),
        ("/x/instances", False),
    ],
)
def test_what_may_be_asked_twice(load_settings, load_file, path, repeated):
    cluster, given = load_file("orthanc/cluster.py"), {}
    makers = (lambda _, **values: given.update(values) or "x", *3 * [lambda _: None])
    cluster.balancer(makers, load_settings({**BALANCED, "dicomweb": {"enabled": True}})[0])
    assert bool(re.match(given["repeated"], path)) is repeated


class Node:
    """A node that asks a database of the test, and has a folder of its own."""

    def __init__(self, monkeypatch, folder, database):
        self.denied = ""
        section = {"EnableIndex": True, "Lock": False, "ConnectionUri": "x"}
        self.options = {"PostgreSQL": section, "StorageDirectory": str(folder)}
        self.account = {"user": "orthanc", "group": "orthanc"}
        functions = {
            "orthanc_postgresql.section_of": lambda options: options["PostgreSQL"],
            "orthanc_postgresql.ask": self.ask,
            "orthanc_identity.in_folder": lambda options: True,
            "orthanc_host.as_account": lambda user, group: ["env"],
            "orthanc_host.ask": self.run,
            "orthanc_host.may": lambda words, user, group: words[0] != self.denied,
        }
        self.database, self.use = (
            database,
            lambda: monkeypatch.setattr(orthanc_cluster, "__salt__", functions, raising=False),
        )

    def ask(self, section, statement, user, group, texts=None):
        given = re.search(r"VALUES \(true, '(.*?)'\)", statement)
        if given:
            self.database.setdefault("mark", given[1])
        known = self.database.get("mark")
        return {
            "retcode": 0 if known else 1,
            "stdout": f"{known}\n" * bool(known),
            "stderr": "42P01",
        }

    @staticmethod
    def run(words):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else None

    def judge(self):
        self.use()
        return orthanc_cluster.judge(self.options, self.account)

    def share(self, test=False):
        self.use()
        return orthanc_cluster.share(self.options, self.account, test)


def test_a_folder_is_that_of_the_other_nodes_or_refused(monkeypatch, tmp_path):
    database, shared, other, copy = {}, *(tmp_path / name for name in ("one", "two", "copy"))
    shared.mkdir(), other.mkdir()
    first, second, third, last = (
        Node(monkeypatch, folder, database) for folder in (shared, shared, other, copy)
    )
    assert first.judge() == []
    assert first.share(test=True)
    assert database == {} and not list(shared.iterdir())
    assert first.share()
    assert not first.share()
    assert (shared / orthanc_cluster.MARK).stat().st_mode & 0o777 == 0o600
    assert second.judge() == []
    assert not second.share()
    shutil.copytree(shared, copy)
    for node in (third, last):
        ((path, sentence),) = node.judge()
        assert path == ["StorageDirectory"]
        assert "in another folder than" in sentence
        with pytest.raises(CommandExecutionError, match="in another folder"):
            node.share()
    assert not list(other.iterdir())
    # A run that was killed before the database was told.
    database.clear()
    assert second.share()
    assert first.judge() == []


def test_an_account_with_another_number_is_told_so(monkeypatch, tmp_path):
    node = Node(monkeypatch, tmp_path, {"mark": f"{'0' * 32} 1"})
    node.denied = "-r"
    ((_, sentence),) = node.judge()
    assert "the same one on all nodes" in sentence


def test_who_is_alone_is_not_asked(monkeypatch, tmp_path):
    node = Node(monkeypatch, tmp_path, {"mark": "of others"})
    node.options["PostgreSQL"] = {"EnableIndex": True}
    assert node.judge() == []
    assert node.share() is False
