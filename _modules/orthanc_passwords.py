"""
Secrets that are none: texts that failed to become one on their way here, and those that the whole
world knows.

What may not be shown is decided by :py:mod:`orthanc_options`; this module says of a secret whether
it protects anything. No sentence holds the secret itself.
"""

from __future__ import annotations

import base64
import binascii
import re
import urllib.parse
from collections import namedtuple

# What a text is that failed to become a secret, the pattern of it, and the remedy.
Failed = namedtuple("Failed", "what pattern remedy")
# These mean nothing in any other place either.
FAILED = (
    Failed(
        "stars, which a program shows in the place of a secret",
        re.compile(r"\s*[*\u2022\u25cf\u2217\u22c6]{4,}\s*|\(hidden\)|(XXX-)?REDACTED(-XXX)?"),
        "write the secret itself; in a pillar file that is a program, read __pillar__, because"
        " Salt 3008 masks what pillar.get returns there",
    ),
    Failed(
        "a block that was encrypted, and that nobody has decrypted",
        re.compile(
            r"(?s).*-----BEGIN (PGP MESSAGE|AGE ENCRYPTED FILE)-----.*|\$ANSIBLE_VAULT;.*"
            r"|ENC\[(AES256_GCM|PKCS7|GPG),.*\]|NACL\[.*\]|\{cipher\}.*"
        ),
        "for PGP, let the first line of the pillar file be `#!jinja|yaml|gpg`, and give the master"
        " the key",
    ),
    Failed(
        "an instruction of a template that was not carried out",
        re.compile(r"(?s)\s*(\{\{.*\}\}|\{%.*%\})\s*"),
        "let the first line of the pillar file be `#!jinja|yaml`, or take the first line out",
    ),
    Failed(
        "the address of a secret that was not looked up",
        re.compile(
            r"(sdb|vault|op|ref\+\w+|ssm|awssm|gcpsm|azurekv|keyring|secret|pass)://\S+"
            r"|vault:\S+/\S+|arn:aws:secretsmanager:\S+"
        ),
        "look it up where the pillar is made: {{ salt['sdb.get']('sdb://...') | yaml_dquote }}",
    ),
)
# What stands in the place of a secret that is not shown, where others are to put it in.
PLACEHOLDER = "<secret of {}>"
FAILED += (
    Failed(
        "a placeholder, because secrets are not shown",
        re.compile(PLACEHOLDER.format("(?s:.*)")),
        "put the secret in its place, or let orthanc_conf.to_pillar give it with secrets=True",
    ),
)
# These mean nothing as a password.
FAILED_PASSWORDS = (
    Failed(
        "an instruction of a template that was not carried out",
        re.compile(r"(?s).*(\{\{.+\}\}|\{%.+%\}).*"),
        FAILED[2].remedy,
    ),
    Failed(
        "the word that a program writes where it has found nothing",
        re.compile(r"none|null|nil|undefined|nan|<no value>", re.IGNORECASE),
        "look where the secret comes from, or write the secret itself",
    ),
    Failed(
        "a placeholder",
        re.compile(
            r"<[^<>]+>|\[[A-Za-z _-]*(password|secret)[A-Za-z _-]*\]|__[A-Z_]+__|@@?[A-Z_]+@@?"
            r"|%%?[A-Z_]{4,}%%?|\$[A-Z_]{5,}|\$\(.+\)|\.\.\.|\u2026"
            r"|[*\u2022\u25cf]+|x{5,}|(change|replace|fix)[ _-]?(me|it|this)[!.]*"
            r"|(your|put|enter|insert|type|set)[ _-].*(password|secret|token)[ _-]?(here)?"
            r"|(your|the)?[ _-]?(password|secret|token)[ _-]?here|to ?do|tbd|placeholder",
            re.IGNORECASE,
        ),
        "put a secret of your own in its place",
    ),
)
# Passwords that stand in documentation, in samples and at the head of each list that is tried: of
# Orthanc, its Docker images and courses, of other archives, of databases. In small letters.
WELL_KNOWN = frozenset(
    """
    orthanc orthanc1 orthanc12 orthanc123 orthanc1234 orthanctest orthancpassword orthanc-demo
    orthanc_password orthancdemo alice bob alicepassword bobpassword alice-password bob-password
    admin admin1 admin12 admin123 admin1234 adminadmin admin-password adminpassword administrator
    root toor password password1 password12 password123 password1234 passw0rd p@ssw0rd p@ssword
    pass passwd pwd pass123 secret secret123 topsecret test test1 test12 test123 test1234 testtest
    demo demo123 guest user user123 default sample example temp letmein welcome welcome1 welcome123
    my_password mypassword my-password foobar foo bar 0000 00000000 1111 111111 11111111 1234 12345
    123456 1234567 12345678 123456789 1234567890 123123 654321 987654321 qwerty qwerty123 qwertz
    qwertyuiop 1q2w3e4r abc123 abcd1234 iloveyou monkey dragon sunshine princess football
    postgres postgresql pacs pacs123 pacsadmin dicom dicom123 dcm4chee dcm4che conquest osimis
    oviyam ohif keycloak grafana prometheus
    """.split()
)
# The examples of this project's own documentation.
EXAMPLES = frozenset(
    {
        "a long sentence is a good password",
        "another long sentence",
        "and a third one",
        "another one",
        "a long one of your own",
        "only for the north",
        "only for the south",
        "as special as you like",
        "as special as you like: @/%",
        "pass word",
        "a sentence that is in the safe as well",
        "a word between the sites",
    }
)
# Words that are tried early, alone or with a number behind them.
COMMON = frozenset(
    """
    hospital radiology radiologie clinic klinik clinica medical medicine doctor nurse patient
    patients archive storage server viewer imaging image images scanner xray healthcare health
    geheim passwort kennwort contrasena motdepasse clave spring summer autumn winter fruehling
    sommer herbst january february march april june july august september october november december
    monday tuesday wednesday thursday friday saturday sunday master shadow superman batman baseball
    whatever computer internet freedom secure security access login system service manager support
    company office house family summertime hello world
    """.split()
)
# A shorter one is found by trying.
SHORT = 8
# The names of keys that hold a password, and of those beside it that hold the user.
PASSWORD_KEY = re.compile(
    r"pass(word|wd|phrase)|secret(key)?$|token$|api-?key$|authorization$|:pin$", re.IGNORECASE
)
# What stands before a secret in a header of HTTP.
SCHEME = re.compile(r"^(Bearer|Basic|Token) +")
USER_KEY = re.compile(r"^user(name)?$", re.IGNORECASE)
# Of a connection to another server, whose name is one of these, nothing leaves the host.
LOCAL = ("", "localhost", "127.0.0.1", "::1")
REMEDY = "choose another one, such as `openssl rand -base64 18` prints"

