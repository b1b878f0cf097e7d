"""What a backup needs, and a password that is never lost."""

import json

import orthanc_backup_job
import pytest
from salt.exceptions import CommandExecutionError

WANTED = {"repository": "/srv/backup", "environment": {}, "keep": {"daily": 7}, "limit_upload": 0}
WANTED.update(config="/etc/orthanc", user="orthanc", group="orthanc")


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / "backup")


def put(folder, **given):
    """Write what a pillar asks for, and return the words for what was lacking."""
    lacks = orthanc_backup_job.lacks(folder, {**WANTED, **given})
    orthanc_backup_job.put(folder, lacks)
    return {path.rpartition("/")[2]: text for path, text in lacks.items()}


def test_a_password_is_made_once_and_for_root_alone(folder, tmp_path):
    assert set(put(folder)) == {"password", "job.json"}
    made = (tmp_path / "backup/password").read_text()
    assert len(made) > 32
    for path, mode in (("backup", 0o700), ("backup/password", 0o600), ("backup/job.json", 0o600)):
        assert (tmp_path / path).stat().st_mode & 0o777 == mode
    assert put(folder) == {}
    assert set(put(folder, limit_upload=5)) == {"job.json"}
    assert (tmp_path / "backup/password").read_text() == made
    job = orthanc_backup_job.job(folder)
    assert (job["limit_upload"], job["folder"]) == (5, folder)
    assert "password" not in job
    # Given by the pillar, that is the one; the other one may be needed for an older repository.
    assert put(folder, password="Geheim", limit_upload=5) == {"password": "Geheim\n"}
    assert made in [path.read_text() for path in (tmp_path / "backup").glob("password.*")]
    assert put(folder, limit_upload=5) == {}
    assert (tmp_path / "backup/password").read_text() == "Geheim\n"


@pytest.mark.parametrize("how", ["noted", "there"])
def test_no_password_is_made_where_the_old_one_is_needed(folder, tmp_path, how):
    repository = tmp_path / "repository"
    put(folder, repository=str(repository))
    if how == "noted":
        (tmp_path / "backup/repositories").write_text(json.dumps({str(repository): "abc"}))
    else:
        repository.mkdir()
        (repository / "config").touch()
    (tmp_path / "backup/password").unlink()
    with pytest.raises(CommandExecutionError, match=r"backup/password is gone, .* Put your copy"):
        orthanc_backup_job.lacks(folder, {**WANTED, "repository": str(repository)})
    assert set(put(folder, repository=str(tmp_path / "other"))) == {"password", "job.json"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"password": "********"}, "orthanc:backup:password: is stars"),
        ({"password": "secret"}, "orthanc:backup:password: everybody knows"),
        ({"environment": {"X": "vault:a/b"}}, "orthanc:backup:environment:X: is the address"),
    ],
)
def test_what_is_no_secret_is_refused(folder, given, words):
    with pytest.raises(CommandExecutionError, match=words):
        orthanc_backup_job.lacks(folder, {**WANTED, **given})


def test_without_a_backup_that_is_said(folder):
    with pytest.raises(CommandExecutionError, match="set orthanc:backup:repository"):
        orthanc_backup_job.job(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"config": "/etc/orthanc"}'])
def test_one_that_somebody_has_written_to_is_told(folder, tmp_path, text):
    put(folder)
    (tmp_path / "backup/job.json").write_text(text)
    with pytest.raises(CommandExecutionError, match=r"job.json is not as .*; apply the formula"):
        orthanc_backup_job.job(folder)
    assert set(put(folder)) == {"job.json"}


def test_the_folder_is_the_one_of_the_states(read_yaml):
    assert read_yaml("defaults.yaml")["system"]["backup"]["folder"] == orthanc_backup_job.FOLDER
