"""
Whom the server on this host is connected to, and whether they answer.

https://orthanc.uclouvain.be/book/users/rest.html
"""

from __future__ import annotations

import json
import os

from salt.exceptions import SaltInvocationError

# One of the files of which Salt makes the module ``orthanc``.
__virtualname__ = "orthanc"
# What a map shows of each whom the server knows.
SHOWN = ("name", "kind", "address", "answers", "why")


def __virtual__():
    return __virtualname__


def echo(name, timeout=5, config=None):
    """
    Let Orthanc ask another one whether it is there: a DICOM device by C-ECHO, as ``echoscu`` does,
    but with the titles of the configuration; a peer for its version; a DICOMweb server for a study,
    of which nothing is shown.

    name
        The name of the modality, the peer or the DICOMweb server, as the pillar has it.

    timeout
        For how many seconds to wait for it, a whole number up to 60.

    config
        See ``orthanc.system``.

    Returns a mapping: the ``name``, ``kind`` and ``address`` of what was asked, whether it
    ``answers``, after how many ``seconds``, and ``why`` not. The exit code of salt-call is 1 if it
    does not.

    Raises SaltInvocationError if Orthanc knows no such name, and CommandExecutionError if it gives
    no answer itself.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.echo ct
    """
    __salt__["orthanc_host.require_number"]("timeout", timeout, 60)
    config = __salt__["orthanc_folder.chosen"](config)
    known = __salt__["orthanc_reach.targets"](config)
    asked = [target for target in known if target["name"] == str(name)][:1]
    if not asked:
        names = ", ".join(sorted({target["name"] for target in known})[:50])
        raise SaltInvocationError(
            f"Orthanc knows no modality, peer or DICOMweb server of the name {name}; it knows"
            f" {names or 'none'}"
        )
    (found,) = __salt__["orthanc_reach.ask_all"](config, asked, timeout)
    if not found["answers"]:
        __context__["retcode"] = 1
    return found


def check_network(timeout=3, config=None):
    """
    Let Orthanc ask all whom it knows whether they are there, side by side: each modality, peer and
    DICOMweb server, as ``orthanc.echo`` does.

    timeout
        For how many seconds to wait for each, a whole number up to 60.

    config
        See ``orthanc.system``.

    Returns a mapping: the ``verdict``, which is ok, warning where some do not answer, or critical
    where none does; the ``reasons``, a list of sentences; and all that were ``asked``, a list of
    what ``orthanc.echo`` returns. The exit code, where Salt passes it on
    (``--retcode-passthrough``), is 0, 1 or 2.

    Raises CommandExecutionError if Orthanc gives no answer itself.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.check_network
    """
    __salt__["orthanc_host.require_number"]("timeout", timeout, 60)
    config = __salt__["orthanc_folder.chosen"](config)
    known = __salt__["orthanc_reach.targets"](config)
    asked = __salt__["orthanc_reach.ask_all"](config, known, timeout)
    reasons = [f"{row['kind']} {row['name']}: {row['why']}" for row in asked if not row["answers"]]
    level = "ok" if not reasons else "critical" if len(reasons) == len(asked) else "warning"
    __context__["retcode"] = __salt__["orthanc_verdict.code"](level)
    return {"verdict": level, "reasons": reasons, "asked": asked}


def map(form="table", file=None, ask=True, timeout=3, config=None, sites=None):
    """
    Show whom the server knows, who may do what here, where images are sent on to, and who does not
    answer; or the same of many sites.

    form
        "table" for lines of text; "dot" for a picture in the language of Graphviz, in which what
        does not answer is red; or "data" for what these are made of.

    file
        The path of a file to write the text to, in the place of one that is there; by default it is
        returned.

    ask
        False asks nobody whether they answer.

    timeout, config
        See ``orthanc.check_network``.

    sites
        The path of a file with what many sites have returned as data, in JSON by the IDs of their
        minions; nobody is asked then, and ``data`` is no form.

    Returns the text, the data, or the path of the file.

    Raises SaltInvocationError for another form, a path that is not absolute, or a file that holds
    something else, and CommandExecutionError if Orthanc itself gives no answer, or if writing
    failed.

    CLI Example:

    .. code-block:: bash

        salt-call orthanc.map
        salt-call orthanc.map dot /tmp/network.dot
        salt '*' --static --out=json orthanc.map data > /tmp/network.json
        salt-call orthanc.map dot /tmp/network.dot sites=/tmp/network.json
    """
    forms = ("table", "dot") if sites else ("table", "dot", "data")
    if form not in forms:
        raise SaltInvocationError(f"form must be {', '.join(forms[:-1])} or {forms[-1]}")
    if file and not os.path.isabs(str(file)):
        raise SaltInvocationError("file must be the absolute path of a file")
    __salt__["orthanc_host.require_flags"]({"ask": ask})
    __salt__["orthanc_host.require_number"]("timeout", timeout, 60)
    told = _sites(sites) if sites else {"here": _network(ask, timeout, config)}
    if form == "data":
        text = told["here"]
    else:
        draw = "orthanc_drawing.dot" if form == "dot" else "orthanc_drawing.table"
        text = __salt__[draw](told)
    if not file:
        return text
    with __salt__["orthanc_files.failing"](f"writing {file}"):
        text = json.dumps(text, indent=2) + "\n" if form == "data" else text
        __salt__["orthanc_files.write"](file, text, 0o644)
    return file


def _network(ask: bool, timeout: int, config) -> dict:
    """Return how the server is called, and a row for each whom it knows."""
    config = __salt__["orthanc_folder.chosen"](config)
    options = __salt__["orthanc_folder.effective"](config)
    known = __salt__["orthanc_reach.targets"](config)
    asked = __salt__["orthanc_reach.ask_all"](config, known, timeout) if ask else known
    noted = __salt__["orthanc_network_note.read"](config)["DicomModalities"]
    routes, rows = __salt__["orthanc_routes.known"](), []
    for target, row in zip(known, asked):
        shown = {key: row[key] for key in SHOWN if key in row}
        shown["routes"] = [
            name for name, to in routes.items() if to == (target["kind"], target["name"])
        ]
        shown["may"] = []
        if target["kind"] == "modality":
            shown["may"] = __salt__["orthanc_drawing.may"](target["known"])
            is_site = noted.get(row["name"], {}).get("of") == "card"
            shown["kind"] = "site" if is_site else "modality"
        rows.append(shown)
    return {"name": options.get("Name") or options.get("DicomAet", "ORTHANC"), "rows": rows}


def _sites(path: str) -> dict:
    """Return what a file tells of many sites."""
    try:
        found = json.loads(__salt__["orthanc_files.read_if_there"](path) or "")
    except (OSError, ValueError) as err:
        raise SaltInvocationError(f"sites: {path} holds no JSON: {err}") from None
    if not isinstance(found, dict) or not found:
        raise SaltInvocationError(
            f"sites: {path} must hold a mapping from minions to what `salt '*' --static --out=json"
            " orthanc.map data` prints"
        )
    named, drawn = __salt__["orthanc_cards.name"], __salt__["orthanc_drawing.site"]
    # As the others know them.
    return {named(one): drawn(one, told) for one, told in found.items()}


def card(config=None):
    """
    Return what this site tells the others of its group (``orthanc:network``) of itself, without any
    secret: its ``group`` and ``role``; ``aet``, ``host``, ``port`` and ``tls`` if it answers over
    DICOM; and its ``url``, if others reach it over HTTPS.

    config
        See ``orthanc.system``.

    Raises SaltInvocationError if the pillar has it in no group.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.card
    """
    return __salt__["orthanc_mine.card"](config)
