"""Viewers: what comes along with them, and which of them a system does not have."""

import itertools

import orthanc_tables
import pytest

HASH = "0" * 64
PACKAGES = {
    "web_viewer": "orthanc-webviewer",
    "whole_slides": "orthanc-wsi",
    "ohif": "orthanc-ohif",
}
STONE = {"source": "https://plugins.example.org/libStoneWebViewer.so", "source_hash": HASH}


@pytest.fixture
def packaged(load_settings):
    return load_settings({})[0]["system"]["viewers"]


def test_packages_of_viewers_bring_their_plugins(packaged, pillar_files):
    kinds = pillar_files["tables"]["KINDS"]
    assert packaged.items() <= PACKAGES.items()
    assert packaged.keys() <= set(kinds["viewer"]["enum"])
    for viewer, package in PACKAGES.items():
        # One that a system is known not to have is not offered there.
        lacking = orthanc_tables.NOT_PACKAGED["Debian"]
        assert (package in lacking) == (viewer not in ("web_viewer", "whole_slides"))
        assert orthanc_tables.PLUGINS[package]


@pytest.mark.parametrize(
    "viewers",
    [list(some) for n in range(3) for some in itertools.permutations(sorted(PACKAGES), n)],
)
def test_what_comes_along(load_settings, packaged, viewers):
    found, problems = load_settings({"viewers": viewers})
    there = [viewer for viewer in viewers if viewer in packaged]
    lacking = [viewer for viewer in viewers if viewer not in packaged]
    assert [line.partition(": ")[0] for line in problems] == [
        f"orthanc:viewers:{viewers.index(viewer)}" for viewer in lacking
    ]
    dicomweb = ["orthanc-dicomweb"] * ("ohif" in viewers)
    assert found["packages"] == ["orthanc", *(PACKAGES[one] for one in there), *dicomweb]
    assert found["dicomweb"]["enabled"] is ("ohif" in viewers)


@pytest.mark.parametrize(
    ("viewer", "file"),
    [("stone", "libStoneWebViewer.so"), ("explorer_2", "libOrthancExplorer2.so")],
)
def test_one_that_is_downloaded(load_settings, viewer, file):
    (problem,) = load_settings({"viewers": [viewer]})[1]
    assert f"{file}, to orthanc:plugins, with source and source_hash" in problem
    plugin = {"source": f"https://plugins.example.org/{file}", "source_hash": HASH}
    named = {"source": "salt://x/1.so", "name": file.lower(), "source_hash": HASH}
    for one in (plugin, named):
        found, problems = load_settings({"viewers": [viewer], "plugins": [one]})
        assert problems == []
        assert found["dicomweb"]["enabled"] is (viewer == "stone")
    named["name"] = "libOther.so"
    assert load_settings({"viewers": [viewer], "plugins": [named]})[1] == [problem]


def test_who_switches_dicomweb_off_is_told_what_needs_it(load_settings):
    asked = {"viewers": ["stone"], "plugins": [STONE], "dicomweb": {"enabled": False}}
    (problem,) = load_settings(asked)[1]
    assert problem.startswith(
        "orthanc:dicomweb:enabled: must be true for orthanc:viewers:0 (stone)"
    )
    on = {"enabled": True, "root": "/pacs/"}
    found, problems = load_settings({**asked, "dicomweb": on})
    assert problems == []
    assert found["dicomweb"]["root"] == "/pacs/"


@pytest.mark.parametrize(
    ("viewers", "words"),
    [
        (["osirix"], "orthanc:viewers:0: must be web_viewer, whole_slides, ohif"),
        ("stone", "orthanc:viewers: must be a list"),
        ([["stone"]], "orthanc:viewers:0: must be web_viewer"),
        ([None], "orthanc:viewers:0: is written, with nothing behind it"),
    ],
)
def test_what_is_no_viewer(load_settings, viewers, words):
    (problem,) = load_settings({"viewers": viewers})[1]
    assert words in problem
