"""
Images of the server sent on to others, by a service that systemd keeps running.

The work is done by the execution module :py:mod:`orthanc_routes`.
"""

from salt.exceptions import CommandExecutionError

__virtualname__ = "orthanc_routes"


def __virtual__():
    if "orthanc_routes.make" not in __salt__:
        return False, "orthanc_routes: the execution module of this name is not on this minion"
    return __virtualname__


def present(name, job):
    """
    Ensure that images are sent on by routes.

    name
        The path of the folder of what waits, which the service makes.

    job
        A mapping: the ``routes``, each with ``to``, the ``kind`` of that in Orthanc's REST API,
        ``when``, ``keep_trying``, ``warn_after``, ``warn_above``, and what it is for;
        ``config``, the path of the folder of the configuration; and the names of Orthanc's ``user``
        and ``group``.

    .. code-block:: yaml

        /var/lib/orthanc-routes:
          orthanc_routes.present:
            - job:
                routes:
                  ct:
                    to: archive
                    kind: modalities
                    modality: [CT]
                    when: at_once
                    keep_trying: 604800
                    warn_after: 3600
                    warn_above: 10000
                config: /etc/orthanc
                user: orthanc
                group: orthanc
    """
    done = f"{len(job['routes'])} routes send on what comes in"
    ret = {"name": name, "result": True, "changes": {}, "comment": done}
    try:
        lacks = __salt__["orthanc_routes.lacks"](job)
        ret["changes"] = __salt__["orthanc_files.changes"](lacks)
        if lacks and __opts__["test"]:
            ret.update(result=None, comment=f"Would be set up: {done}")
            return ret
        if lacks:
            __salt__["orthanc_routes.make"](job)
    except CommandExecutionError as err:
        ret.update(result=False, changes={}, comment=str(err))
    return ret


def absent(name):
    """
    Ensure that nothing is sent on. What has not arrived is forgotten; the images stay where they
    are.

    name
        The path of the folder of what waits.

    .. code-block:: yaml

        /var/lib/orthanc-routes:
          orthanc_routes.absent: []
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "There are no routes"}
    try:
        left, waiting = __salt__["orthanc_routes.left"]()
        ret["changes"] = {path: {"old": "there", "new": None} for path in left}
        lost = f"; {waiting} images had not arrived, and stay here" if waiting else ""
        if left and __opts__["test"]:
            ret.update(result=None, comment=f"The routes would be removed{lost}")
        elif left:
            __salt__["orthanc_routes.remove"]()
            ret["comment"] = f"The routes were removed{lost}"
    except CommandExecutionError as err:
        ret.update(result=False, changes={}, comment=str(err))
    return ret
