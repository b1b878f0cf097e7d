"""The variables of the Ansible role become a pillar."""

import orthanc_ask_import
import orthanc_pillar_file
import orthanc_role
import pytest
import salt.utils.yaml
from role_parameters import ROWS
from salt.exceptions import SaltInvocationError


@pytest.fixture
def pillar(tmp_path):
    """A function from the text of a file to settings and comments."""

    def pillar(text):
        path = tmp_path / "all.yml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        found = orthanc_role.pillar(str(path))
        written = orthanc_pillar_file.text(found["settings"], found["remarks"])
        loader = salt.utils.yaml.SaltYamlSafeLoader
        assert salt.utils.yaml.load(written, Loader=loader) == {"orthanc": found["settings"]}
        comments = [line[2:] for line in written.splitlines() if line.startswith("#")]
        return found["settings"], " ".join(" ".join(comments).split())

    return pillar


def test_each_parameter_is_known():
    names = {name for row in ROWS for name in row.role.split()}
    assert {**orthanc_role.KEYS, **orthanc_role.NO_KEY}.keys() == names
    keys = {key for row in ROWS for key in row.pillar.split()} - {"postgresql:port"}
    assert {*orthanc_role.KEYS.values()} == keys


def test_plain_ones(pillar, problems_of):
    settings, _ = pillar("""
        or_overwrite_instances: true
        or_demo_users: yes
        or_enable_dicom: true
        or_limit_find: 50
        or_deidentify_dicom: '2021b'
        or_packages: [orthanc-dicomweb, orthanc]
        or_port: 8050
        or_create_links: true
        or_link_dir: /opt/links
        or_config_link: {src: /etc/orthanc, dest: /opt/links/etc}
        or_package_version_pinning: true
        or_package_version: 1.12.7+dfsg-4
        or_config_path: /etc/orthanc/orthanc.json
        or_config_dir: /etc/orthanc
        or_storage_path: /srv/images
        or_ssh_key: true
        or_ssh_key_remote_user: keeper
    """)
    assert problems_of(settings) == []
    assert settings == {
        "overwrite_instances": True,
        "demo_users": True,
        "dicom": {"enabled": True},
        "limit_find": 50,
        "deidentify_logs": "2021b",
        "packages": ["orthanc", "orthanc-dicomweb"],
        "port": 8050,
        "links": {
            "enabled": True,
            "dir": "/opt/links",
            "config": {"target": "/etc/orthanc", "name": "/opt/links/etc"},
        },
        "version": "1.12.7+dfsg-4",
        "paths": {"config": "/etc/orthanc", "storage": "/srv/images"},
        "backup_key": {"enabled": True, "remote_user": "keeper"},
    }


def test_a_version_that_is_not_pinned(pillar):
    settings, _ = pillar("or_package_version_pinning: false\nor_package_version: '1.12'")
    assert settings == {}


@pytest.mark.parametrize(
    ("text", "database", "words"),
    [
        ("or_psql_db_name: pacs", {"enabled": True, "database": "pacs"}, ""),
        (
            "or_psql_db_name: pacs\nor_psql_db_user: gnu\nor_psql_pw: word\nor_verify_psql: true",
            {"enabled": True, "database": "pacs"},
            "or_psql_db_user, or_psql_pw, or_verify_psql: left out",
        ),
        (
            "or_psql_domain: db.example.org\nor_psql_db_user: gnu\nor_psql_pw: 'a@b c'\n"
            "or_copy_ownca: true\nor_ownca_path: /root/ca/own.pem\n"
            "or_psql_uri: '{{ or_psql_uri_remote }}'",
            {
                "enabled": True,
                "host": "db.example.org",
                "user": "gnu",
                "password": "a@b c",
                "ca_source": "salt://own.pem",
            },
            "put it where salt://own.pem is",
        ),
        (
            "or_psql_uri: postgresql://gnu:x@db/pacs\nor_psql_pw: x\nor_psql_db_name: pacs",
            {"enabled": True, "uri": "postgresql://gnu:x@db/pacs"},
            "or_psql_uri says it",
        ),
    ],
)
def test_a_database(pillar, problems_of, text, database, words):
    settings, comments = pillar(f"or_use_postgresql: true\n{text}\n")
    assert settings == {"postgresql": database}
    assert words in comments
    assert problems_of(settings) == []


def test_secrets_of_ansible_are_named(pillar):
    settings, comments = pillar(
        "or_psql_domain: db\nor_psql_pw: '{{ vault_pw }}'\nor_port: !vault |\n"
        "  $ANSIBLE_VAULT;1.1;AES256\n  3132\n"
    )
    assert settings["postgresql"]["password"] == "<secret of or_psql_pw>"
    assert settings["port"] == "<secret of or_port>"
    assert "or_psql_pw: its value is not in this file" in comments
    assert "vault" not in comments


def test_a_secret_is_shown_only_when_asked_for(pillar):
    settings, _ = pillar("or_psql_domain: db\nor_psql_pw: own-word")
    shown = orthanc_ask_import._without_secrets(settings)
    assert shown["postgresql"]["password"] == "<secret of orthanc:postgresql:password>"
    assert settings["postgresql"]["password"] == "own-word"


def test_secrets_do_not_go_to_a_master(tmp_path, monkeypatch):
    monkeypatch.setattr(orthanc_ask_import, "__opts__", {"file_client": "remote"})
    path, file = tmp_path / "all.yml", tmp_path / "orthanc.sls"
    path.write_text("or_psql_domain: db\nor_psql_pw: own-word\n")
    with pytest.raises(SaltInvocationError, match="job cache"):
        orthanc_ask_import.from_role(str(path), secrets=True)
    assert "own-word" not in orthanc_ask_import.from_role(str(path))
    assert orthanc_ask_import.from_role(str(path), secrets=True, file=str(file)) == str(file)
    assert "own-word" in file.read_text()
    for wrong in ("orthanc.sls", str(file)):
        with pytest.raises(SaltInvocationError, match="not there yet"):
            orthanc_ask_import.from_role(str(path), file=wrong)


def test_what_somebody_has_to_look_at(pillar):
    settings, comments = pillar("""
        or_allow_remote_access: true
        or_download_plugins: [https://example.org/libX.so, {url: https://example.org/libY.so}]
        or_packages: {Debian: [orthanc]}
        or_port: [8042]
        or_prot: 1
        or_default_packages: {}
        other: {a: b}
    """)
    sources = [{"source": f"https://example.org/lib{name}.so"} for name in "XY"]
    assert settings == {"remote_access": True, "plugins": sources}
    for words in (
        "a user of your own",
        "source_hash",
        "or_packages: is no list",
        "or_prot: the role",
    ):
        assert words in comments
    assert "or_port: is no single value" in comments
    assert "other" not in comments


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no variables"),
        ("- a", "holds no variables"),
        ("a: 1", "sets no parameter"),
        ("or_port: [", "line 1"),
        ("or_port: 'S3cr3t\n", "this is no YAML"),
        (b"or_port: \xff", "cannot be read"),
        ("or_port: " + "[" * 5000, "nested too deeply"),
    ],
)
def test_what_is_no_file_of_variables(pillar, text, words):
    with pytest.raises(SaltInvocationError) as raised:
        pillar(text)
    assert words in str(raised.value)
    assert "S3cr3t" not in str(raised.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SaltInvocationError, match="cannot be read"):
        orthanc_role.pillar(str(tmp_path / "none"))