# A password: its path, the user that it belongs to, and the host that it opens (None: this one).
Credential = namedtuple("Credential", "path user password host")


def check(options, shown, remote=False):
    """
    Part of the formula. Say which secrets among options protect nothing.

    options
        A mapping from option name to value.

    shown
        The same with all secrets hidden, as ``orthanc_options.redact`` does.

    remote
        Whether other hosts reach the server.

    Returns ``failed`` (never became a secret), ``known`` (to everybody, and asked for by a server
    that others reach) and ``weak`` (known where nobody else asks, or easy to guess), each a list of
    pairs: the path of the value as a list of names, and a sentence without the secret.
    """
    used = {name: value for name, value in options.items() if not _is_off(value)}
    found: dict = {"failed": [], "known": [], "weak": []}
    for path, text in _texts(used, []):
        sentence = why_not(text)
        if sentence:
            found["failed"].append((path, sentence))
    failed = [path for path, _ in found["failed"]]
    for one in _credentials(used, shown, []):
        sentence = why_not(one.password, password=True)
        if sentence and one.path not in failed:
            found["failed"].append((one.path, sentence))
        elif not sentence:
            reached = remote if one.host is None else one.host not in LOCAL
            known, weak = _is_known(one), _is_weak(one.password)
            if known:
                found["known" if reached else "weak"].append((one.path, f"{known}; {REMEDY}"))
            elif weak:
                found["weak"].append((one.path, f"{weak}; {REMEDY}"))
    return found


def placeholder(name):
    """
    Part of the formula. Return what stands in the place of a secret that is not shown; ``check``
    knows it.

    name
        The name of the secret.
    """
    return PLACEHOLDER.format(name)


def why_not(text, password=False):
    """
    Part of the formula. Return why a text is not what it was to become, and the remedy; None where
    it is.

    text
        The text.

    password
        Whether it is to be a password, with which some more texts cannot be meant.
    """
    for one in (*FAILED, *(FAILED_PASSWORDS if password else ())):
        if one.pattern.fullmatch(SCHEME.sub("", text)):
            return f"is {one.what}; {one.remedy}"
    return None


