"""
What the Orthanc server on this host has logged: its errors, and who asked it what.
"""

from __future__ import annotations

import os

from salt.exceptions import CommandExecutionError

# One of the files of which Salt makes the module ``orthanc``.
__virtualname__ = "orthanc"

# Where Debian's package logs; openSUSE's does into the journal.
PACKAGES_LOG = "/var/log/orthanc"


def __virtual__():
    return __virtualname__


def errors(service=None, log="", count=10, config=None):
    """
    Return the last error lines that Orthanc logged since it was last started, a list of texts;
    without any, an empty one.

    service
        The name of the service; by default the one that the packages bring.

    log
        The path of the folder of the logs; None for the journal. By default the one of the pillar,
        or the one that Debian's package has if it is there.

    count
        How many lines at most.

    config
        The path of the folder of the configuration, whose secrets are hidden; by default the one
        of the pillar.

    Raises SaltInvocationError for a count that is no whole number from 1 on.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.errors
    """
    __salt__["orthanc_host.require_number"]("count", count)
    if log == "":
        log = __salt__["orthanc_pillar.paths"]().get("log") or (
            PACKAGES_LOG if os.path.isdir(PACKAGES_LOG) else None
        )
    name = service or __salt__["orthanc_tables.get"]("SERVER")
    log = log and str(log)
    return __salt__["orthanc_server.errors"](
        name, log, __salt__["orthanc_folder.chosen"](config), count
    )


def log(count=50, account=None, study=None, config=None, all=False):
    """
    Say who asked the server for what over HTTP, where the pillar has ``access_log``.

    count
        How many of the last requests at most.

    account
        Only those of this user.

    study
        Only those whose path names this study, by Orthanc's identifier or by its StudyInstanceUID
        as in the paths of DICOMweb.

    config
        The path of the folder of the configuration; by default the one of the pillar.

    all
        Whether the requests are among them with which the formula itself, such as its monitoring,
        asks how the server is.

    Returns a list of mappings, the last request at its end: its ``time`` (UTC); the ``address``
    that it came from; the ``account``, ``-`` where nobody had to say who he is, and
    ``Salt as`` whom where the formula asked; ``method`` and ``path``, with ``*`` for what Orthanc
    gave no name to; its ``result``, denied where the user's role does not allow it; and the
    ``study``, where the path names one.

    Raises SaltInvocationError for a count or an all that is none, and CommandExecutionError where
    nothing is written down.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.log
        salt '*' orthanc.log 20 account=anna
    """
    __salt__["orthanc_host.require_number"]("count", count)
    __salt__["orthanc_host.require_flags"]({"all": all})
    options = __salt__["orthanc_folder.effective"](__salt__["orthanc_folder.chosen"](config))
    folder = __salt__["orthanc_requests.folder"](options)
    if not folder:
        raise CommandExecutionError(
            "nobody writes down who asks what: set orthanc:access_log: true, and apply the formula"
        )
    wanted = {"account": account, "study": study}
    wanted = {name: str(value) for name, value in wanted.items() if value is not None}
    return __salt__["orthanc_requests.last"](folder, count, wanted, all)
