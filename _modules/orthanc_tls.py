"""
Certificates and private keys: where they come from, whether they are sound, and which one a server
shows.

A *source* is an absolute path on this host, a ``salt://`` URL, or the text of a PEM file itself.
Several certificates in one file are a chain: the server's own one, the one that signed it, and so
on. They are read with the program ``openssl``, because nothing but Python's standard library is
to be expected on a host.

https://docs.openssl.org/master/man1/
"""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
import tempfile
import time

from salt.exceptions import CommandExecutionError, SaltInvocationError

BLOCK = re.compile(r"-----BEGIN (?P<label>[A-Z0-9 ]+)-----.+?-----END (?P=label)-----", re.DOTALL)
# The folder of the certificates that the host trusts.
TRUSTED = "/etc/ssl/certs"
# How many days before its end a certificate is warned about, and a self-signed one made anew.
SOON, RENEWAL = 14, 30
DAY = 86400
IN_USE = "the server shows it already, and clients that look refuse it; this run goes on"
# What a self-signed certificate of this module says of its owner, and for how many days it holds.
# The words stay, whatever the formula calls its files: those on hosts are known by them.
MAKER = "orthanc-formula for trying out"
VALID = 365
SELF_SIGNED = """\
[req]
prompt = no
distinguished_name = owner
x509_extensions = extensions
[owner]
CN = {name}
O = {maker}
[extensions]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = serverAuth
subjectAltName = {names}
"""


def judge(sources, saltenv="base", shown=None):
    """
    Part of the formula. Say what is wrong with certificates and keys, and change nothing.

    sources
        A mapping from a place in the pillar to the sources there by name: ``certificate`` and
        ``key``, which belong together; any other name is of certificates that are trusted.

    saltenv
        The environment of Salt that a ``salt://`` URL is of.

    shown
        A mapping from a place in the pillar to the certificates that a server shows there already,
        as ``chain`` returns them. What is wrong with these is a warning: it is no worse than
        before, and a run that locks out a user must not wait for a new certificate.

    Returns ``problems`` and ``warnings``, each a list of sentences that begin with the place in the
    pillar; no private key is in them.

    Raises CommandExecutionError where ``openssl`` is missing.
    """
    problems, warnings = [], []
    read_of: dict = {place: {} for place in sources}
    for place, group in sources.items():
        for name, source in group.items():
            try:
                read_of[place][name] = read(source, saltenv)
            except SaltInvocationError as err:
                problems.append(f"{place}:{name}: {err}")
    # An authority of the hospital's own that the pillar gives anywhere is known to be one.
    trusted = "\n".join(
        text
        for texts in read_of.values()
        for name, text in texts.items()
        if name not in ("certificate", "key")
    )
    for place, group in sources.items():
        texts = read_of[place]
        chain, found, soon = _judge_chain(texts.get("certificate"), trusted)
        certificates = _in_base64(texts.get("certificate", ""))
        # In another order they are another chain.
        if found and certificates and certificates == list((shown or {}).get(place, ())):
            soon = [f"{sentence} ({IN_USE})" for sentence in found]
            found = []
        problems += [f"{place}:certificate: {sentence}" for sentence in found]
        warnings += [f"{place}:certificate: {sentence}" for sentence in soon]
        if "key" in texts:
            problems += [f"{place}:key: {s}" for s in _judge_key(texts["key"], chain)]
            warnings += [f"{place}:key: {s}" for s in _open_key(group["key"])]
            warnings += [f"{place}:key: {s}" for s in _key_for_all(group["key"])]
        for name in texts.keys() - {"certificate", "key"}:
            found, soon = _judge_trusted(texts[name])
            problems += [f"{place}:{name}: {sentence}" for sentence in found]
            warnings += [f"{place}:{name}: {sentence}" for sentence in soon]
    return {"problems": problems, "warnings": warnings}


