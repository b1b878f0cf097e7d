"""What a backup makes of what it finds."""

import json

import orthanc_backup
import pytest
from salt.exceptions import CommandExecutionError

JOB = {"config": "/etc/orthanc"}


@pytest.mark.parametrize(
    ("found", "before", "later", "words"),
    [
        ({"images": 120, "lost": []}, 200, [], None),
        ({"images": 0, "lost": []}, 99, [], None),
        ({"images": 99, "lost": []}, 200, [], "knows 99 images, and knew 200"),
        ({"images": 0, "lost": []}, 200, [], "restore that one"),
        ({"images": 200, "lost": ["5f"]}, 200, [], "files are lost"),
        ({"images": 200, "lost": []}, 200, ["5f0c1a2b"], "of the future"),
    ],
)
def test_older_ones_stay_where_something_is_strange(found, before, later, words):
    said = orthanc_backup._doubt(found, before, later)
    assert words in said if words else said is None


@pytest.mark.parametrize(
    ("images", "place", "is_refused"),
    [(0, "/: b", True), (4, "/: b", True), (5, "/: b", False), (0, "/srv: a", False)],
)
def test_most_images_are_not_gone_together_with_their_disk(images, place, is_refused):
    """As where it is not mounted, and Orthanc has begun an empty index there."""
    good = {"images": 10, "place": "/srv: a"}
    if is_refused:
        with pytest.raises(CommandExecutionError, match="deleted on purpose: rm"):
            orthanc_backup._refuse_another_disk(JOB, good, images, place)
    else:
        orthanc_backup._refuse_another_disk(JOB, good, images, place)
    # As an earlier version of the formula has noted it.
    orthanc_backup._refuse_another_disk(JOB, {"images": 10}, images, place)
    orthanc_backup._refuse_another_disk(JOB, {}, images, place)


class Index:
    """What the server knows after the backup."""

    def __init__(self, known):
        self.known = known

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def files(self):
        return self.known


@pytest.mark.parametrize(
    ("content", "left", "lost", "deleted"),
    [
        (b"four", True, [], []),
        (b"", True, ["abcd"], []),
        (b"cut", True, ["abcd"], []),
        (None, True, ["abcd"], []),
        (None, False, [], ["abcd"]),
    ],
)
def test_a_file_that_is_not_what_the_index_knows_is_lost(
    tmp_path, monkeypatch, content, left, lost, deleted
):
    folder = tmp_path / "ab" / "cd"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "abcd").write_bytes(content)
    for number in range(2):
        (folder / f"abcd{number}").write_bytes(b"four")
    known = {name: (4, "", "an image") for name in ("abcd", "abcd0", "abcd1")}
    index = Index(known if left else {})
    monkeypatch.setitem(orthanc_backup.__salt__, "orthanc_index.opened", lambda *_: index)
    options, job = {"StorageDirectory": str(tmp_path)}, {"user": "orthanc", "group": "orthanc"}
    found = orthanc_backup._gone(job, options, known)
    assert (found["lost"], found["deleted"]) == (lost, deleted)


@pytest.mark.parametrize(
    ("verified", "drill", "said"),
    [
        ({}, {}, None),
        ({"missing": 0, "empty": 0, "wrong": 0, "orphans": 3}, {"wrong": []}, None),
        ({"missing": 0, "empty": 1, "wrong": 0}, {"wrong": []}, "see orthanc.verify"),
        ({}, {"error": "of the files", "wrong": ["abcd"]}, "call orthanc.drill again"),
        ({}, {"error": "there is no room"}, None),
    ],
)
def test_older_backups_stay_where_their_files_may_be_the_only_sound_ones(
    tmp_path, verified, drill, said
):
    config = str(tmp_path / "orthanc")
    (tmp_path / "orthanc.verified").write_text(json.dumps(verified))
    (tmp_path / "orthanc.backup").write_text(json.dumps({"drill": drill}))
    found = orthanc_backup._known_damage(config)
    assert said in found if said else found is None
