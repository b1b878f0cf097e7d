"""
What must not be shown: the secrets of a configuration in what others say of it.

Which options are secret is known by :py:mod:`orthanc_options`. All functions are pure.
"""

from __future__ import annotations

import re
import urllib.parse

# A secret of fewer characters is hidden in a line only where it is a word of its own.
SHORT = 6


def scrub(lines, options):
    """
    Part of the formula. Return lines that quote what somebody else said, such as Orthanc or
    PostgreSQL, without the secrets of the options. The formula's own sentences need none of this,
    and a password that is a common word would make riddles of them.

    lines
        A list of texts.

    options
        A mapping from option name to value.
    """
    shown = {o: __salt__["orthanc_options.redact"](o, value) for o, value in options.items()}
    parts = {part for secret in _secrets(options, shown) for part in _parts(secret)}
    # The longest first: one secret may be a part of another one.
    for part in sorted(parts, key=len, reverse=True):
        pattern = re.escape(part)
        if len(part) < SHORT:
            pattern = rf"(?<!\w){pattern}(?!\w)"
        lines = [re.sub(pattern, "(hidden)", line) for line in lines]
    return list(lines)


def _secrets(value, shown) -> list[str]:
    """Return the texts in a value that are not in what may be shown of it."""
    if isinstance(value, dict):
        pairs = [(value[key], shown[key] if isinstance(shown, dict) else shown) for key in value]
    elif isinstance(value, (list, tuple)):
        pairs = list(zip(value, shown if isinstance(shown, list) else [shown] * len(value)))
    else:
        return [value] if isinstance(value, str) and value != shown else []
    return [secret for pair in pairs for secret in _secrets(*pair)]


def _parts(secret: str) -> list[str]:
    """
    Return what of a secret may stand alone in a line: a line of it, a piece of the password in a
    URL, or of one among the keywords of a connection.
    """
    parts = [secret, *secret.splitlines()]
    for between in re.findall(r"://[^:]*:(.*)@", secret):
        parts += [*re.split(r"[@:/?#]", between), urllib.parse.unquote(between)]
    for behind in re.findall(r"(?s)password\s*=(.*)", secret):
        parts += [part for part in re.split(r"[\s='\"\\]", behind) if len(part) >= SHORT]
    return [part for part in parts if part.strip()]
