"""
What stands behind a source: an absolute path on this host, a ``salt://`` URL, or the text itself.
"""

from __future__ import annotations

import os

import salt.utils.files
from salt.exceptions import SaltInvocationError


def read(source, saltenv="base"):
    """
    Part of the formula. Return the bytes behind a source.

    source
        An absolute path on this host, a ``salt://`` URL, or the text itself.

    saltenv
        The environment of Salt that such a URL is of.

    Raises SaltInvocationError if there is nothing.
    """
    if source.startswith("salt://"):
        path = __salt__["cp.cache_file"](source, saltenv)
        if not path:
            raise SaltInvocationError(f"there is no {source} in the file roots of Salt")
    elif source.startswith("/"):
        path = source
    else:
        return source.encode("utf-8", "surrogateescape")
    try:
        if not os.path.isfile(path):
            raise SaltInvocationError(f"there is no file {path} on this host")
        with salt.utils.files.fopen(path, "rb") as file:
            return file.read()
    except OSError as err:
        raise SaltInvocationError(f"{path} cannot be read: {err.strerror}") from err
