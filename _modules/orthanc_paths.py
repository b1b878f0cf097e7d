"""
The files, folders and programs that Orthanc's options name: what each of them has to be, and
whether it is.

Orthanc itself notices some of them at its start, and dies; others it needs hours later, for an
archive, a worklist or a connection. So all of them are judged beforehand, as the account that
will use them, and where its service runs, as that service sees the file system: its unit may hide
or protect folders.

``PATHS`` is the table. Relative paths are below the folder of the configuration where Orthanc's
server reads them; plugins, DCMTK and libcurl take them for below the folder that the process was
started in, which is / for a service.

https://orthanc.uclouvain.be/book/users/configuration.html
"""

from __future__ import annotations

import os
import re
from collections import namedtuple

import salt.utils.files
import salt.utils.systemd

# What a path names: its ``kind``; the ``mode`` in which the account has to be able to use it;
# whether Orthanc dies without it at its ``start``, or misses it later on; the folder that a
# relative one is below, ``base``; whether a missing one is ``made`` by Orthanc; and the ``switch``
# that has to be on, as the path of an option and what that is where nothing is said.
Place = namedtuple("Place", "kind mode start base made switch", defaults=(False, None))

FILE, FOLDER, PROGRAM, LIBRARY = "file", "folder", "program", "shared library"
# A file whose folder is read as well; one that is made, so that its folder is what matters; and
# several files or folders with colons between them.
SCRIPT, NEW_FILE, CLASSPATH = "script", "database", "classpath"
# A name that the operating system knows, and no path.
LOCALE = "locale"
# The last one is read, and where the account may, files in it are made or removed as well.
READ, WRITE, UPDATE = "read", "write", "update"
START, LATER = True, False
CONFIG, ROOT = "config", "/"

CERTIFICATE = Place(FILE, READ, LATER, ROOT)
WORKLISTS = ("Worklists:Enable", False)
EXPLORER = ("OrthancExplorer2:Enable", True)
STORAGE = ("AdvancedStorage:Enable", True)
EDUCATION = ("Education:Enabled", False)
CREDENTIALS = Place(FILE, READ, START, ROOT)

