"""
What the options are that Orthanc and its plugins take.
"""

from __future__ import annotations

import contextlib

from salt.exceptions import CommandExecutionError, SaltException

# One of the files of which Salt makes the module ``orthanc_conf``.
__virtualname__ = "orthanc_conf"


def __virtual__():
    return __virtualname__


def options(pattern, saltenv=None):
    """
    Say what the options are that the installed Orthanc and the plugins know, and what they do.

    pattern
        A part of the name of an option or of what it does, such as ``storage``; or with ``*`` in
        it, the whole name. The name of an option of a plugin begins with its section.

    saltenv
        The environment that the formula is of; by default that of the minion.

    Returns a mapping from the name of each option to its ``type``; the ``default``, where there is
    one; ``since`` and ``until`` which version it is there; ``what`` it does, in the words of the
    installed Orthanc; the ``advice`` of the Orthanc Book; and the key of the ``pillar`` that sets
    it, which is not known over salt-ssh.

    Raises CommandExecutionError if there is no such option.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.options MaximumStorage
        salt '*' orthanc_conf.options 'DicomWeb:*'
    """
    here = __salt__["orthanc_options.installed"](__salt__["orthanc_options.command"]())
    plain = None
    with contextlib.suppress(KeyError, SaltException):
        rendered = __salt__["slsutil.renderer"](
            "salt://orthanc/options.py",
            default_renderer="py",
            saltenv=saltenv or __opts__.get("saltenv") or "base",
        )
        plain = {option: key for option, (key, _) in rendered["PLAIN"].items()}
    found = __salt__["orthanc_manual.look_up"](str(pattern), here, plain)
    if not found:
        version = f" {here['version']}" if here.get("version") else ""
        meant = __salt__["orthanc_manual.meant"](str(pattern))
        raise CommandExecutionError(f"Orthanc{version} has no option like {pattern}; {meant}")
    return found
