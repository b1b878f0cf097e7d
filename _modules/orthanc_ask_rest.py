"""
What Orthanc itself knows of the server on this host, asked over its REST API with an account that
its configuration has: nobody is asked for a password, and none is shown.

All of it takes three seconds at most, whatever hangs.

https://orthanc.uclouvain.be/book/users/rest.html
"""

from __future__ import annotations

import urllib.parse

from salt.exceptions import SaltInvocationError

# One of the files of which Salt makes the module ``orthanc``.
__virtualname__ = "orthanc"

# The parts of the time that two questions have which follow each other, in seconds.
HALF = 0.9
# What is told of a job; its other figures may name patients.
JOB = (
    "ID",
    "Type",
    "State",
    "Progress",
    "CreationTime",
    "CompletionTime",
    "ErrorDescription",
    "ErrorDetails",
)
# To whom a job sends, or from whom it fetches.
TARGETS = ("RemoteAet", "TargetAet", "Peer", "Server")
STATES = ("Pending", "Running", "Success", "Failure", "Paused", "Retry")
# What the web interface calls itself among the plugins.
NO_PLUGIN = "explorer.js"


def __virtual__():
    return __virtualname__


def system(config=None):
    """
    Return what Orthanc says of itself: its ``Version``, ``Name``, ``DicomAet``, ``DicomPort``, and
    what else its ``/system`` has, a mapping.

    config
        The path of the folder of the configuration; by default the one of the pillar.

    Raises CommandExecutionError if Orthanc gives no answer in time.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.system
    """
    return _get(config, "/system")[0]


def statistics(config=None):
    """
    Return how much Orthanc has: how many patients, studies, series and instances, and the size of
    their files in bytes and megabytes, a mapping.

    config
        See ``orthanc.system``.

    Raises CommandExecutionError if Orthanc gives no answer in time.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.statistics
    """
    return _get(config, "/statistics")[0]


def jobs(limit=10, state=None, config=None):
    """
    Return what Orthanc does and has done in the background, without the names of patients.

    limit
        How many jobs are listed, the newest first.

    state
        Of which state they are to be: Pending, Running, Success, Failure, Paused or Retry; by
        default of any.

    config
        See ``orthanc.system``.

    Returns a mapping: how many there are of each of the ``states``, and the ``list``, mappings with
    Orthanc's own names: ``ID``, ``Type``, ``State``, ``Progress`` in per cent, when each began and
    ended, the ``Target``, and why it failed.

    Raises SaltInvocationError for a limit or a state that is none, and CommandExecutionError if
    Orthanc gives no answer in time.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.jobs
        salt '*' orthanc.jobs state=Failure
    """
    __salt__["orthanc_host.require_number"]("limit", limit, 100000)
    if state not in (None, *STATES):
        raise SaltInvocationError(f"state must be one of {', '.join(STATES)}")
    known = _get(config, "/jobs?expand")[0] or []
    states: dict = {}
    for job in known:
        states[str(job.get("State"))] = states.get(str(job.get("State")), 0) + 1
    chosen = [job for job in known if state in (None, job.get("State"))]
    chosen.sort(key=lambda job: str(job.get("CreationTime", "")), reverse=True)
    return {"states": states, "list": [_job(job) for job in chosen[:limit]]}


def _job(job: dict) -> dict:
    found = {key: job[key] for key in JOB if job.get(key) not in (None, "")}
    content = job.get("Content") if isinstance(job.get("Content"), dict) else {}
    targets = [content[key] for key in TARGETS if isinstance(content.get(key), str)]
    # Of one that did not fail, Orthanc says "Success".
    if job.get("State") not in ("Failure", "Retry"):
        found = {key: value for key, value in found.items() if not key.startswith("Error")}
    return {**found, **({"Target": targets[0]} if targets else {})}


def plugins(config=None):
    """
    Return the plugins that Orthanc has loaded, a mapping from the name of each to its ``Version``
    and ``Description``.

    config
        See ``orthanc.system``.

    Raises CommandExecutionError if Orthanc gives no answer in time.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.plugins
    """
    names = [name for name in _get(config, "/plugins", limit=HALF)[0] if name != NO_PLUGIN]
    paths = [f"/plugins/{_quoted(name)}" for name in names]
    answers = _get(config, *paths, limit=HALF) if names else []
    return {
        name: {key: answer[key] for key in ("Version", "Description") if key in answer}
        for name, answer in zip(names, answers)
        if answer
    }


def modalities(config=None):
    """
    Return the DICOM devices that Orthanc knows, also those that were added over the REST API: a
    mapping from the name of each to its ``AET``, ``Host``, ``Port``, and what it may do.

    config
        See ``orthanc.system``.

    Raises CommandExecutionError if Orthanc gives no answer in time.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.modalities
    """
    return _get(config, "/modalities?expand")[0]


def peers(config=None):
    """
    Return the other servers that Orthanc knows, without their passwords: a mapping of ``peers``,
    which are Orthancs, and ``dicomweb_servers``, each a mapping from a name to its ``Url``,
    ``Username``, ``Timeout`` and the names of its ``HttpHeaders``.

    config
        See ``orthanc.system``.

    Raises CommandExecutionError if Orthanc gives no answer in time.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.peers
    """
    config = __salt__["orthanc_folder.chosen"](config)
    web = __salt__["orthanc_reach.dicomweb"](__salt__["orthanc_folder.options"](config))
    found = _get(config, "/peers?expand", f"{web}/servers?expand")
    kinds = ("peers", "dicomweb_servers")
    return {
        kind: {name: _server(of) for name, of in (answer or {}).items()}
        for kind, answer in zip(kinds, found)
    }


def _server(known: dict) -> dict:
    """Return what may be shown of a server: of headers their names, of a URL no password."""
    found = {key: known[key] for key in ("Username", "Timeout") if known.get(key)}
    found["Url"] = __salt__["orthanc_reach.public_url"](known.get("Url", ""))
    if known.get("HttpHeaders"):
        found["HttpHeaders"] = sorted(known["HttpHeaders"])
    return found


def _get(config, *paths, limit=None) -> list:
    config = __salt__["orthanc_folder.chosen"](config)
    given = {"limit": limit} if limit else {}
    return __salt__["orthanc_rest.get"](config, list(paths), **given)


def _quoted(name) -> str:
    return urllib.parse.quote(str(name), safe="")