# By the path of the option; * is any name or number there. Sources: Orthanc's own, those of its
# plugins and the Orthanc Book; (M): measured.
PATHS = {
    "StorageDirectory": Place(FOLDER, WRITE, START, CONFIG, made=True),
    "IndexDirectory": Place(FOLDER, WRITE, START, CONFIG, made=True),
    # Where it cannot be written to, Orthanc aborts at the first asynchronous archive (M).
    "TemporaryDirectory": Place(FOLDER, WRITE, LATER, CONFIG),
    "LuaScripts": Place(FILE, READ, START, CONFIG),
    "Plugins": Place(LIBRARY, READ, START, CONFIG),
    "SslCertificate": Place(FILE, READ, START, CONFIG, switch=("SslEnabled", False)),
    "SslTrustedClientCertificates": Place(
        FILE, READ, START, CONFIG, switch=("SslVerifyPeers", False)
    ),
    "HttpsCACertificates": Place(FILE, READ, LATER, CONFIG, switch=("HttpsVerifyPeers", True)),
    "Pkcs11:Module": Place(LIBRARY, READ, START, ROOT),
    "OrthancPeers:*:CertificateFile": CERTIFICATE,
    "OrthancPeers:*:CertificateKeyFile": CERTIFICATE,
    # Opened also where DicomTlsEnabled is false (M).
    "DicomTlsCertificate": Place(FILE, READ, START, ROOT),
    "DicomTlsPrivateKey": Place(FILE, READ, START, ROOT),
    "DicomTlsTrustedCertificates": Place(FILE, READ, START, ROOT),
    "ExternalDictionaries": Place(FILE, READ, START, ROOT),
    # An unknown one is only an error in the log, and letters beyond ASCII are compared wrongly.
    "Locale": Place(LOCALE, READ, LATER, ROOT),
    "MySQL:SslCACertificates": Place(FILE, READ, START, ROOT, switch=("MySQL:EnableSsl", False)),
    "AwsS3Storage:StorageEncryption:MasterKey:1": CREDENTIALS,
    "AwsS3Storage:StorageEncryption:PreviousMasterKeys:*:1": CREDENTIALS,
    "AzureBlobStorage:StorageEncryption:MasterKey:1": CREDENTIALS,
    "AzureBlobStorage:StorageEncryption:PreviousMasterKeys:*:1": CREDENTIALS,
    "GoogleCloudStorage:StorageEncryption:MasterKey:1": CREDENTIALS,
    "GoogleCloudStorage:StorageEncryption:PreviousMasterKeys:*:1": CREDENTIALS,
    "GoogleCloudStorage:ServiceAccountFile": CREDENTIALS,
    "AdvancedStorage:MultipleStorages:Storages:*": Place(
        FOLDER, WRITE, LATER, ROOT, made=True, switch=STORAGE
    ),
    "AdvancedStorage:Indexer:Folders": Place(
        FOLDER, UPDATE, LATER, ROOT, switch=("AdvancedStorage:Indexer:Enable", False)
    ),
    "DelayedDeletion:Path": Place(
        NEW_FILE, WRITE, START, ROOT, switch=("DelayedDeletion:Enable", True)
    ),
    "Indexer:Folders": Place(FOLDER, UPDATE, LATER, ROOT, switch=("Indexer:Enable", False)),
    "Indexer:Database": Place(NEW_FILE, WRITE, START, ROOT, switch=("Indexer:Enable", False)),
    "DicomWeb:Servers:*:CertificateFile": CERTIFICATE,
    "DicomWeb:Servers:*:CertificateKeyFile": CERTIFICATE,
    "GoogleCloudPlatform:Accounts:*:ServiceAccountFile": CREDENTIALS,
    "GoogleCloudPlatform:Accounts:*:AuthorizedUserFile": CREDENTIALS,
    # Where it is missing or closed, every query for worklists fails (M).
    "Worklists:Database": Place(FOLDER, UPDATE, LATER, ROOT, switch=WORKLISTS),
    "Worklists:Directory": Place(FOLDER, UPDATE, LATER, ROOT, switch=WORKLISTS),
    "WorklistsFolder": Place(FOLDER, UPDATE, LATER, ROOT, switch=WORKLISTS),
    # One folder that is missing is an error in the log, and none of them is served.
    "ServeFolders:*": Place(FOLDER, READ, LATER, ROOT),
    "ServeFolders:Folders:*": Place(FOLDER, READ, LATER, ROOT),
    "Education:WholeSlideImagingDicomizer": Place(PROGRAM, READ, LATER, ROOT, switch=EDUCATION),
    "Education:OpenSlideLibrary": Place(FILE, READ, LATER, ROOT, switch=EDUCATION),
    "OrthancExplorer2:CustomCssPath": Place(FILE, READ, START, ROOT, switch=EXPLORER),
    "OrthancExplorer2:CustomCssVariablesPath": Place(FILE, READ, START, ROOT, switch=EXPLORER),
    "OrthancExplorer2:CustomLogoPath": Place(FILE, READ, START, ROOT, switch=EXPLORER),
    "OrthancExplorer2:CustomFavIconPath": Place(FILE, READ, START, ROOT, switch=EXPLORER),
    "OrthancExplorer2:Emails:Server:CertificateFile": CERTIFICATE,
    "OrthancExplorer2:Emails:Server:CertificateKeyFile": CERTIFICATE,
    "WebViewer:CachePath": Place(FOLDER, WRITE, START, ROOT, made=True),
    "WebViewer:Cache": Place(FOLDER, WRITE, START, ROOT, made=True),
    "WebViewer:ShortTermCachePath": Place(FOLDER, WRITE, START, ROOT, made=True),
    "OHIF:UserConfiguration": Place(FILE, READ, START, ROOT),
    "Python:Path": Place(SCRIPT, READ, START, ROOT),
    "PythonScript": Place(SCRIPT, READ, START, ROOT),
    "Java:Classpath": Place(CLASSPATH, READ, START, ROOT, switch=("Java:Enabled", True)),
}
# What Orthanc looks for where a path is not given and its switch is on (M).
DEFAULTS = {"SslCertificate": "certificate.pem"}
# Runs tests of test(1), given as pairs, and tells of each whether it holds.
ASK = 'while [ $# -gt 0 ]; do if test "$1" "$2"; then echo y; else echo n; fi; shift 2; done'
# The least free space that makes sense where images or the like are written, in bytes.
LEAST_SPACE = 10 * 1024 * 1024
FLAGS = ("-f", "-d", "-r", "-w", "-x")
# Folders that are not to be opened for a service, nor given to it.
OF_OTHERS = re.compile(r"/(\w+|(home|var|etc)/[^/]+|usr(/.*)?|root/.*)?")


