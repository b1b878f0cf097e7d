"""
Whom the server on this host is connected to, and whether they answer.

https://orthanc.uclouvain.be/book/users/rest.html
"""

from __future__ import annotations

import os

from salt.exceptions import SaltInvocationError

# One of the files of which Salt makes the module ``orthanc``.
__virtualname__ = "orthanc"


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


def map(form="table", file=None, ask=True, timeout=3, config=None):
    """
    Show whom the server knows, who may do what here, and who does not answer.

    form
        "table" for lines of text, or "dot" for a picture in the language of Graphviz, in which what
        does not answer is red.

    file
        The path of a file to write the text to, in the place of one that is there; by default it is
        returned.

    ask
        False asks nobody whether they answer.

    timeout, config
        See ``orthanc.check_network``.

    Returns the text, or the path of the file.

    Raises SaltInvocationError for another form or a path that is not absolute, and
    CommandExecutionError if Orthanc itself gives no answer, or if writing failed.

    CLI Example:

    .. code-block:: bash

        salt-call orthanc.map
        salt-call orthanc.map dot /tmp/network.dot
    """
    if form not in ("table", "dot"):
        raise SaltInvocationError("form must be table or dot")
    if file and not os.path.isabs(str(file)):
        raise SaltInvocationError("file must be the absolute path of a file")
    __salt__["orthanc_host.require_flags"]({"ask": ask})
    __salt__["orthanc_host.require_number"]("timeout", timeout, 60)
    config = __salt__["orthanc_folder.chosen"](config)
    known = __salt__["orthanc_reach.targets"](config)
    asked = __salt__["orthanc_reach.ask_all"](config, known, timeout) if ask else known
    noted = __salt__["orthanc_network_note.read"](config)["DicomModalities"]
    rows = [{**row, "may": []} for row in asked]
    for target, row in zip(known, rows):
        if target["kind"] == "modality":
            row["may"] = __salt__["orthanc_drawing.may"](target["known"])
            is_site = noted.get(row["name"], {}).get("of") == "card"
            row["kind"] = "site" if is_site else "modality"
    if form == "dot":
        options = __salt__["orthanc_folder.effective"](config)
        name = options.get("Name") or options.get("DicomAet", "ORTHANC")
        text = __salt__["orthanc_drawing.dot"](name, rows)
    else:
        text = __salt__["orthanc_drawing.table"](rows)
    if not file:
        return text
    with __salt__["orthanc_files.failing"](f"writing {file}"):
        __salt__["orthanc_files.write"](file, text, 0o644)
    return file


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
