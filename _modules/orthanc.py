"""
The Orthanc server on this host: whether it answers, how to reach it, why it does not start.

https://orthanc.uclouvain.be/book/users/rest.html
"""

from __future__ import annotations

# For how many seconds to wait for an answer.
PATIENCE = 2


def answers(address=None):
    """
    Return whether an Orthanc answers at an address.

    address
        The URL of its REST API; by default that of the Orthanc on this host, also if nginx is in
        front of it. No password is needed: being asked for one is an answer.

    The exit code of salt-call is 1 if it does not.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.answers
    """
    address = address or __salt__["orthanc_server.url"](__salt__["orthanc_folder.chosen"]())
    found = __salt__["orthanc_http.answers"](address, PATIENCE)
    if not found:
        __context__["retcode"] = 1
    return found


def health(config=None):
    """
    Say whether the server is well with the figures of all that was looked at: its process, its REST
    API, its index, the disks, the DICOM port, certificates, jobs, associations that were refused
    since the last look, backups, and whether it runs with its configuration as it is. It takes
    three seconds at most, whatever hangs.

    config
        The path of the folder of the configuration; by default that of the service.

    Returns a mapping: the ``verdict``, which is ok, warning or critical; the ``reasons``, a list of
    sentences, the worst first; the ``figures`` of each check; and the verdict of each of the
    ``checks``. The exit code, where Salt passes it on (``--retcode-passthrough``), is 0, 1 or 2.

    Raises CommandExecutionError if it is not root who asks.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.health
    """
    found = __salt__["orthanc_health.look"](config)
    __context__["retcode"] = __salt__["orthanc_verdict.code"](found["verdict"])
    return found


def nagios(config=None):
    """
    Say whether the server is well in one line as Nagios and Icinga take it; see ``orthanc.health``.

    config
        The path of the folder of the configuration; by default that of the service.

    The exit code, where Salt passes it on (``--retcode-passthrough``), is 0, 1 or 2, and 3 where it
    cannot be told, as where it is not root who asks.

    CLI Example:

    .. code-block:: bash

        salt-call --retcode-passthrough --out=txt orthanc.nagios
    """
    return __salt__["orthanc_health.nagios"](config)


def restart(service=None):
    """
    Restart Orthanc, or start it, also where systemd has given it up after too many failures. One
    that was started a moment ago is waited for, because it may be making its index.

    service
        The name of the service; by default the one that the packages bring.

    Returns whether that succeeded, which does not say yet that Orthanc serves; ``orthanc.answers``
    does.

    Raises CommandExecutionError if it is not root who asks.

    No example, because it interrupts the server that it is typed on.
    """
    __salt__["orthanc_host.require_root"]()
    return __salt__["orthanc_server.restart"](service or _server())


def _server() -> str:
    """Return how the packages call the service and its account."""
    return __salt__["orthanc_tables.get"]("SERVER")


def backend(config):
    """
    Return where the Orthanc that runs keeps its index: "PostgreSQL", "SQLite", None for something
    else or where none runs, or "unknown" where this process may not look at others, as in a
    container without CAP_SYS_PTRACE.

    It is told by the files that the process has open, because Orthanc itself tells it only to
    those who have a password.

    config
        The path of the folder of the configuration.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.backend /etc/orthanc
    """
    return __salt__["orthanc_server.backend"](__salt__["orthanc_folder.chosen"](config))


def access(config=None):
    """
    Return how people reach Orthanc: its addresses, and who may log in, as a mapping of texts.

    config
        The path of the folder of the configuration; by default the one of the pillar.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.access
    """
    return __salt__["orthanc_server.access"](__salt__["orthanc_folder.chosen"](config))


def try_upgrade(version=None):
    """
    Try another version of Orthanc with the pillar as it stands, before it is installed: its
    packages are downloaded, unpacked aside, and thrown away, and the server goes on meanwhile.

    version
        The version of the package, as ``orthanc:version`` takes it; by default the newest one.

    Returns a mapping: the ``version`` now and then; the ``packages`` that would change; ``options``
    that the formula would write for it, and ``defaults`` that are others; what becomes of the
    ``index``; ``warnings``; and the ``problems``, with which the exit code of salt-call is 1.

    Raises CommandExecutionError if no package source has the version, if there is no room for it,
    or if it is not root who asks.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.try_upgrade
    """
    return __salt__["orthanc_upgrade.asked"](version and str(version))