def unmade(made):
    """
    Part of the formula. Return why folders cannot be made for others, a list of sentences.

    made
        A mapping from the path of each to the name of the account that it will be of.
    """
    found = []
    for folder, writer in made.items():
        if __salt__["orthanc_host.account"](writer) is None:
            found.append(
                f"orthanc:worklists:writer: this host has no account {writer}; make it first, as by"
                f" `useradd --system {writer}`, or take the key out: then root writes there"
            )
        if os.path.islink(folder):
            found.append(
                f"orthanc:worklists:folder: {folder} is a link; write where it leads to,"
                f" {os.path.realpath(folder)}"
            )
        elif os.path.lexists(folder) and not os.path.isdir(folder):
            found.append(
                f"orthanc:worklists:folder: {folder} is no folder; move it away, or choose another"
            )
    return found


def found(options, pattern):
    """
    Part of the formula. Return the values of options at a path, as a list of pairs: the path as a
    list of names, and the value.

    options
        A mapping from option name to value.

    pattern
        The names of the path, joined by colons; ``*`` stands for any name or position.
    """
    places: list = [([], options)]
    for name in pattern.split(":"):
        below = []
        for path, value in places:
            items = value if isinstance(value, dict) else {}
            if isinstance(value, (list, tuple)):
                items = {str(number): item for number, item in enumerate(value)}
            keys = items if name == "*" else [name] if name in items else []
            below += [([*path, str(key)], items[key]) for key in keys]
        places = below
    return places


def named(options, folder):
    """
    Part of the formula. Return what the options name, as a list of tuples: the path of the option
    as a list of names, the path on the host, and the row of ``PATHS``.

    options
        A mapping from option name to value.

    folder
        The path of the folder of the configuration.
    """
    places = []
    for pattern, place in PATHS.items():
        if not _is_on(options, place.switch):
            continue
        base = folder if place.base == CONFIG else place.base
        for path, value in found({**DEFAULTS, **options}, pattern):
            items = [(path, value)]
            if isinstance(value, (list, tuple)):
                items = [([*path, str(number)], item) for number, item in enumerate(value)]
            for where, text in items:
                if isinstance(text, str) and text and "\0" not in text:
                    several = text.split(":") if place.kind == CLASSPATH else [text]
                    places += [(where, os.path.join(base, one), place) for one in several if one]
    return places


def written(options, folder):
    """
    Part of the formula. Return the folders that Orthanc writes to, as a mapping from path to
    whether Orthanc makes it where it is missing.

    options
        A mapping from option name to value.

    folder
        The path of the folder of the configuration.
    """
    places = [(path, place) for _, path, place in named(options, folder) if place.mode != READ]
    # Beside a database are its journals.
    return {
        os.path.dirname(path) if place.kind == NEW_FILE else path: place.made
        for path, place in places
    }


def judge(options, folder, who=None, known=(), coming=(), command=None):
    """
    Part of the formula. Say what is wrong with the files, folders and programs that the options
    name.

    options
        A mapping from option name to value.

    folder
        The path of the folder of the configuration.

    who
        The account that will use them: a mapping with its ``user``, its ``group`` and perhaps the
        ``service``, for what its unit hides, or the words that run a command as it will be run,
        ``run``, where its unit will be another one; and ``prepared``, true where that makes missing
        folders before it hides anything. Without an account, or where it does not exist, only what
        is there and of what kind counts.

    known
        A list of mappings from option name to value: what the server has now, or what nobody asked
        for. What they name is warned about; without what its start needs, Orthanc cannot be
        restarted with anything, so that is a problem as well.

    coming
        The paths of what will be there by then, with the right owner.

    command
        The path of Orthanc's program, which libraries have to fit.

    Returns ``problems`` and ``warnings``, each a list of pairs: the path of the option as a list
    of names, and a sentence.
    """
    places = named(options, folder)
    before = {(":".join(w), path) for each in known for w, path, _ in named(each, folder)}
    see = _Sight([path for _, path, _ in places], who)
    judged: dict = {"problems": [], "warnings": []}
    for where, path, place in places:
        full = _full(path) if place.mode == WRITE else ""
        reason = "" if path in coming else _reason(path, place, see, command)
        value = str(found({**DEFAULTS, **options}, ":".join(where))[0][1])
        if reason and place.base == ROOT and place.kind != LOCALE and value[0] != "/":
            reason = _misplaced(value, folder)
        if not (reason or full):
            continue
        pair, in_use = (where, reason or full), (":".join(where), path) in before
        if in_use:
            judged["warnings"].append(pair)
        if not in_use or (reason and place.start):
            judged["problems"].append(pair)
    return judged


