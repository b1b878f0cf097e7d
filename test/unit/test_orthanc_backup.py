"""What a backup makes of what it finds."""

import orthanc_backup
import pytest


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
