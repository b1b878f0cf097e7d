"""
What people ask of a node among several.
"""

from __future__ import annotations

import time

from salt.exceptions import CommandExecutionError

# One of the files of which Salt makes the module ``orthanc``.
__virtualname__ = "orthanc"

# The states of a job that goes on, and how long to wait for an answer, in seconds.
GOING, LIMIT = ("Pending", "Running", "Retry"), 10
# Between two looks, and until what has just been sent on its way is here.
PAUSE = 0.5


def __virtual__():
    return __virtualname__


def drained(timeout=600, config=None):
    """
    Wait until nothing is under way on this node that its restart would break: associations over
    DICOM, jobs, and requests that come from the balancers of the pillar. It is for a node that the
    balancers leave out; others go on sending to it.

    timeout
        For how many seconds to wait at most.

    config
        The path of the folder of the configuration; by default the one of the pillar.

    Returns True.

    Raises CommandExecutionError, with what is still under way, if that does not end in time, if
    Orthanc does not answer, or if it is not root who asks; and SaltInvocationError for a timeout
    that is no number of seconds.

    CLI Example:

    .. code-block:: bash

        salt 'node-1' orthanc.drained timeout=60
    """
    __salt__["orthanc_host.require_root"]()
    __salt__["orthanc_host.require_number"]("timeout", timeout, 86400)
    config = __salt__["orthanc_folder.chosen"](config)
    deadline = time.monotonic() + timeout
    while True:
        time.sleep(PAUSE)
        found = {what: count for what, count in _under_way(config).items() if count}
        if not found:
            return True
        if time.monotonic() > deadline:
            told = ", ".join(f"{count} {what}" for what, count in found.items())
            raise CommandExecutionError(
                f"after {timeout} seconds there are still: {told}. Wait for them, or end them"
            )


def _under_way(config: str) -> dict:
    """Return how many there are of each kind; nothing where Orthanc does not run."""
    if not __salt__["orthanc_host.orthancs"]():
        return {}
    options = __salt__["orthanc_folder.effective"](config)
    port = __salt__["orthanc_nginx.found"]().get("port") or __salt__["orthanc_server.port"](config)
    balancers = ((__pillar__.get("orthanc") or {}).get("balancer") or {}).get("addresses") or []
    clients, dicom = __salt__["orthanc_host.clients"], options.get("DicomServerEnabled", True)
    code, jobs = __salt__["orthanc_rest.ask"](config, "GET", "/jobs?expand", timeout=LIMIT)
    if code != 200:
        raise CommandExecutionError(f"Orthanc does not tell its jobs: HTTP {code}")
    return {
        "associations": len(clients(options.get("DicomPort", 4242))) if dicom else 0,
        "requests of balancers": len([one for one in clients(port) if one in list(balancers)]),
        "jobs": len([job for job in jobs or () if job.get("State") in GOING]),
    }
