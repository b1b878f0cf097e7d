"""
What the unit of the service keeps from Orthanc: rows of systemd's directives, as lines of its
drop-in, and as arguments of ``systemd-run`` for what has to be tried as the service will be.

The rows come from the formula and the pillar, in the *hardening* of a configuration, a mapping:

drop_in
    The path of the drop-in among its ``texts``, which gets the lines.

rows
    From directive to value: true, false, a text, or a list of which each item is a line.

given
    The same of the pillar, in their place; its folders come to those that Orthanc writes to.

folders
    A list of the folders that Orthanc writes to besides those that the options name.

What follows from the options is put to them here: where Orthanc writes, whether something of it
lies in a home or in ``/tmp``, and whether a port is below those that everybody may open.

https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html
"""

from __future__ import annotations

import logging
import os
import re

import salt.utils.files
import salt.utils.systemd

log = logging.getLogger(__name__)

# The first line of the rows in the drop-in.
TITLE = "# What Orthanc has no need of; orthanc:hardening in the pillar."
WRITABLE = "ReadWritePaths"
# Where ProtectHome and PrivateTmp of systemd leave nothing.
HOMES, TEMPORARY = ("/home", "/root", "/run/user"), ("/tmp", "/var/tmp")  # noqa: S108 not made
# What a port below 1024 takes, for an account that is not root.
LOW_PORT = "CAP_NET_BIND_SERVICE"
CAPABILITIES = ("AmbientCapabilities", "CapabilityBoundingSet")
# The parameters of a connection to PostgreSQL that may name a file or a folder.
OF_DATABASE = ("host", "sslrootcert", "sslcert", "sslkey", "sslcrl")
# What others may have set in the unit that has to do with it.
OF_OTHERS = re.compile(
    r"(Private|Protect|Restrict|SystemCall|IPAddress|SocketBind)\w+|\w+Paths|\w+Capabilities"
    r"|CapabilityBoundingSet|NoNewPrivileges|MemoryDenyWriteExecute|LockPersonality|Device\w+"
    r"|TemporaryFileSystem|ProcSubset|KeyringMode|SupplementaryGroups|UMask|LimitMEMLOCK"
)
# What a unit takes as it is.
PLAIN = re.compile("[A-Za-z0-9/._+:-]*")
RUN = [
    *("systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--no-ask-password"),
    # Otherwise the journal has all of the command.
    "--description=Something tried as the service of Orthanc would do it",
]


def texts(name, wanted, options):
    """
    Part of the formula. Return the texts of a configuration, with the rows in the drop-in of the
    unit.

    name
        The path of the folder of the configuration.

    wanted
        What ``orthanc_layers.complete`` returned.

    options
        A mapping from option name to value.
    """
    hardening = wanted["hardening"]
    if not hardening:
        return wanted["texts"]
    drop_in = hardening["drop_in"]
    found = rows(name, wanted, options)
    lines = [wanted["texts"][drop_in].rstrip("\n"), TITLE]
    # Orthanc would make these itself, and could not any more.
    account = __salt__["orthanc_host.as_account"](wanted["user"], wanted["group"])
    for path in _made(name, wanted, options) if account else ():
        lines.append(f"ExecStartPre=+-{' '.join(account)} mkdir -p -- {_in_unit(_quoted(path))}")
    lines += [f"{row}={_in_unit(value)}" for row, value in _lines(found)]
    return {**wanted["texts"], drop_in: "\n".join(lines) + "\n"}


def rows(name, wanted, options):
    """
    Part of the formula. Return the rows: a mapping from directive to a list of values, each of
    which is a line of its own.

    name, wanted, options
        See ``texts``.
    """
    hardening = wanted["hardening"]
    places = _places(name, wanted, options)
    found = {**hardening["rows"], **_of_places([path for path, _ in places])}
    found.update({row: value for row, value in hardening["given"].items() if row != WRITABLE})
    if min(_ports(_everything(name, wanted, options)), default=65536) < first_open_port():
        # Where a user name space is another one, it is none of the host's.
        found["PrivateUsers"] = False
        for row in CAPABILITIES:
            given = found.get(row)
            found[row] = [*dict.fromkeys([*(given if isinstance(given, list) else ()), LOW_PORT])]
    writable = [path for path, is_written in places if is_written]
    writable += hardening["given"].get(WRITABLE) or []
    # A private one is open to it anyway.
    writable += TEMPORARY if not found.get("PrivateTmp") else ()
    # One that is missing must not be what keeps Orthanc from starting: it has better words for it.
    found[WRITABLE] = sorted({f"-{path.lstrip('-')}" for path in writable})
    # What is switched off and is no switch is left out.
    return {
        row: _values(value)
        for row, value in found.items()
        if value is not False or isinstance(hardening["rows"].get(row), bool)
    }


