"""Which revision of the schema a plugin makes."""

import orthanc_rehearsal
import pytest


@pytest.mark.parametrize(
    ("plugin", "revision"),
    [
        *[("4.0", 0), ("5.0", 1), ("5.1", 1), ("6.0", 2), ("6.2", 2), ("7.0", 3), ("7.1", 3)],
        *[("7.2", 4), ("8.0", 5), ("9.0", 6), ("10.0", 10), ("10.3", 10), ("11.0", 11)],
    ],
)
def test_the_revision_of_a_plugin(plugin, revision):
    assert orthanc_rehearsal.revision_of(plugin) == revision
