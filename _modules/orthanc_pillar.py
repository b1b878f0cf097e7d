"""
What a state of the formula is to look up in the pillar, on the host, instead of being given it.

The arguments of states are shown by ``state.show_sls`` and its like, and lie in caches and over
salt-ssh in files, so that no secret may be among them. In the place of one stands a *reference*, a
mapping of these keys:

__pillar__
    The path of the value in the pillar, as a list of keys, because a key may hold a colon.

in_url
    Not in most of them: two texts, between which the value stands as a part of a URL.

Each state replaces the references in its arguments, and calls others with the values. Salt's own
slots (``__slot__:salt:pillar.get(…)``) are no help: where Salt 3008 masks the pillar, they give
asterisks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import quote

import salt.pillar
import salt.utils.state
from salt.exceptions import SaltInvocationError

PATH, IN_URL = "__pillar__", "in_url"


def resolve(value, environments=None, pillar=None):
    """
    Part of the formula. Return a value with what the pillar holds in the place of each reference.
    Part of the formula; what it returns is not meant to be shown.

    value
        Anything. What comes from the pillar is taken as it is, and may look like a reference.

    environments
        None looks into the pillar of this run. A mapping compiles it anew, for the ``saltenv`` and
        the ``pillarenv`` that it may hold, as ``state.show_low_sls`` does.

    pillar
        Another pillar to look into, a mapping.

    Raises SaltInvocationError where the pillar holds no such value.
    """
    if pillar is None:
        pillar = __pillar__ if environments is None else _compile(environments)
    return _resolve(value, pillar)


def paths():
    """
    Part of the formula. Return the paths that the pillar gives, by their names; nothing of secrets.
    """
    found = __pillar__
    for key in ("orthanc", "paths"):
        found = found.get(key) if isinstance(found, Mapping) else None
    # Of a pillar that is about to be refused, nothing is known.
    if not isinstance(found, Mapping):
        return {}
    return {name: path for name, path in found.items() if path is None or isinstance(path, str)}


def _compile(environments: dict):
    opts = salt.utils.state.get_sls_opts(__opts__, **environments)
    compiler = salt.pillar.get_pillar(
        opts,
        opts["grains"],
        opts["id"],
        opts["saltenv"] or "base",
        pillarenv=opts.get("pillarenv"),
    )
    return compiler.compile_pillar()


def _resolve(value, pillar):
    if isinstance(value, list):
        return [_resolve(item, pillar) for item in value]
    if not isinstance(value, dict):
        return value
    if PATH not in value:
        return {key: _resolve(item, pillar) for key, item in value.items()}
    found = _look_up(value[PATH], pillar)
    if IN_URL in value:
        found = quote(str(found), safe="").join(value[IN_URL])
    return found


def _look_up(path: list, pillar):
    if not isinstance(path, list):
        raise SaltInvocationError(f"what stands behind {PATH} must be a list of keys of the pillar")
    found = pillar
    for key in path:
        # There may be thousands of modalities, with several references in each.
        if type(found) is dict and key in found:
            found = found[key]
            continue
        pairs = list(enumerate(found)) if isinstance(found, list) else []
        if isinstance(found, Mapping):
            pairs = list(found.items())
        matching = [item for other, item in pairs if other == key]
        matching = matching or [item for other, item in pairs if _name(other) == _name(key)]
        if not matching:
            raise SaltInvocationError(
                f"{':'.join(map(_name, path))}: is not in the pillar of this run, and was when its"
                " states were made; run it again"
            )
        found = matching[0]
    return _plain(found)


def _name(key) -> str:
    """Return a key as salt-ssh has it, which hands the pillar over as JSON."""
    return key if isinstance(key, str) else json.dumps(key, default=str)


def _plain(value):
    """Return a copy in plain dicts and lists: Salt 3008's masked ones show asterisks."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
