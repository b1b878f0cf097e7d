"""
What people ask of the images that are sent on.
"""

from __future__ import annotations

# One of the files of which Salt makes the module ``orthanc``.
__virtualname__ = "orthanc"


def __virtual__():
    return __virtualname__


def routes(retry=False):
    """
    Say which images have not arrived where ``orthanc:routes`` sends them.

    retry
        Whether those that were given up are tried anew from now on; true or false. What was deleted
        before it was sent is told for the last time then.

    Returns a mapping: of each of the ``routes`` where it goes ``to``, how many images are
    ``waiting``, since when the ``oldest`` one does (UTC), how many have ``failed`` for good, how
    many were ``deleted`` in the last day before they were sent, since when there is ``no answer``,
    and ``why``, with the number of images in brackets; and the ``problems`` of the service itself.
    The exit code of salt-call is 1 if something has failed.

    Raises CommandExecutionError where there are no routes, and SaltInvocationError for a retry that
    is neither true nor false.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.routes
    """
    __salt__["orthanc_host.require_flags"]({"retry": retry})
    __salt__["orthanc_host.require_root"]()
    found = __salt__["orthanc_routes.listed"](retry)
    for row in found["routes"].values():
        del row["seconds"]
    if found["problems"] or any(row["failed"] for row in found["routes"].values()):
        __context__["retcode"] = 1
    return found