def _values(value) -> list[str]:
    """Return the values of a directive as systemd has them."""
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _lines(found: dict) -> list[tuple]:
    """Return pairs of directive and value, in an order that is always the same."""
    return [
        (row, _quoted(value) if row.endswith("Paths") else value)
        for row in sorted(found)
        for value in found[row]
    ]


def _of_places(paths: list) -> dict:
    """Return the rows that are not as closed as they could be, because of what lies there."""
    real = [os.path.realpath(path) for path in paths]
    found: dict = {}
    if any(_is_below(path, HOMES) for path in real):
        found["ProtectHome"] = "read-only"
    if any(_is_below(path, TEMPORARY) for path in real):
        found["PrivateTmp"] = False
    return found


def _is_below(path: str, folders: tuple) -> bool:
    return any(f"{path}/".startswith(f"{folder}/") for folder in folders)


def _everything(name: str, wanted: dict, options: dict) -> dict:
    """Return all options that Orthanc will have, those of other files among them."""
    managed = [wanted["main_file"], *wanted["option_files"]]
    others = __salt__["orthanc_folder.options"](name, managed)
    return __salt__["orthanc_folder.with_places"]({**others, **options}, name)


def _places(name: str, wanted: dict, options: dict) -> list[tuple]:
    """Return what Orthanc uses: pairs of a path, and whether it is written to."""
    everything = _everything(name, wanted, options)
    written = __salt__["orthanc_paths.written"](everything, name)
    found = [(path, True) for path in (*wanted["hardening"]["folders"], *written)]
    found += [(path, False) for _, path, _ in __salt__["orthanc_paths.named"](everything, name)]
    section = __salt__["orthanc_postgresql.section_of"](everything)
    parameters = __salt__["orthanc_postgresql.parameters_of"](section) or {}
    database = [parameters.get(key, "") for key in OF_DATABASE] if section else []
    found += [(path, False) for path in database if path.startswith("/")]
    return [(os.path.normpath(path), is_written) for path, is_written in found]


def _made(name: str, wanted: dict, options: dict) -> list[str]:
    """Return the folders that Orthanc makes where they are missing."""
    written = __salt__["orthanc_paths.written"](_everything(name, wanted, options), name)
    found = {os.path.normpath(path) for path, is_made in written.items() if is_made}
    below = tuple(wanted["hardening"]["folders"])
    return sorted(path for path in found if not _is_below(path, below))


def _ports(options: dict) -> list[int]:
    """Return the ports that Orthanc listens on."""
    found = [options.get("HttpPort", 8042)]
    if options.get("DicomServerEnabled", True):
        found.append(options.get("DicomPort", 4242))
    pairs = __salt__["orthanc_paths.found"](options, "MultitenantDicom:Servers:*:Port")
    found += [port for _, port in pairs]
    return [port for port in found if isinstance(port, int) and not isinstance(port, bool)]


def first_open_port():
    """
    Part of the formula. Return the number of the first port that each account may open.
    """
    setting = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
    if not os.path.exists(setting):
        return 1024
    with salt.utils.files.fopen(setting) as file:
        return int(file.read())


def _quoted(path: str) -> str:
    """Return a path, in quotes where it needs them."""
    if PLAIN.fullmatch(path):
        return path
    return '"{}"'.format(re.sub(r'(["\\])', r"\\\1", path))


def _in_unit(value: str) -> str:
    """Return a value as it stands in a file, where a percent sign begins a name of systemd's."""
    return value.replace("%", "%%")


def words(name, wanted, options, without=None):
    """
    Part of the formula. Return the words that run a command as the service will be run: with its
    account, and with what its unit will keep from it. They end where a name of the unit, or more of
    its properties, may follow.

    name, wanted, options
        See ``texts``.

    without
        The name of a directive that is left out.
    """
    before, behind = _of_others(wanted)
    own = _lines(rows(name, wanted, options))
    pairs = [("User", wanted["user"]), ("Group", wanted["group"]), *before, *own, *behind]
    # Packages that are not installed.
    pairs += [("ExtensionDirectories", wanted["aside"])] if wanted["aside"] else []
    return [
        *RUN,
        *(f"--property={row}={value}" for row, value in pairs if row != without),
    ]


