"""
What about plugins contradicts itself or is not wise, as ``checks.py`` finds it of all else; and the
options without which one of them ends Orthanc, for ``options.py``.
"""

from __future__ import annotations

import re

# A package that brings a plugin.
PLUGIN_PACKAGE = re.compile(r"orthanc-(?!.*(doc|devel|dev|source)$).*")
# Of JPEG 2000, what the plugin GDCM is used for where it is; Orthanc itself has all else.
JPEG_2000 = [f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 92, 93)]


def run() -> dict:
    functions = (advice_on_gdcm, check_loaded, gdcm_options)
    return {function.__name__: function for function in functions}


def check_loaded(settings: dict) -> list[str]:
    """Return that the option Plugins leaves out what the packages of the pillar bring."""
    config, folder = settings["config"], settings["paths"]["plugins"]
    brought = [name for name in settings["packages"] if PLUGIN_PACKAGE.fullmatch(name)]
    named = config.get("Plugins") or []
    if "Plugins" not in config or not brought or not isinstance(named, list):
        return []
    if any(f"{item}/".startswith((f"{folder}/", "/usr/")) for item in named):
        return []
    return [
        f"orthanc:config:Plugins: names neither {folder} nor a file in it, and Orthanc would not"
        f" load what {', '.join(brought)} brings; add it, or take Plugins out"
    ]


def advice_on_gdcm(packages: list, config: dict) -> list[str]:
    """Return what is lost without the plugin GDCM, or with it."""
    if "orthanc-gdcm" not in packages:
        return []
    if "Gdcm" not in config:
        return [
            "orthanc:packages: orthanc-gdcm is installed, and switched off: with it, one request"
            " that transcodes can end Orthanc. JPEG 2000 images are stored and sent as they are,"
            " without previews; write orthanc:config:Gdcm:Enable: true to have these, and the"
            " risk, or false to do without (docs/plugins.md, JPEG 2000)"
        ]
    section = config["Gdcm"] if isinstance(config["Gdcm"], dict) else {}
    if section.get("Enable") is False:
        return []
    return [
        "orthanc:config:Gdcm: one request that transcodes to or from what RestrictTransferSyntaxes"
        " names can end Orthanc, with all that it is doing: on Debian 13 each, elsewhere those to"
        " JPEG-LS and some to JPEG 2000 (docs/plugins.md, JPEG 2000); set Enable to false unless"
        " you need previews of JPEG 2000"
    ]


def gdcm_options(settings: dict) -> list[tuple]:
    """
    Return the options with which the plugin GDCM does not end Orthanc: it runs in the threads of
    the HTTP server, whose stacks have 100 kB in the builds of the distributions, and needs more.
    """
    if "orthanc-gdcm" not in settings["packages"]:
        return []
    asked = "Gdcm" in settings["config"]
    row = ("RestrictTransferSyntaxes", JPEG_2000) if asked else ("Enable", False)
    return [("Gdcm", {}, "packages"), (("Gdcm", row[0]), row[1], "packages")]
