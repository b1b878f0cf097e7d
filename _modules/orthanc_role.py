"""
The parameters of the Ansible role of GNU Health, and the keys of the pillar that do the same.

https://docs.gnuhealth.org/ansible/
"""

from __future__ import annotations

import re

import yaml
from salt.exceptions import SaltInvocationError

# From each parameter to its key below ``orthanc:``.
KEYS = {
    "or_overwrite_instances": "overwrite_instances",
    "or_demo_users": "demo_users",
    "or_allow_remote_access": "remote_access",
    "or_enable_dicom": "dicom:enabled",
    "or_limit_find": "limit_find",
    "or_deidentify_dicom": "deidentify_logs",
    "or_packages": "packages",
    "or_port": "port",
    "or_create_links": "links:enabled",
    "or_link_dir": "links:dir",
    "or_config_link": "links:config",
    "or_log_link": "links:log",
    "or_data_link": "links:data",
    "or_plugins_link": "links:plugins",
    "or_package_version": "version",
    "or_config_dir": "paths:config",
    "or_storage_path": "paths:storage",
    "or_home": "paths:home",
    "or_plugins_path": "paths:plugins",
    "or_https": "https:enabled",
    "or_cert_path": "https:certificate",
    "or_key_path": "https:key",
    "or_use_postgresql": "postgresql:enabled",
    "or_psql_uri": "postgresql:uri",
    "or_psql_domain": "postgresql:host",
    "or_psql_db_name": "postgresql:database",
    "or_psql_db_user": "postgresql:user",
    "or_psql_pw": "postgresql:password",
    "or_verify_psql": "postgresql:verify",
    "or_ownca_path": "postgresql:ca_source",
    "or_psql_cert_path": "postgresql:ca",
    "or_download_plugins": "plugins",
    "or_ssh_key": "backup_key:enabled",
    "or_ssh_dir": "backup_key:dir",
    "or_ssh_key_path": "backup_key:path",
    "or_ssh_key_remote_user": "backup_key:remote_user",
}
# Parameters that have no key of their own, and why.
NO_KEY = {
    "or_default_packages": "the map file of the OS family has them",
    "or_config_path": "the name of the main file follows the OS family",
    "or_psql_uri_local": "is made where there is no postgresql:host",
    "or_psql_uri_remote": "is made of postgresql:host and the keys beside it",
    "or_copy_ownca": "said by postgresql:ca_source",
    "or_package_version_pinning": "said by version",
}
# Without the switch there is nothing to say.
SWITCHES = {"or_package_version": "or_package_version_pinning", "or_ownca_path": "or_copy_ownca"}
# What a URI says, and what a database on this host has no use for.
IN_URI = ("host", "database", "user", "password", "verify")
REMOTE_ONLY = ("host", "user", "password", "verify", "ca_source", "ca")
HERE = ("localhost", "127.0.0.1", "::1", "")
# As Ansible writes what it puts in later: other variables, and what it has encrypted.
LATER = re.compile(r"{[{%#]|^\$ANSIBLE_VAULT")
# How the role, and Ansible, call the two ends of a link.
LINK = {"target": "target", "src": "target", "source": "target", "name": "name", "dest": "name"}
LINK.update({"destination": "name", "path": "name"})
SCALARS = (bool, int, float, str)


class _Loader(yaml.SafeLoader):
    """Reads what has a tag of Ansible's, such as !vault, as a text."""


_Loader.add_multi_constructor("!", lambda *_: "$ANSIBLE_VAULT")


def pillar(path):
    """
    Part of the formula. Return the pillar for the variables of a file, secrets included:
    ``settings`` is what stands below ``orthanc:``, ``remarks`` are the comments; see
    ``orthanc_pillar_file.text``.

    path
        The path of a YAML file, such as one of group_vars.

    Raises SaltInvocationError if it cannot be read, or sets no parameter of the role.
    """
    variables = _read(path)
    known = {name: value for name, value in variables.items() if name in {**KEYS, **NO_KEY}}
    if not known:
        raise SaltInvocationError(f"{path} sets no parameter of the role, such as or_enable_dicom")
    settings, doubts = _settings(known)
    strange = [
        f"{name}: the role that the formula knows has no such parameter"
        for name in variables
        if str(name).startswith("or_") and name not in known
    ]
    passed = [f"{name}: {why}" for name, why in NO_KEY.items() if name in known]
    remarks = [
        ("Look at these:", doubts + strange),
        ("Left out, because it needs no setting:", passed),
    ]
    head = f"The parameters of the Ansible role of GNU Health in {path}."
    return {"settings": settings, "remarks": [(head, []), *(pair for pair in remarks if pair[1])]}


