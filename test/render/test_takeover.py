"""The pillar of a server that is there, as Salt's own loader lets the modules make it."""

import json

import pytest
import salt.utils.yaml


@pytest.fixture
def conf(loaders):
    """A function that calls one of ``orthanc_conf``."""
    return lambda name, *words, **given: loaders.modules[f"orthanc_conf.{name}"](*words, **given)


def read(text):
    return salt.utils.yaml.safe_load(text)["orthanc"]


def test_a_folder_and_a_role(conf, tmp_path):
    given = {"HttpPort": 8043, "RegisteredUsers": {"anna": "a word of her own"}}
    (tmp_path / "orthanc.json").write_text(json.dumps(given))
    shown = read(conf("to_pillar", str(tmp_path)))
    assert shown["port"] == 8043
    assert shown["users"]["anna"]["password"] == "<secret of orthanc:users:anna:password>"
    told = read(conf("to_pillar", str(tmp_path), secrets=True))
    assert told["users"]["anna"]["password"] == "a word of her own"

    (tmp_path / "role.yml").write_text("or_enable_dicom: true\n")
    assert read(conf("from_role", str(tmp_path / "role.yml"))) == {"dicom": {"enabled": True}}


def test_a_file_of_its_own(conf, tmp_path):
    (tmp_path / "orthanc.json").write_text('{"HttpPort": 8043}')
    path = tmp_path / "orthanc.sls"
    assert conf("to_pillar", str(tmp_path), file=str(path)) == str(path)
    assert read(path.read_text())["port"] == 8043
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Exception, match="not there yet"):
        conf("to_pillar", str(tmp_path), file=str(path))
    with pytest.raises(Exception, match="does not exist"):
        conf("to_pillar", str(tmp_path / "none"))


def test_the_roles_of_the_formula_come_back(conf, loaders, tmp_path):
    roles = {"rita": "reader", "wim": "writer", "Mona L.": "monitor", "ädmin": "admin"}
    users = {name: {"password": f"a word of {name}", "role": role} for name, role in roles.items()}
    rules = [{"methods": ["GET"], "paths": ["/studies"]}]
    users["own"] = {"password": "a word of her own", "rules": rules}
    render, name = loaders.modules["slsutil.renderer"], "orthanc-formula-users.lua"
    filters = render("salt://orthanc/lua_filter.py", default_renderer="py")
    filters["lua_filter"].__globals__["__salt__"] = loaders.modules
    text = filters["lua_filter"](users, {}, render("salt://orthanc/roles.yaml"))
    options = {
        "RegisteredUsers": {name: user["password"] for name, user in users.items()},
        "RemoteAccessAllowed": True,
        "LuaScripts": [f"/etc/orthanc/{name}"],
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(options))
    (tmp_path / name).write_text(text, encoding="utf-8")
    told = conf("to_pillar", str(tmp_path), secrets=True)
    found = read(told)["users"]
    assert {name: user.get("role") for name, user in found.items()} == {**roles, "own": None}
    assert "orthanc:users:own: needs either role" in told
    assert "do everything" not in told
    assert "backups" in told
    # Where the filter is gone, nobody is made more than was said.
    (tmp_path / name).unlink()
    found = read(conf("to_pillar", str(tmp_path), secrets=True))["users"]
    assert [user.get("role") for user in found.values()] == [None] * 5