def _is_on(options: dict, switch) -> bool:
    """Return whether what a path belongs to is switched on."""
    if not switch:
        return True
    values = [value for _, value in found(options, switch[0])]
    return bool(values[0]) if values else switch[1]


def _above(path: str) -> list[str]:
    """Return the folders above a path, the outermost first."""
    folders: list = []
    while os.path.dirname(path) != path:
        path = os.path.dirname(path)
        folders.insert(0, path)
    return folders


def _nearest(path: str) -> str:
    """Return the folder itself, or the nearest one above it that is there."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


class _Sight:
    """What an account of this host sees and may do with paths and the folders above them."""

    def __init__(self, paths: list, who: dict | None):
        self.user, self.group = (who or {}).get("user", ""), (who or {}).get("group", "")
        self.service = (who or {}).get("service")
        everything = sorted({part for path in paths for part in [path, *_above(path)]})
        self.asked = [(flag, path) for path in everything for flag in FLAGS]
        switch = __salt__["orthanc_host.as_account"](self.user, self.group)
        self.user = self.user if switch else ""
        self.plain = self._ask(switch)
        inside = _inside(self.service) if switch and self.service else []
        run = (who or {}).get("run")
        if switch and run:
            # systemd would put a variable in the place of what follows a $.
            self.inside = self._ask(run, dollar="$$")
        else:
            self.inside = self._ask([*inside, *switch]) if inside else {}
        self.prepared = bool((who or {}).get("prepared"))

    def _ask(self, words: list, dollar: str = "$") -> dict:
        """Return what test(1) says; nothing where it cannot be asked."""
        if not self.asked:
            return {}
        asked = [part for pair in self.asked for part in pair]
        question = [word.replace("$", dollar) for word in ("sh", "-c", ASK, "sh", *asked)]
        lines = (__salt__["orthanc_host.ask"]([*words, *question]) or "").split()
        return dict(zip(self.asked, [line == "y" for line in lines])) if lines else {}

    def may(self, flag: str, path: str) -> bool:
        pair = (flag, path)
        return self.inside.get(pair, self.plain.get(pair, True))

    def may_make(self, folder: str) -> bool:
        """Return whether something can be made in a folder before the service is started."""
        seen = self.plain if self.prepared else {**self.plain, **self.inside}
        return all(seen.get((flag, folder), True) for flag in ("-w", "-x"))

    def is_hidden(self, flag: str, path: str) -> bool:
        """Return whether it is the unit of the service that is in the way."""
        return not self.may(flag, path) and self.plain.get((flag, path), True)

    def closed(self, path: str) -> str:
        """Return the folder above a path that may not be entered, if there is one."""
        return next((above for above in _above(path) if not self.may("-x", above)), "")


def _inside(service: str) -> list[str]:
    """Return the words that run a command where the service sees the file system, if it runs."""
    pid = "".join(__salt__["orthanc_host.unit"](service, "MainPID"))
    return ["nsenter", "--target", pid, "--mount", "--"] if pid not in ("", "0") else []


def _reason(path: str, place: Place, see: _Sight, command: str | None) -> str:
    """Return what is wrong with a path, or an empty text."""
    if place.kind == LOCALE:
        return _no_locale(os.path.basename(path))
    if place.kind == LIBRARY and not os.path.exists(path) and not path.endswith(".so"):
        return ""  # of a folder that is not there nothing is loaded
    if place.kind == CLASSPATH:
        path = path.rstrip("*")
    if place.kind == NEW_FILE and not os.path.exists(path):
        path = os.path.dirname(path)
    if not os.path.exists(path):
        return _missing(path, place, see)
    is_folder = os.path.isdir(path)
    wanted = {FOLDER: True, NEW_FILE: is_folder, CLASSPATH: is_folder, LIBRARY: is_folder}
    if is_folder != wanted.get(place.kind, False):
        return f"{path} is no {'file' if is_folder else 'folder'}; choose another one"
    flags = ["-d", "-r", "-x"] if is_folder else ["-f", "-r"]
    flags += ["-w"] * (place.mode == WRITE) + ["-x"] * (place.kind == PROGRAM)
    reason = _closed(path, flags, see)
    if not reason and place.kind == SCRIPT:
        # Python lists it for what the script imports, and finds nothing where it may not.
        reason = _closed(os.path.dirname(path), ["-d", "-r", "-x"], see)
    if not reason and place.kind == LIBRARY and not is_folder:
        reason = _no_library(path, command)
    return reason


def _missing(path: str, place: Place, see: _Sight) -> str:
    owner = f" -o {see.user} -m 0750" if place.mode == WRITE and see.user else ""
    if place.made:
        parent = _nearest(path)
        if see.may_make(parent):
            return ""
        return (
            f"{path} is not there, and the user {see.user} may not make it in {parent}; make it:"
            f" install -d{owner} {path}"
        )
    if place.kind in (FOLDER, NEW_FILE):
        return f"there is no folder {path}; make it (install -d{owner} {path}), or correct the path"
    return f"{path} is no file of this host; put it there, or correct the path"


def _closed(path: str, flags: list, see: _Sight) -> str:
    """Return why an account may not do with a path what it has to."""
    refused = next((flag for flag in flags if not see.may(flag, path)), "")
    if not refused:
        return ""
    if os.statvfs(path).f_flag & os.ST_RDONLY and refused == "-w":
        return f"{path} is on a file system that is read-only; choose another place"
    if see.is_hidden(refused, path):
        return (
            f"{path} is hidden or protected by the unit of {see.service} (ProtectHome, PrivateTmp,"
            " ProtectSystem, as `systemctl cat` shows); choose another place, such as below /srv"
        )
    verb = "written to" if refused == "-w" else "read"
    return f"{path} cannot be {verb} by the user {see.user}{_remedy(path, refused, see)}"


def _remedy(path: str, refused: str, see: _Sight) -> str:
    """Return the end of the sentence that an account may not use a path."""
    closed = see.closed(path)
    if closed:
        end = f", who may not enter {closed}; move it to another place"
        return end if OF_OTHERS.fullmatch(closed) else f"{end}, or chmod o+x {closed}"
    if os.path.isdir(path) and OF_OTHERS.fullmatch(path):
        return "; choose a folder for Orthanc alone"
    if refused == "-w":
        return f"; give it to {see.user}: chown {see.user} {path}"
    right = "rx" if os.path.isdir(path) else "r"
    return f"; let its group do so: chgrp {see.group} {path}; chmod g+{right} {path}"


def _no_library(path: str, command: str | None) -> str:
    """Return why a file is no library for Orthanc, which says then that there is no such file."""
    if not _architecture(path):
        return f"{path} is no shared library"
    if command and _architecture(command) not in (None, _architecture(path)):
        return (
            f"{path} is built for another processor than this host's Orthanc; take the file for"
            f" {os.uname().machine}"
        )
    return ""


def _architecture(path: str):
    """Return what a program or library says of the processor that it is for; None if it is none."""
    if not os.path.isfile(path):
        return None
    with salt.utils.files.fopen(path, "rb") as file:
        header = file.read(20)
    # ELF: 32 or 64 bits, order of bytes, machine
    return (header[4:6], header[18:20]) if header[:4] == b"\x7fELF" else None


def _misplaced(value: str, folder: str) -> str:
    """Return where a relative path is looked for, of those that are not below the configuration."""
    near = os.path.join(folder, value)
    remedy = f"write {near}" if os.path.exists(near) else "write the whole path"
    return (
        f"{value} is looked for in the folder that Orthanc is started in, which is / for a service;"
        f" {remedy}"
    )


def _full(path: str) -> str:
    """Return that nothing can be written at a path, because of its file system."""
    folder = _nearest(path)
    state = os.statvfs(folder)
    free = state.f_bavail * state.f_frsize
    if state.f_flag & os.ST_RDONLY:
        return f"{folder} is on a file system that is read-only; choose another place"
    if free < LEAST_SPACE or (state.f_files and not state.f_favail):
        return f"the file system of {folder} is full ({free // 2**20} MiB are free); make room"
    return ""


def _no_locale(name: str) -> str:
    """Return that the host has no such locale, if it can be told."""
    known = __salt__["orthanc_host.ask"](["locale", "-a"])
    if not known or _plain(name) in map(_plain, known.splitlines()):
        return ""
    return (
        f"this host has no locale {name}; make it (with locale-gen or localedef), or take one that"
        " `locale -a` lists"
    )


def _plain(locale: str) -> str:
    """Return a locale in the form in which two spellings of it are the same: utf8 is UTF-8."""
    language, _, encoding = locale.partition(".")
    return f"{language}.{encoding.lower().replace('-', '')}"