def _read(path: str) -> dict:
    try:
        text = __salt__["orthanc_files.read"](path)
        text = text.encode("utf-8", "surrogateescape").decode()
        found = yaml.load(text, Loader=_Loader)  # noqa: S506 it is a safe one
    except (OSError, ValueError) as err:
        raise SaltInvocationError(f"{path} cannot be read: {err}") from None
    except yaml.YAMLError as err:
        mark = getattr(err, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        # Its own words would quote the text.
        raise SaltInvocationError(f"{path}{where}: this is no YAML") from None
    except RecursionError:
        raise SaltInvocationError(f"{path} is nested too deeply") from None
    if not isinstance(found, dict):
        raise SaltInvocationError(f"{path} holds no variables, as `or_enable_dicom: true` is one")
    return found


def _settings(known: dict) -> tuple[dict, list]:
    """Return the settings, and sentences about what somebody has to look at."""
    found: dict = {}
    doubts: list = []
    for name, key in KEYS.items():
        if name not in known or known.get(SWITCHES.get(name), True) is False:
            continue
        value, doubt = _value(name, key, known[name])
        if doubt:
            doubts.append(f"{name}: {doubt}")
        if value is None:
            continue
        place = found
        *above, last = key.split(":")
        for part in above:
            place = place.setdefault(part, {})
        place[last] = value
    doubts += _of_database(found)
    if found.get("remote_access") is True:
        doubts.append(
            "or_allow_remote_access: the formula needs a user of your own for it, in orthanc:users"
        )
    return found, doubts


def _value(name: str, key: str, value) -> tuple:
    """Return the value for a key, None for none; and a sentence about it, None for none."""
    if isinstance(value, str) and LATER.search(value):
        if name == "or_psql_uri":
            return None, None  # made of the other ones, as the formula does
        later = __salt__["orthanc_passwords.placeholder"](name)
        return later, "its value is not in this file; put it in"
    if value is None or value == "":
        return None, None
    form = FORMS.get(name)
    if form:
        return form(value)
    if isinstance(value, SCALARS):
        return value, None
    return None, f"is no single value; write orthanc:{key} yourself"


def _link(value) -> tuple:
    given = value if isinstance(value, dict) else {}
    ends = {LINK[k]: v for k, v in given.items() if k in LINK and isinstance(v, str)}
    return ends or None, None if ends else "write its name and target below orthanc:links"


def _packages(value) -> tuple:
    if _are_texts(value):
        return list(dict.fromkeys(["orthanc", *value])), None
    return None, "is no list of names; write orthanc:packages, or leave it to the default"


def _plugins(value) -> tuple:
    given = value if isinstance(value, list) else [value]
    sources = [one.get("url") or one.get("src") if isinstance(one, dict) else one for one in given]
    if not _are_texts(sources):
        return None, "is no list of URLs; write orthanc:plugins yourself"
    sentence = "each needs its source_hash, which `sha256sum` prints of the right file"
    return [{"source": source} for source in sources], sentence


def _ca(value) -> tuple:
    source = f"salt://{str(value).rpartition('/')[2]}"
    return source, f"lies on the machine of Ansible; put it where {source} is"


def _are_texts(value) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


# What becomes of values that are no single ones.
FORMS = {
    "or_packages": _packages,
    "or_download_plugins": _plugins,
    "or_ownca_path": _ca,
    **{f"or_{what}_link": _link for what in ("config", "log", "data", "plugins")},
}


def _of_database(found: dict) -> list[str]:
    """Take out what does not go together, and return sentences about it."""
    database = found.get("postgresql", {})
    if not database:
        return []
    if "uri" in database:
        useless, why = IN_URI, "or_psql_uri says it"
    elif str(database.get("host", "")) in HERE:
        useless = REMOTE_ONLY
        why = "is only for a database on another host, which or_psql_domain would name"
    else:
        return []
    gone = [key for key in useless if key in database]
    for key in gone:
        del database[key]
    names = [name for name, key in KEYS.items() if key in [f"postgresql:{one}" for one in gone]]
    return [f"{', '.join(names)}: left out: {why}"] if gone else []
