"""The files and folders that options name, looked at as an account of this machine."""

import os

import pytest

NOBODY = {"user": "nobody", "group": "nogroup"}


@pytest.fixture
def judge(loaders, tmp_path):
    """A function from options to the sentences about them, by their paths."""
    for folder in (tmp_path, *list(tmp_path.parents)[:-2]):
        folder.chmod(0o755)  # pytest closes them

    def judge(options, **arguments):
        arguments = {"who": NOBODY, **arguments}
        judged = loaders.modules.orthanc_paths.judge(options, str(tmp_path), **arguments)
        return {
            kind: {":".join(path): sentence for path, sentence in found}
            for kind, found in judged.items()
        }

    return judge


def make(path, mode, text=None):
    """Make a file with a text, or a folder without one."""
    if text is None:
        path.mkdir(parents=True)
    else:
        path.write_text(text)
    path.chmod(mode)


def test_what_is_wrong_is_named_with_the_remedy(judge, tmp_path):
    make(tmp_path / "open.lua", 0o644, "")
    make(tmp_path / "closed.lua", 0o600, "")
    make(tmp_path / "shut", 0o700)
    make(tmp_path / "shut/inside", 0o755)
    make(tmp_path / "scripts", 0o711)
    make(tmp_path / "scripts/x.py", 0o644, "")
    make(tmp_path / "open", 0o777)
    make(tmp_path / "mine", 0o755)
    make(tmp_path / "text.so", 0o644, "no library")
    here = str(tmp_path)
    found = judge(
        {
            "LuaScripts": ["open.lua", "closed.lua", "none.lua", "open"],
            "TemporaryDirectory": f"{here}/mine",
            "Worklists": {"Enable": True, "Database": f"{here}/none"},
            "ServeFolders": {"/a": f"{here}/shut/inside", "/b": f"{here}/open"},
            "PythonScript": f"{here}/scripts/x.py",
            "ExternalDictionaries": ["open.lua"],
            "OrthancPeers": {"p": {"Url": "https://x", "CertificateFile": f"{here}/closed.lua"}},
            "StorageDirectory": f"{here}/open/new/below",
            "IndexDirectory": f"{here}/mine/new",
            "WebViewer": {"CachePath": f"{here}/open.lua"},
            "DelayedDeletion": {"Path": f"{here}/open/new.db"},
            "Indexer": {"Enable": True, "Database": f"{here}/mine/new.db", "Folders": []},
            "Plugins": ["/usr/share/none", f"{here}/none.so", f"{here}/text.so", "/bin/sh"],
            "HttpsCACertificates": f"{here}/mine",
            "Locale": "xx_XX.UTF-8",
        }
    )
    assert found["warnings"] == {}
    expected = {
        "LuaScripts:1": f"{here}/closed.lua cannot be read by the user nobody; let its group do so:"
        f" chgrp nogroup {here}/closed.lua; chmod g+r {here}/closed.lua",
        "LuaScripts:2": f"{here}/none.lua is no file of this host",
        "LuaScripts:3": f"{here}/open is no file",
        "TemporaryDirectory": f"chown nobody {here}/mine",
        "Worklists:Database": f"install -d {here}/none",
        "ServeFolders:/a": f"who may not enter {here}/shut; move it to another place",
        "PythonScript": f"{here}/scripts cannot be read",
        "ExternalDictionaries:0": f"write {here}/open.lua",
        "OrthancPeers:p:CertificateFile": "cannot be read by the user nobody",
        "IndexDirectory": f"install -d -o nobody -m 0750 {here}/mine/new",
        "WebViewer:CachePath": f"{here}/open.lua is no folder",
        "Indexer:Database": f"{here}/mine cannot be written to",
        "Plugins:1": f"{here}/none.so is no file of this host",
        "Plugins:2": "no shared library",
        "HttpsCACertificates": f"{here}/mine is no file",
        "Locale": "no locale xx_XX.UTF-8",
    }
    assert found["problems"].keys() == expected.keys()
    for path, words in expected.items():
        assert words in found["problems"][path]


def test_what_is_known_is_warned_about_unless_orthanc_dies_of_it(judge, tmp_path):
    make(tmp_path / "mine", 0o755)
    later = {"TemporaryDirectory": str(tmp_path / "mine")}
    known = {**later, "LuaScripts": ["none.lua"], "Name": "x"}
    found = judge({**known, "Name": "y"}, known=[known])
    assert set(found["warnings"]) == {"TemporaryDirectory", "LuaScripts:0"}
    assert set(found["problems"]) == {"LuaScripts:0"}
    assert set(judge(later, known=[{"TemporaryDirectory": "/x"}])["problems"]) == set(later)


def test_what_will_come_is_not_missed(judge, tmp_path):
    options = {"LuaScripts": ["none.lua"], "StorageDirectory": f"{tmp_path}/storage"}
    coming = [f"{tmp_path}/none.lua", f"{tmp_path}/storage"]
    assert judge(options, coming=coming) == {"problems": {}, "warnings": {}}


@pytest.mark.parametrize("who", [None, {"user": "nobody-of-this-host", "group": "x"}])
def test_without_an_account_only_what_is_there_counts(judge, tmp_path, who):
    make(tmp_path / "closed.lua", 0o600, "")
    found = judge({"LuaScripts": ["closed.lua", "none.lua"]}, who=who)
    assert set(found["problems"]) == {"LuaScripts:1"}


def test_a_file_or_folder_is_validated_with_what_it_names(loaders, tmp_path):
    os.mkdir(tmp_path / "conf")
    (tmp_path / "conf/a.json").write_text(
        '{"LuaScripts": ["x.lua", "y.lua"], "PythonScript": "p.py"}'
    )
    (tmp_path / "conf/x.lua").write_text("")
    (tmp_path / "conf/p.py").write_text("")
    for path in (tmp_path / "conf", tmp_path / "conf/a.json"):
        problems = "\n".join(loaders.modules.orthanc_conf.validate(str(path))["problems"])
        assert f"a.json: LuaScripts:1: {tmp_path}/conf/y.lua is no file of this host" in problems
        assert "PythonScript: p.py is looked for in the folder that" in problems
        assert f"write {tmp_path}/conf/p.py" in problems
        assert "x.lua is" not in problems
