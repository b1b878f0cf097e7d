"""
The pillar of a server that is there already, or was to be made by Ansible.
"""

from __future__ import annotations

import copy
import os

from salt.exceptions import SaltInvocationError

# One of the files of which Salt makes the module ``orthanc_conf``.
__virtualname__ = "orthanc_conf"
# Settings with secrets that are one option.
OPTIONS = {"modalities": "DicomModalities", "peers": "OrthancPeers"}


def __virtual__():
    return __virtualname__


def to_pillar(path=None, secrets=False, file=None, saltenv="base"):
    """
    Take over an Orthanc that is there already: give the pillar, as YAML, with which the formula
    changes none of its options and loses none of its users. What changes all the same, and what of
    it the formula refuses, stands before it in comments.

    path
        The path of the folder of its configuration, or of its only file; by default the folder
        that the service is started with, /etc/orthanc.

    secrets
        True gives passwords and their like as they are; otherwise ``<secret of ...>`` stands in
        their place, which the formula refuses.

    file
        The path of a new file, which only root may read, for the pillar; by default it is returned.

    saltenv
        The environment of Salt that the formula is of.

    Returns the text of the pillar, or the path of the file.

    Raises CommandExecutionError if Orthanc itself would not start, with each reason, or if the
    formula's files cannot be had here; SaltInvocationError if the path or the file is wrong, or if
    secrets would go to a master.

    CLI Example:

    .. code-block:: bash

        salt-call orthanc_conf.to_pillar
        salt-call orthanc_conf.to_pillar secrets=True file=/root/orthanc.sls
    """
    __salt__["orthanc_host.require_root"]()
    formula = __salt__["orthanc_import.formula"](saltenv)
    if path is None:
        folder = formula["settings"]["paths"]["config"]
        path = __salt__["orthanc_folder.in_use"](folder, formula["settings"]["system"]["service"])
    if not os.path.exists(str(path)):
        raise SaltInvocationError(f"{path} does not exist")
    return _pillar_text(__salt__["orthanc_import.pillar"](str(path), formula), secrets, file)


def from_role(path, secrets=False, file=None):
    """
    Give the pillar for the parameters of the Ansible role of GNU Health, as YAML. What has to be
    looked at stands before it in comments.

    path
        The path of a YAML file with variables of Ansible, such as one of group_vars.

    secrets, file
        See ``to_pillar``.

    Returns the text of the pillar, or the path of the file.

    Raises SaltInvocationError if the file cannot be read or sets no parameter of the role, if the
    file is wrong, or if secrets would go to a master.

    CLI Example:

    .. code-block:: bash

        salt-call orthanc_conf.from_role /root/group_vars/orthanc.yml
    """
    return _pillar_text(__salt__["orthanc_role.pillar"](str(path)), secrets, file)


def _pillar_text(found: dict, secrets: bool, file) -> str:
    """Return the text of a pillar, or write it to a file and return the path of that."""
    __salt__["orthanc_host.require_flags"]({"secrets": secrets})
    settings, remarks = found["settings"], found["remarks"]
    if secrets and not file and __opts__.get("file_client") != "local":
        raise SaltInvocationError(
            "secrets would go to the master, and into its job cache; name a file for them:"
            " file=/root/orthanc.sls"
        )
    if not secrets:
        settings = _without_secrets(settings)
        if settings != found["settings"]:
            sentence = "Put each secret in its place, or let secrets=True give them."
            remarks = [*remarks, (sentence, [])]
    text = __salt__["orthanc_pillar_file.text"](settings, remarks)
    if not file:
        return text
    if not os.path.isabs(str(file)) or os.path.lexists(file):
        raise SaltInvocationError(f"{file} must be the path of a file that is not there yet")
    with __salt__["orthanc_files.failing"](f"writing {file}"):
        __salt__["orthanc_files.write"](str(file), text, 0o600)
    return file


def _without_secrets(settings: dict) -> dict:
    """Return settings with a placeholder in the place of each secret."""
    found, placeholder = copy.deepcopy(settings), __salt__["orthanc_passwords.placeholder"]
    for name, user in found.get("users", {}).items():
        user["password"] = placeholder(f"orthanc:users:{name}:password")
    database = found.get("postgresql", {})
    for key in {"uri", "password"} & {*database}:
        database[key] = placeholder(f"orthanc:postgresql:{key}")
    for setting, option in OPTIONS.items():
        if setting in found:
            found[setting] = _masked(option, found[setting])
    if "config" in found:
        found["config"] = {o: _masked(o, value) for o, value in found["config"].items()}
    return found


def _masked(name: str, value):
    """Return a value with a placeholder in the place of each text that may be secret."""
    if isinstance(value, dict):
        return {key: _masked(f"{name}:{key}", item) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(f"{name}:{number}", item) for number, item in enumerate(value)]
    hidden = __salt__["orthanc_options.redact"](name, value) != value
    is_secret = hidden and isinstance(value, (str, int)) and value not in ("", True, False)
    return __salt__["orthanc_passwords.placeholder"](name) if is_secret else value
