"""
How safe the site of the Orthanc server on this host is.
"""

from __future__ import annotations

# One of the files of which Salt makes the module ``orthanc``.
__virtualname__ = "orthanc"


def __virtual__():
    return __virtualname__


def security(config=None):
    """
    Hold the running site against the security page of the Orthanc Book, and more: passwords, roles,
    clear text, DICOM from unknown devices, images that are deleted or replaced, rights of files,
    what the unit allows, and known vulnerabilities of this version of Orthanc. Nothing is changed.
    It takes three seconds at most, whatever hangs.

    config
        The path of the folder of the configuration; by default that of the service.

    Returns three mappings by the names of the points: those that ``fail``, with ``why``, and with
    the line of the ``pillar`` that mends it; those that are ``not applicable`` here, or that cannot
    be judged now; and those that ``pass``. The exit code, where Salt passes it on
    (``--retcode-passthrough``), is 1 if one fails.

    Raises CommandExecutionError if the configuration cannot be read, or if it is not root who asks.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.security
    """
    found = __salt__["orthanc_security.look"](config)
    if found["fail"]:
        __context__["retcode"] = 1
    return found
