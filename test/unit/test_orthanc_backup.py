"""What a backup makes of what it finds."""

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
