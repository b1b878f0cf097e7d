"""JSON as Orthanc reads and the formula writes it."""

import json

import json_cases
import orthanc_backup_note
import orthanc_files
import orthanc_images
import orthanc_json
import orthanc_move_note
import orthanc_proof
import orthanc_restic
import orthanc_retention_log
import pytest
from hypothesis import given
from hypothesis import strategies as st
from salt.exceptions import CommandExecutionError

NAMES = st.text("abcABC", min_size=1, max_size=3)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)
)


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_what_is_written_is_read_back(options):
    text = orthanc_json.dump(options)
    assert json.loads(text) == options
    assert orthanc_json.parse(text) == options
    assert text.isascii()


# Raw control characters are read up to Orthanc 1.12 only; the engine reads them too.
CASES = [
    (name, text, expected if "levels" in name else json_cases.OLDER.get(name, expected))
    for name, text, expected in json_cases.CASES
]


@pytest.mark.parametrize(("text", "expected"), [pytest.param(*c[1:], id=c[0]) for c in CASES])
def test_parse_reads_as_orthanc_does(text, expected):
    text = text.decode("utf-8", errors="surrogateescape")
    if expected == json_cases.REFUSED:
        with pytest.raises(ValueError):
            orthanc_json.parse(text)
    else:
        assert repr(orthanc_json.parse(text)) == repr(expected)


@given(
    st.text() | st.text('{}[]",:/*\\\n tru0-e.') | st.binary().map(lambda raw: raw.decode("latin"))
)
def test_any_text_is_read_or_refused(text):
    try:
        assert isinstance(orthanc_json.parse(text), dict)
    except ValueError as err:
        assert str(err).startswith("line ")


@pytest.mark.parametrize(
    ("text", "options"),
    [
        # Measured with Orthanc 1.10.1.
        ('{"HttpPort": ${P:-8077}}', {"HttpPort": 8077}),
        ('{"Name": "${N:-\'x y\'}"}', {"Name": "x y"}),
        ('{"Name": "${N:-"x"}"}', {"Name": "x"}),
        ('{"Name": "${N:-a:b}"}', {"Name": "a:b"}),
        ('{"Name": "${N:-a}b}"}', {"Name": "ab}"}),
        ('{"Name": "${a b:-c}"}', {"Name": "c"}),
        ('{"Name": "${N:-}"}', {"Name": ""}),
        ('{"Name": "${N:-${M:-z}}"}', {"Name": "${M:-z}"}),
        ('{"Name": "${N:x}"}', {"Name": "${N:x}"}),
        ('{"Name": "${N:-x:-y}"}', {"Name": "x:-y"}),
        ('{"Name": "${N:-\'x}"}', {"Name": "${N:-'x}"}),
        # What is in the environment is not known here.
        ('{"Name": "a${N}b", "HttpPort": ${P}, "a": [${A}]}', None),
    ],
)
def test_environment_variables(text, options):
    read = orthanc_json.read(text)
    assert read["remarks"] == []
    if options is None:
        options = {"Name": "a${N}b", "HttpPort": "${P}", "a": ["${A}"]}
    assert read["options"] == options


@pytest.mark.parametrize(
    ("text", "remarks"),
    [
        ('{"a": 1,\n "b": 2}\n // end\n', []),
        ('{"a": 1}\0', []),
        (
            '{"a": 1,\n\n"b": {"c": 1, "c": 2}, "a": 3}',
            [
                'line 3: "c" is there a second time, and Orthanc takes the last',
                'line 3: "a" is there a second time, and Orthanc takes the last',
            ],
        ),
        (
            '{"a": 1}\n/* c */ , "b": 2}',
            ["line 2: Orthanc does not read what stands behind the closing brace"],
        ),
    ],
)
def test_what_orthanc_passes_over_is_said(text, remarks):
    assert orthanc_json.read(text)["remarks"] == remarks


LENIENT = (
    *(orthanc_backup_note.read, orthanc_images.noted, orthanc_move_note.read),
    *(orthanc_proof.packages, orthanc_proof._as_read),
)
BROKEN = ["", "{", "[]", "3", "\0", "\udcff\udc80"]


@pytest.mark.parametrize("text", BROKEN)
def test_a_note_that_is_broken_is_told_or_counts_for_none(tmp_path, text):
    assert orthanc_json.noted(text) == {}
    with pytest.raises(CommandExecutionError, match=r"echo '{}' > /a/note"):
        orthanc_json.noted(text, "/a/note")
    # All that are read, by those who read them.
    path = tmp_path / "orthanc"
    for end in (".last-good", ".as-read", ".packages", ".backup", ".index-move", ".verified"):
        (tmp_path / f"orthanc{end}").write_text(text, errors="surrogateescape")
    (tmp_path / "repositories").write_text(text, errors="surrogateescape")
    with pytest.raises(CommandExecutionError, match=r"orthanc\.last-good is not as the formula"):
        orthanc_files.last_good(str(path))
    with pytest.raises(CommandExecutionError, match=r"repositories is not as the formula"):
        orthanc_restic.known(str(tmp_path))
    for read in LENIENT:
        assert read(str(path)) == {}
    log = tmp_path / "log"
    log.write_text(f'{text}\n{{"event": "run"}}\n', errors="surrogateescape")
    assert orthanc_retention_log.read(str(log))["runs"] == 1


def test_a_note_says_what_was_written():
    assert orthanc_json.noted(None, "/a/note") == {}
    assert orthanc_json.noted('{"a": 1}\n', "/a/note") == {"a": 1}
