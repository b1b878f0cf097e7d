"""
Viewers and web interfaces: what the pillar may ask for, in the language of ``orthanc_shapes``,
kinds for ``pillar.py``; and what they need, for ``map.py``.

Each is a plugin. Of which package that is says the map file of the OS family.
"""

from __future__ import annotations

# By the words of the pillar: the name of the plugin's file, which is also that of upstream's
# builds, and whether it asks the server over DICOMweb.
VIEWERS = {
    "web_viewer": ("OrthancWebViewer", False),
    "whole_slides": ("OrthancWSI", False),
    "ohif": ("OrthancOHIF", True),
    "stone": ("StoneWebViewer", True),
    "explorer_2": ("OrthancExplorer2", False),
}
KINDS = {
    "viewer": {
        "wanted": "web_viewer, whole_slides, ohif, stone or explorer_2",
        "enum": list(VIEWERS),
    },
}


def run() -> dict:
    functions = (check_viewers, derive_viewers)
    return {"KINDS": KINDS, **{function.__name__: function for function in functions}}


def derive_viewers(settings: dict) -> None:
    """Fill in what viewers need: their packages, and DICOMweb unless the pillar says no to it."""
    packaged, asked = settings["system"]["viewers"], settings["viewers"]
    others = [packaged[viewer] for viewer in asked if viewer in packaged]
    settings["packages"] = list(dict.fromkeys([*settings["packages"], *others]))
    if "orthanc:dicomweb:enabled" not in settings["asked"] and any(VIEWERS[v][1] for v in asked):
        settings["dicomweb"]["enabled"] = True


def check_viewers(settings: dict) -> list[str]:
    """Return what viewers lack."""
    names = [plugin.get("name", plugin.get("source", "")).lower() for plugin in settings["plugins"]]
    problems = []
    for number, viewer in enumerate(settings["viewers"]):
        where, (plugin, needs_dicomweb) = f"orthanc:viewers:{number}", VIEWERS[viewer]
        packaged = viewer in settings["system"]["viewers"]
        if not packaged and not any(plugin.lower() in name for name in names):
            problems.append(
                f"{where}: this system has no package of {viewer}; add its file,"
                f" lib{plugin}.so, to orthanc:plugins, with source and source_hash"
            )
        if needs_dicomweb and not settings["dicomweb"]["enabled"]:
            problems.append(
                f"orthanc:dicomweb:enabled: must be true for {where} ({viewer}), or be taken out"
            )
    return problems
