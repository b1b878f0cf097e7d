"""What people are told of an option."""

import orthanc_manual
import orthanc_tables as tables
import pytest

SAMPLE = """\
{
  /**
   * Storage
   **/

  // The logical name of this instance, i.e. The name that people
  // see. It is displayed in the Explorer (new in Orthanc 1.2.3).
  "Name" : "MyOrthanc",

  // Maximum size of the storage in MB (a value of "0" indicates no
  // limit) (new in Orthanc 1.0.1)
  "MaximumStorageSize" : 0,

  // Where large files are put (cf. "Name"). The folder must exist.
  // "TemporaryDirectory" : "/tmp/Orthanc/",

  // Syntaxes
  "UnknownSopClassAccepted" : false,

  // Groups of transfer syntaxes.
  "JpegTransferSyntaxAccepted" : true,
  "MpegTransferSyntaxAccepted" : true,

  "OfTheSampleOnly" : [ 1,
    // Nothing of an option
    "x" ],

  // The other servers
  "OrthancPeers" : {
    // "name" : [ "http://localhost", "u", "p" ]
  }
}
"""
HERE = {
    "version": "1.12.7",
    "sample": {
        **{"Name": "MyOrthanc", "MaximumStorageSize": 0, "TemporaryDirectory": None},
        **{"OrthancPeers": {}, "OfTheSampleOnly": [1]},
    },
    "texts": [SAMPLE],
}
PLAIN = {"HttpPort": "port", "DicomAet": "dicom:aet"}


def look_up(pattern, **here):
    return orthanc_manual.look_up(pattern, {**HERE, **here}, PLAIN)


@pytest.mark.parametrize(
    ("option", "what"),
    [
        ("Name", "The logical name of this instance, i.e. The name that people see."),
        (
            "MaximumStorageSize",
            'Maximum size of the storage in MB (a value of "0" indicates no limit).',
        ),
        ("TemporaryDirectory", 'Where large files are put (cf. "Name").'),
        ("JpegTransferSyntaxAccepted", "Groups of transfer syntaxes."),
        ("OrthancPeers", "The other servers."),
        ("OfTheSampleOnly", None),
        ("StableAge", None),
        # A heading.
        ("UnknownSopClassAccepted", None),
        ("DicomWeb", "read by the plugin of orthanc-dicomweb."),
        ("DicomWeb:Root", "read by the plugin of orthanc-dicomweb."),
    ],
)
def test_what_an_option_does_is_one_sentence_of_the_installed_orthanc(option, what):
    assert look_up(option)[option].get("what") == what


def test_all_that_is_known_of_an_option():
    assert look_up("MaximumStorageSize") == {
        "MaximumStorageSize": {
            "type": "a whole number from 0 to 2147483647",
            "default": 0,
            "since": "1.0.1",
            "what": 'Maximum size of the storage in MB (a value of "0" indicates no limit).',
            "pillar": "orthanc:config:MaximumStorageSize",
        }
    }
    assert look_up("WebDavEnabled")["WebDavEnabled"]["advice"].startswith("not true: ")
    assert look_up("MaximumStorageMode")["MaximumStorageMode"]["default"] == "Recycle"
    assert "default" not in look_up("TemporaryDirectory")["TemporaryDirectory"]
    since = look_up("PostgreSQL:Schema")["PostgreSQL:Schema"]["since"]
    assert since == "10.0 (orthanc-postgresql)"


@pytest.mark.parametrize(
    ("option", "key"),
    [
        ("HttpPort", "orthanc:port"),
        ("DicomAet", "orthanc:dicom:aet"),
        ("RegisteredUsers", "orthanc:users"),
        ("StableAge", "orthanc:config:StableAge"),
        ("DicomAlwaysAllowFindWorklist", "orthanc:dicom:unknown"),
        ("DicomWeb", "orthanc:dicomweb"),
        ("DicomWeb:Root", "orthanc:config:DicomWeb:Root"),
        ("Worklists", "orthanc:worklists"),
        ("PostgreSQL", "orthanc:postgresql"),
        ("PostgreSQL:Lock", "orthanc:config:PostgreSQL:Lock"),
    ],
)
def test_the_key_of_the_pillar_is_told_where_it_is_known(option, key):
    assert look_up(option)[option]["pillar"] == key
    assert "pillar" not in orthanc_manual.look_up(option, HERE)[option]


@pytest.mark.parametrize(
    ("pattern", "found", "not_found"),
    [
        ("storagesize", ["MaximumStorageSize"], ["Name"]),
        ("LOGICAL NAME", ["Name"], ["MaximumStorageSize"]),
        ("dicomweb:*", ["DicomWeb:Root", "DicomWeb:Servers"], ["DicomWeb", "DicomAet"]),
        ("DicomAe?", ["DicomAet"], ["DicomPort"]),
        ("*", [*tables.SECTIONS, "HttpPort", "OfTheSampleOnly"], ["MaximumStorage"]),
        ("no such thing", [], ["Name"]),
        ("[", [], ["Name"]),
    ],
)
def test_a_pattern(pattern, found, not_found):
    names = set(look_up(pattern))
    assert {*found} <= names
    assert not {*not_found} & names
    assert bool(names) is bool(found)


def test_an_option_of_another_version_is_not_known_but_said():
    assert "MaximumStorageMode" in look_up("MaximumStorageMode", version="1.11.2")
    assert not look_up("MaximumStorageMode", version="1.10.1")
    assert not look_up("LimitJobs", version="1.10.1")
    assert "LimitJobs" in look_up("LimitJobs", version="1.10.0")
    # Where the sample has it, the tables are wrong.
    assert look_up("LimitJobs", sample={"LimitJobs": 10})["LimitJobs"]["default"] == 10
    meant = orthanc_manual.meant
    assert meant("maximumstoragemode") == "MaximumStorageMode is there from 1.11.2 on"
    assert meant("LimitJobs") == "LimitJobs was there until 1.10.0"
    assert meant("HttpPrt") == "the nearest known one is HttpPort"
    assert meant("?") == "nothing is like it"


def test_without_orthanc_the_tables_tell():
    found = orthanc_manual.look_up("*", {}, PLAIN)
    assert {*tables.OPTIONS, *tables.SECTIONS, *tables.PLUGIN_OPTIONS} <= set(found)
    assert all(entry["type"] and entry["pillar"] for entry in found.values())


def test_the_plain_options_are_read_without_the_other_files(read_file):
    assert read_file("orthanc/options.py")["PLAIN"]["HttpPort"][0] == "port"