def read(source, saltenv="base"):
    """
    Part of the formula. Return the text behind a source.

    source
        An absolute path on this host, a ``salt://`` URL, or the text of a PEM file.

    saltenv
        The environment of Salt that such a URL is of.

    Raises SaltInvocationError if there is nothing.
    """
    text = __salt__["orthanc_sources.read"](source, saltenv).decode(errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def pem(path, wanted):
    """
    Part of the formula. Return what a PEM file shall hold.

    path
        The path of the file.

    wanted
        A mapping: ``certificate``, ``key`` and ``trusted_certificates``, sources, of which what
        they hold of that kind comes one after the other; ``bundle``, the path of a file of
        certificates that come last, if it is there; and ``saltenv``, the environment of Salt that a
        ``salt://`` URL is of. Or ``names``, the names and addresses of a host, for a self-signed
        certificate with its key. The ones that the file holds already stay for as long as they
        hold for 30 days more.

    Raises SaltInvocationError if there is nothing behind a source, CommandExecutionError if
    ``openssl`` fails.
    """
    if wanted.get("names"):
        return _self_signed_before(path) or _self_sign(wanted["names"])
    bundle, blocks = wanted.get("bundle"), []
    for source, parts in (
        (wanted.get("certificate"), _certificates),
        (wanted.get("trusted_certificates"), _certificates),
        (wanted.get("key"), _keys),
        (bundle if bundle and os.path.exists(bundle) else None, _certificates),
    ):
        blocks += parts(read(source, wanted.get("saltenv", "base"))) if source else []
    return "".join(f"{block}\n" for block in blocks)


def describe(text):
    """
    Part of the formula. Return whose certificate comes first in a text, and until when it holds;
    without a secret.

    text
        The text of a PEM file.
    """
    blocks = _certificates(text or "")
    shown = _show(blocks[0]) if blocks else None
    return f"{shown['subject']}, until {_day(shown['end'])}" if shown else None


def names(path):
    """
    Part of the formula. Return the DNS names for which the first certificate of a file is made.

    path
        The path of the file.
    """
    blocks = _certificates(read(path))
    done = _openssl(["x509", "-noout", "-ext", "subjectAltName"], blocks[0] if blocks else "")
    return re.findall(r"DNS:([^,\s]+)", done.stdout)


def host(certificate=None):
    """
    Part of the formula. Return the name of this host for a URL: one that its certificate is made
    for.

    certificate
        The path of its file; None where there is none.
    """
    name = __grains__.get("fqdn") or __grains__.get("host")
    known = [one for one in names(certificate) if not one.startswith("*.")] if certificate else []
    return known[0] if known and name not in known else name


def end(path):
    """
    Part of the formula. Return until when the first certificate of a file holds, in seconds since
    1970; None if openssl can read none.

    path
        The path of the file.
    """
    try:
        blocks = _certificates(read(path))
    except SaltInvocationError:
        return None
    shown = _show(blocks[0]) if blocks else None
    return shown["end"] if shown else None


def chain(path):
    """
    Part of the formula. Return the certificates of a file, each in base64 without white space; none
    if there is no file.

    path
        The path of the file.
    """
    try:
        return _in_base64(read(path))
    except SaltInvocationError:
        return []


def served(port):
    """
    Part of the formula. Return the certificates that a server of this host shows, as ``chain``
    does; none if it shows none.

    port
        The number of the port that it listens on.

    Raises CommandExecutionError where ``openssl`` is missing.
    """
    words = ["s_client", "-connect", f"127.0.0.1:{port}", "-showcerts"]
    try:
        return _in_base64(_openssl(words, timeout=5).stdout)
    except subprocess.TimeoutExpired:
        return []


def _in_base64(text: str) -> list[str]:
    blocks = [block.split("-----")[2] for block in _certificates(text)]
    return ["".join(block.split()) for block in blocks]


def _judge_chain(text, trusted: str = "") -> tuple[list, list, list]:
    """
    Return the certificates of a chain as ``_show`` does, and what is wrong or may become so.

    trusted
        Certificates that are trusted besides those of the host.
    """
    blocks, chain, problems = _read_chain(text)
    warnings = []
    for shown in chain:
        ended, soon = _judge_time(shown)
        problems += ended
        warnings += soon
    for number, (below, above) in enumerate(zip(chain, chain[1:]), start=1):
        reason = _not_signed_by(blocks[number - 1], blocks[number])
        if reason:
            problems.append(
                f"certificate {number + 1} ({above['subject']}) did not sign certificate"
                f" {number} ({below['subject']}, signed by {below['issuer']}); put the server's own"
                " certificate first, then the one that signed it, and so on"
                f" (openssl: {reason})"
            )
    if len(chain) == 1 and not problems:
        warnings += _lacks_signer(blocks[0], chain[0], trusted)
    return chain, problems, warnings


def _lacks_signer(block: str, shown: dict, trusted: str) -> list[str]:
    """Return whether nobody here knows who signed a certificate that comes alone."""
    if shown["subject"] == shown["issuer"]:
        return []
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(trusted)
        file.flush()
        known = ["-CApath", TRUSTED, *(["-CAfile", file.name] if trusted else [])]
        if _openssl(["verify", *known, "-partial_chain", "-no_check_time"], block).returncode == 0:
            return []
    return [
        f"the certificate of {shown['issuer']} is neither in the file nor among those that this"
        " host trusts, and clients that do not know it will refuse the server; append it, unless"
        " it is a root that your clients have"
    ]


def _judge_trusted(text) -> tuple[list, list]:
    """Return what is wrong with certificates that are trusted, and what is or will be of no use."""
    _, chain, problems = _read_chain(text)
    return problems, [s for shown in chain for sentences in _judge_time(shown) for s in sentences]


def _read_chain(text) -> tuple[list, list, list]:
    """Return the certificates of a text, the same as ``_show`` returns them, and what is wrong."""
    if text is None:
        return [], [], []
    blocks = _certificates(text)
    chain = [_show(block) for block in blocks]
    if not chain:
        why_not = __salt__["orthanc_passwords.why_not"](text)
        return [], [], [why_not or "holds no certificate in PEM form"]
    if None in chain:
        which = f"certificate {chain.index(None) + 1} of {len(chain)}"
        return [], [], [f"openssl cannot read {which}; it is damaged"]
    return blocks, chain, []


def _judge_time(shown) -> tuple[list, list]:
    """Return whether a certificate does not hold now, and whether it soon will not."""
    subject, now = shown["subject"], time.time()
    if now < shown["start"]:
        return [
            f"the one of {subject} holds only from {_day(shown['start'])} on; is the clock of this"
            " host right?"
        ], []
    if now > shown["end"]:
        return [f"the one of {subject} ended on {_day(shown['end'])}; renew it"], []
    days = int((shown["end"] - now) / DAY)
    if days < SOON:
        return [], [f"the one of {subject} ends on {_day(shown['end'])}, in {days} days; renew it"]
    return [], []


def _judge_key(text: str, chain: list) -> list[str]:
    blocks = _keys(text)
    if not blocks:
        why_not = __salt__["orthanc_passwords.why_not"](text)
        return [why_not or "holds no private key in PEM form"]
    if "ENCRYPTED" in blocks[0]:
        return [
            "is encrypted, and nobody is there to type its passphrase when the server starts; take"
            " that off: openssl pkey -in ENCRYPTED -out PLAIN"
        ]
    done = _openssl(["pkey", "-pubout"], f"{blocks[0]}\n")
    if done.returncode:
        return ["openssl cannot read it; it is damaged"]
    owners = [number for number, shown in enumerate(chain) if shown["key"] == done.stdout]
    if not chain or 0 in owners:
        return []
    if owners:
        return [
            f"belongs to certificate {owners[0] + 1}; the server's own certificate must come first"
        ]
    return [f"does not belong to the certificate of {chain[0]['subject']}"]


def _open_key(source: str) -> list[str]:
    """Return whether others can read a key that lies on the host."""
    if source.startswith("/") and os.path.exists(source) and os.stat(source).st_mode & 0o007:
        return [f"everybody on this host can read {source}; chmod o= {source}"]
    return []


def _key_for_all(source: str) -> list[str]:
    """Return whether every minion of the master can have a key."""
    if source.startswith("salt://") and __opts__["file_client"] == "remote":
        return [
            f"every minion of this master can read {source}; put the text of the key into the"
            " pillar of this host (key: |), or give a path on it"
        ]
    return []


def _certificates(text: str) -> list[str]:
    return [m.group() for m in BLOCK.finditer(text) if m["label"].endswith("CERTIFICATE")]


def _keys(text: str) -> list[str]:
    """Return the first private key of a text; a server takes no second one."""
    return [m.group() for m in BLOCK.finditer(text) if m["label"].endswith("PRIVATE KEY")][:1]


def _show(block: str) -> dict | None:
    """Return what a certificate says: subject, issuer, start, end, public key."""
    words = ["x509", "-noout", "-subject", "-issuer", "-dates", "-pubkey", "-nameopt", "RFC2253"]
    done = _openssl(words, block)
    if done.returncode:
        return None
    fields = dict(re.findall(r"(?m)^(subject|issuer|notBefore|notAfter)= ?(.*)$", done.stdout))
    key = BLOCK.search(done.stdout)
    return {
        "subject": fields["subject"],
        "issuer": fields["issuer"],
        "start": ssl.cert_time_to_seconds(fields["notBefore"]),
        "end": ssl.cert_time_to_seconds(fields["notAfter"]),
        "key": f"{key.group()}\n" if key else "",
    }


def _not_signed_by(block: str, signer: str) -> str:
    """Return openssl's reason why a certificate was not signed by another one."""
    with tempfile.NamedTemporaryFile("w") as above, tempfile.NamedTemporaryFile("w") as below:
        for file, text in ((above, signer), (below, block)):
            file.write(text + "\n")
            file.flush()
        done = _openssl(
            ["verify", "-partial_chain", "-no_check_time", "-CAfile", above.name, below.name]
        )
    lines = re.findall(r"(?m)^error \d+ at \d+ depth lookup: ?(.*)$", done.stdout + done.stderr)
    return "; ".join(lines) or ("" if done.returncode == 0 else "it cannot be verified")


def _self_signed_before(path: str) -> str | None:
    """Return the self-signed pair that a file holds, if it is of this module and still good."""
    if not os.path.isfile(path):
        return None
    text = read(path)
    chain, problems, _ = _judge_chain(text)
    good = len(chain) == 1 and not problems and not _judge_key(text, chain)
    if good and MAKER in chain[0]["subject"] and chain[0]["end"] - time.time() > RENEWAL * DAY:
        return text
    return None


def _self_sign(names: list) -> str:
    kinds = [f"{'IP' if _is_address(name) else 'DNS'}:{name}" for name in names]
    settings = SELF_SIGNED.format(name=names[0][:64], maker=MAKER, names=", ".join(kinds))
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256", "-days", str(VALID)]
    done = _openssl([*words, "-config", "/dev/stdin", "-keyout", "/dev/stdout"], settings)
    blocks = [*_certificates(done.stdout), *_keys(done.stdout)]
    if done.returncode or len(blocks) != 2:
        raise CommandExecutionError(f"openssl makes no self-signed certificate: {done.stderr}")
    return "".join(f"{block}\n" for block in blocks)


def _is_address(name: str) -> bool:
    return ":" in name or re.fullmatch(r"\d+(\.\d+){3}", name) is not None


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _openssl(words: list, text: str = "", timeout: int = 60) -> subprocess.CompletedProcess:
    """Run openssl; what it reads goes into no log and, but for certificates, into no file."""
    program = shutil.which("openssl")
    if not program:
        raise CommandExecutionError(
            "the program openssl, which certificates are read with, is not on this host; install"
            " the package openssl"
        )
    return subprocess.run(
        [program, *words],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        # Only what is given counts, not what this host trusts.
        env={"PATH": os.environ.get("PATH", ""), "SSL_CERT_DIR": "/x", "SSL_CERT_FILE": "/x"},
    )
