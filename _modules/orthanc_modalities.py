"""
Who the DICOM devices are that ask this server: what Orthanc makes of title and address.

With ``DicomCheckModalityHost``, Orthanc holds the address that a connection comes from against the
``Host`` of the modality with its title, letter by letter: it resolves no names, and its DICOM
server listens on IPv4 only. Of two modalities with one title it lets every address do what both of
them may. (Measured with 1.10.1, 1.12.7 and 1.13.0.)

https://orthanc.uclouvain.be/book/faq/security.html
"""

from __future__ import annotations

import ipaddress

# What a device may ask for, the option that gives the same to everybody, and its default. The last
# two are set by AllowStorageCommitment as well.
RIGHTS = {
    "AllowEcho": ("DicomAlwaysAllowEcho", True),
    "AllowStore": ("DicomAlwaysAllowStore", True),
    "AllowFind": ("DicomAlwaysAllowFind", False),
    "AllowFindWorklist": ("DicomAlwaysAllowFindWorklist", False),
    "AllowGet": ("DicomAlwaysAllowGet", False),
    "AllowMove": ("DicomAlwaysAllowMove", False),
    "AllowNAction": (None, False),
    "AllowEventReport": (None, False),
}
COMMITMENT = frozenset({"AllowNAction", "AllowEventReport"})


def check(options, before=None):
    """
    Part of the formula. Say which modalities would not be known by title and address.

    options
        A mapping from option name to value.

    before
        The options that the server has now.

    Returns ``problems``, and ``warnings`` for what was so before as well; each a list of pairs of
    an option's path and a sentence. Both are empty where addresses are not looked at.
    """
    if not _checked(options):
        return {"problems": [], "warnings": []}
    old = {tuple(path): worth for path, worth, _ in _mistakes(before or {})}
    found = {"problems": [], "warnings": []}
    for path, worth, sentence in _mistakes(options):
        # What a server has in use, and was not made worse, must not stop it.
        kind = "warnings" if worth <= old.get(tuple(path), frozenset()) else "problems"
        found[kind].append((path, sentence))
    return found


def _checked(options: dict) -> bool:
    """Return whether anybody is looked at by address."""
    listens = options.get("DicomServerEnabled", True) is True
    return listens and options.get("DicomCheckModalityHost") is True


def _mistakes(options: dict) -> list:
    """Return what is wrong: an option's path, how much of it, and a sentence for each."""
    known, titled = _modalities(options), {}
    for name, (title, _, _) in known.items():
        titled.setdefault(title, []).append(name)
    first = {title: min(names) for title, names in titled.items()}
    closed = not any(_open_to_all(options, right) for right in RIGHTS)
    found = []
    for name, (title, host, rights) in known.items():
        path = ["DicomModalities", name]
        asks = frozenset(right for right in rights if not _open_to_all(options, right))
        # Where addresses are not looked at, there is nothing wrong with a name.
        if asks and not _is_address(host) and _checked(options):
            found.append(([*path, "Host"], asks | {host}, _unmatched(host, asks)))
        if name != first[title] or len(titled[title]) == 1:
            continue
        others = [other for other in titled[title] if other != name]
        shared = asks.intersection(*(known[other][2] for other in others))
        if closed:
            found.append(([*path, "AET"], frozenset(others), _only_one(name, others)))
        elif shared:
            found.append(([*path, "AET"], shared, _same_title(others, shared)))
    return found


def _unmatched(host: str, asks: frozenset) -> str:
    return (
        f"{host} is not an IPv4 address, and Orthanc looks no name up to know this device: it would"
        " refuse what it asks for; set it to the address that the device comes from, which"
        f" `getent ahosts {host}` may tell. If this server only sends to it, set {_listed(asks)} to"
        " false. To know all devices by their title alone, set orthanc:dicom:check_modality_host to"
        " false"
    )


def _same_title(others: list, shared: frozenset) -> str:
    return (
        f"is the title of {', '.join(sorted(others))} too, and what all of them may"
        f" ({_listed(shared)}), Orthanc lets every address do that calls itself so; give each"
        " device a title of its own. If one device has several addresses, add one modality more"
        f" with this title, Host 0.0.0.0, and {_listed(shared)} set to false"
    )


def _only_one(name: str, others: list) -> str:
    return (
        f"is the title of {', '.join(sorted(others))} too, and Orthanc lets nobody with it connect"
        f" but from the address of {name}, because neither echo nor store is open to all; give each"
        " device a title of its own"
    )


def _modalities(options: dict) -> dict:
    """Return title, host and rights of each modality of the right form, by its name."""
    found, given = {}, options.get("DicomModalities")
    for name, item in given.items() if isinstance(given, dict) else ():
        entry = dict(zip(("AET", "Host"), item)) if isinstance(item, (list, tuple)) else item
        if not isinstance(entry, dict):
            continue
        title, host = entry.get("AET"), entry.get("Host")
        if isinstance(title, str) and isinstance(host, str):
            if options.get("StrictAetComparison") is not True:
                title = title.lower()
            rights = frozenset(right for right in RIGHTS if _may(entry, right))
            found[str(name)] = (title, host, rights)
    return found


def _may(entry: dict, right: str) -> bool:
    both = entry.get("AllowStorageCommitment") if right in COMMITMENT else None
    return (entry.get(right, True) if both is None else both) is not False


def _open_to_all(options: dict, right: str) -> bool:
    option, default = RIGHTS[right]
    return options.get(option, default) is True


def _is_address(host: str) -> bool:
    """Return whether a text is an IPv4 address in the form in which the system gives it."""
    try:
        return str(ipaddress.IPv4Address(host)) == host
    except ValueError:
        return False


def _listed(names) -> str:
    """Return names in words, those of rights as an administrator would write them."""
    if names >= COMMITMENT:
        names = names - COMMITMENT | {"AllowStorageCommitment"}
    return ", ".join(sorted(names))