def _is_known(one: Credential) -> str | None:
    """Return in which way everybody knows a password."""
    word = one.password.strip().lower()
    if one.user and word == str(one.user).strip().lower():
        return "the password is the name of its user"
    if word in WELL_KNOWN:
        return "everybody knows this password"
    return (
        "this password is an example of the formula's documentation" if word in EXAMPLES else None
    )


def _is_weak(password: str) -> str | None:
    """Return in which way a password is easy to guess."""
    if len(password.strip()) < SHORT:
        return f"a password of less than {SHORT} characters is found by trying"
    if len(set(password)) < 3:
        return "a password of one or two characters, again and again, is found by trying"
    if re.sub(r"[\d\W_]+$", "", password.lower()) in COMMON | WELL_KNOWN:
        return "a password that is one common word is found by trying"
    return None


def _is_off(section) -> bool:
    """Return whether a section of a plugin has all its switches off, as a sample has them."""
    if not isinstance(section, dict):
        return False
    switches = [item for key, item in section.items() if str(key).startswith("Enable")]
    return bool(switches) and not any(switches)


def _inside(value) -> list[tuple]:
    """Return name and value of each item of a mapping or a list."""
    if isinstance(value, dict):
        return [(str(key), item) for key, item in value.items()]
    return (
        [(str(n), item) for n, item in enumerate(value)] if isinstance(value, (list, tuple)) else []
    )


def _texts(value, path: list) -> list[tuple]:
    """Return path and text of every text in a value."""
    if isinstance(value, str):
        return [(path, value)]
    return [found for key, item in _inside(value) for found in _texts(item, [*path, key])]


def _credentials(value, shown, path: list, host=None) -> list[Credential]:
    """
    Return the passwords in a value, among all that may not be shown.

    host
        The host that the value is about, unless it names one itself.
    """
    if isinstance(value, str):
        return _in_text(value, path) if value != shown else []
    found = _in_row(value, path) if isinstance(value, (list, tuple)) else []
    users = [item for key, item in _inside(value) if USER_KEY.match(key)]
    beside = _host_beside(value)
    host = host if beside is None else beside
    for key, item in _inside(value):
        place = [*path, key]
        below = shown.get(key) if isinstance(shown, dict) else shown
        registered = path == ["RegisteredUsers"]
        if isinstance(item, str) and (registered or PASSWORD_KEY.search(f":{key}")):
            user = key if registered else next(iter(users), None)
            found += _in_header(item, place, user, None if registered else host)
        else:
            found += _credentials(item, below, place, host)
    return found


def _in_row(row, path: list) -> list[Credential]:
    """Return the password of a server that is written as a list: URL, user, password."""
    texts = len(row) > 2 and all(isinstance(item, str) for item in row[:3])
    if texts and "://" in row[0]:
        return [Credential([*path, "2"], row[1], row[2], _host(row[0]))]
    return []


def _in_header(text: str, path: list, user, host) -> list[Credential]:
    """Return the password in the value of a key: as it stands, or in a header of HTTP."""
    basic = re.fullmatch(r"Basic +([A-Za-z0-9+/=]+)", text)
    if basic:
        try:
            user, _, text = base64.b64decode(basic.group(1)).decode(errors="replace").partition(":")
        except (binascii.Error, ValueError):
            return []
    return [Credential(path, user, SCHEME.sub("", text), host)]


def _in_text(text: str, path: list) -> list[Credential]:
    """Return the password in a URL, or among the keywords of a connection to PostgreSQL."""
    url = re.search(r"://([^:/?#@]*):([^@/]*)@([^/?#]*)", text)
    if url:
        user, password = (urllib.parse.unquote(part) for part in url.groups()[:2])
        return [Credential([*path, "password"], user, password, _host(text))]
    words = dict(re.findall(r"(\w+)\s*=\s*'?([^'\s]*)", text))
    if words.get("password") and "://" not in text:
        host = words.get("host", "")
        place = [*path, "password"]
        return [Credential(place, words.get("user"), words["password"], host)]
    return []


def _host(url: str) -> str:
    try:
        return urllib.parse.urlsplit(url).hostname or ""
    except ValueError:
        return url


def _host_beside(value) -> str | None:
    """Return the host of the server that a mapping with a password is about; None for this one."""
    pairs = {key.lower(): item for key, item in _inside(value) if isinstance(item, str)}
    url = pairs.get("url", "")
    return _host(url) if url else pairs.get("host")
