"""Which modalities Orthanc would not know by title and address."""

import orthanc_modalities
import pytest

MR = {"AET": "MR1", "Host": "192.0.2.21", "Port": 104}
ASKS_NOTHING = dict.fromkeys(
    (
        *("AllowFind", "AllowFindWorklist", "AllowGet", "AllowMove"),
        "AllowStorageCommitment",
    ),
    False,
)
CLOSED = {"DicomAlwaysAllowEcho": False, "DicomAlwaysAllowStore": False}


def check(modalities, before=None, **options):
    return orthanc_modalities.check(
        {"DicomCheckModalityHost": True, "DicomModalities": modalities, **options}, before
    )


def paths(found):
    return [":".join(path[1:]) for path, _ in found]


@pytest.mark.parametrize(
    "modalities",
    [
        {"mr": MR},
        {"mr": ["MR1", "192.0.2.21", 104]},
        {"mr": MR, "ct": {**MR, "AET": "CT1"}},
        # Orthanc sends to it, and is asked nothing.
        {"pacs": {**MR, "Host": "pacs.example.org", **ASKS_NOTHING}},
        # One device with two addresses.
        {"mr": MR, "mr-2": {**MR, "Host": "192.0.2.22"}, "no": {**MR, **ASKS_NOTHING}},
        # What has another form is refused elsewhere.
        {"mr": "MR1", "ct": [], "us": {"AET": 1, "Host": 2}},
        [],
    ],
)
def test_what_is_known_by_title_and_address(modalities):
    assert check(modalities) == {"problems": [], "warnings": []}


@pytest.mark.parametrize(
    "host",
    [
        *("mr1", "mr1.example.org", "localhost", "192.0.2.021", " 192.0.2.21", "192.0.2.0/24"),
        *("2001:db8::21", "::ffff:192.0.2.21", "192.0.2", ""),
    ],
)
def test_a_host_that_no_connection_comes_from(host):
    for entry in ({**MR, "Host": host}, ["MR1", host, 104]):
        found = check({"mr": entry})
        assert paths(found["problems"]) == ["mr:Host"]
        (((_, sentence),)) = found["problems"]
        assert "AllowFind, AllowFindWorklist, AllowGet, AllowMove, AllowStorageComm" in sentence
        assert "orthanc:dicom:check_modality_host" in sentence
    for options in ({"DicomCheckModalityHost": False}, {"DicomServerEnabled": False}):
        assert check({"mr": {**MR, "Host": host}}, **options)["problems"] == []


@pytest.mark.parametrize(
    ("other", "options", "wrong"),
    [
        ({}, {}, True),
        ({"Host": "192.0.2.22"}, {}, True),
        ({"AET": "mr1"}, {}, True),
        ({"AET": "mr1"}, {"StrictAetComparison": True}, False),
        ({**ASKS_NOTHING, "AllowGet": True}, {}, True),
        (ASKS_NOTHING, {}, False),
        # Then only the first of them may connect at all.
        (ASKS_NOTHING, CLOSED, True),
    ],
)
def test_two_of_one_title(other, options, wrong):
    found = check({"a": MR, "b": {**MR, **other}}, **options)
    assert paths(found["problems"]) == (["a:AET"] if wrong else [])


def test_the_sentence_says_what_everybody_may():
    part = {**ASKS_NOTHING, "AllowGet": True}
    ((_, sentence),) = check({"a": MR, "b": {**MR, **part}})["problems"]
    assert "is the title of b too" in sentence
    assert "(AllowGet)" in sentence
    ((_, sentence),) = check({"a": MR, "b": MR}, **CLOSED)["problems"]
    assert "from the address of a" in sentence


def test_what_is_in_use_and_gets_no_worse_is_a_warning():
    by_name, twice = {"mr": {**MR, "Host": "mr1"}}, {"a": MR, "b": MR}
    used = {"DicomCheckModalityHost": True, "DicomModalities": {**by_name, **twice}}
    found = check({**by_name, **twice}, before=used)
    assert found["problems"] == []
    assert sorted(paths(found["warnings"])) == ["a:AET", "mr:Host"]
    better = {**twice, "b": {**MR, "AllowFind": False}}
    assert paths(check(better, before=used)["warnings"]) == ["a:AET"]
    # Two of one title were known to everybody before, by name alone one works only until now.
    unchecked = {"DicomModalities": {**by_name, **twice}}
    found = check({**by_name, **twice}, before=unchecked)
    assert paths(found["problems"]) == ["mr:Host"]
    assert paths(found["warnings"]) == ["a:AET"]
    worse = {"a": MR, "b": MR}
    used = {"DicomModalities": {"a": MR, "b": {**MR, **ASKS_NOTHING, "AllowGet": True}}}
    assert paths(check(worse, before=used)["problems"]) == ["a:AET"]