def of_unit(service, user, group, more):
    """
    Part of the formula. Return the words that run a command as a service is run by now, like
    ``words``, but for the ports that it may listen on; none where systemd cannot do that, and the
    log says why.

    service
        Its name.

    user, group
        The names of its account and of its group.

    more
        A list of pairs of a directive and its value, besides.
    """
    if not salt.utils.systemd.booted(__context__):
        return []
    found = [(row, value) for _, row, value in _lines_of(service) if not row.startswith("Socket")]
    pairs = [("User", user), ("Group", group), *found, *more]
    command = [*RUN, *(f"--property={row}={value}" for row, value in pairs)]
    why_not = refused(command)
    if why_not:
        log.warning("Orthanc is tried without what its unit keeps from it: %s", why_not)
    return [] if why_not else command


def _of_others(wanted: dict) -> tuple[list, list]:
    """
    Return the lines that are not the formula's of what systemd makes the unit of, as pairs: those
    before the drop-in, such as the package's, and those behind it.
    """
    done, drop_in = ([], []), os.path.basename(wanted["hardening"]["drop_in"])
    for entry, row, value in _lines_of(wanted["service"]):
        if entry != drop_in:
            done[entry.endswith(".conf") and entry > drop_in].append((row, value))
    return done


def _lines_of(service: str) -> list[tuple]:
    """Return what lines of a unit keep from it, each with the name of its file."""
    found = []
    for path, section, row, value in __salt__["orthanc_host.unit_lines"](service):
        is_one = section == "[Service]" and OF_OTHERS.fullmatch(row)
        # What stands for something else there would stand for another thing here.
        if is_one and "%" not in value.replace("%%", ""):
            found.append((os.path.basename(path), row, value.replace("%%", "%")))
    return found


def changed(name, wanted, options):
    """
    Part of the formula. Return whether the unit will be another one than that which the service was
    started with, as far as can be told.

    name, wanted, options
        See ``texts``.
    """
    drop_in = wanted["hardening"]["drop_in"]
    current = __salt__["orthanc_files.read_if_there"](drop_in)
    return (
        __salt__["orthanc_files.unproven"](name)
        or current != (texts(name, wanted, options)[drop_in])
    )


def refused(command):
    """
    Part of the formula. Return why systemd cannot run anything so, in its own words; an empty text
    where it can.

    command
        What ``words`` returned.
    """
    result = __salt__["cmd.run_all"](
        [*command, "true"], python_shell=False, ignore_retcode=True, output_loglevel="quiet"
    )
    if not result["retcode"]:
        return ""
    return " ".join(result["stderr"].split()) or f"systemd-run ended with {result['retcode']}"


def sentence(row, path):
    """
    Part of the formula. Return that a directive is in the way of Orthanc's start, and what lets it
    start.

    row
        The name of the directive; an empty text where it is not any of them alone.

    path
        What Orthanc says that it cannot write, a text that may be empty.
    """
    pillar = "orthanc:hardening"
    if row == "ProtectSystem":
        folder = os.path.dirname(path) if path else "FOLDER"
        return (
            f"({pillar}:{WRITABLE}: the unit lets Orthanc write to its own folders only; where this"
            f" is to be one, add {WRITABLE}: [{folder}])"
        )
    if row:
        return (
            f"({pillar}:{row}: this is what keeps Orthanc from it; where you trust what needs it,"
            f" set {row}: false)"
        )
    return (
        f"({pillar}: without what the unit keeps from Orthanc it starts; more than one directive is"
        f" in the way, so look at the lines above, or set {pillar}: false)"
    )


def unknown(row, refused):
    """
    Part of the formula. Return that systemd on this host cannot do what a directive asks for.

    row
        Its name; an empty text where it is not any of them alone.

    refused
        What systemd says.
    """
    pillar, remedy = f"orthanc:hardening:{row}".rstrip(":"), f"set {row}: false" if row else ""
    remedy = remedy or "set it to false"
    return f"({pillar}: systemd on this host cannot run anything so; {remedy}. It says: {refused})"
