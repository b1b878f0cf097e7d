"""
What there is on this host: processes and their sockets, accounts, file systems.

https://man7.org/linux/man-pages/man5/proc.5.html
"""

from __future__ import annotations

import contextlib
import glob
import ipaddress
import os
import pwd
import re
import subprocess
import sys
import time

import salt.utils.files
import salt.utils.systemd
from salt.exceptions import CommandExecutionError, SaltInvocationError

# The state of a socket that takes connections, in the tables of the kernel.
LISTEN, CONNECTED = "0A", "01"
# The same of a socket that has a path.
ACCEPTS = 0x10000
# For how many seconds after its start an Orthanc that does not listen yet is left to itself.
SETTLING = 10
# For how many seconds a program may take that is asked for something.
PATIENCE = 60
# Where the kernel tells of its block devices, by their numbers.
DEVICES = "/sys/dev/block"


def programs():
    """
    Part of the formula. Return the programs that run, also those of containers, as a mapping from
    the folder of the process below /proc to the path of the program: None where this process may
    not look, as in a container without CAP_SYS_PTRACE.
    """
    found = {}
    for process in glob.glob("/proc/[0-9]*"):
        try:
            program = os.readlink(f"{process}/exe")
            # Behind the name of one that was upgraded while it runs, the kernel notes that.
            found[process] = re.sub(r" \(deleted\)$", "", program)
        except PermissionError:
            found[process] = None
        except OSError:
            continue  # it has ended meanwhile, or is one of the kernel's own
    return found


def orthancs():
    """
    Part of the formula. Return the folders below /proc of the processes that run Orthanc's program
    on this host and in no container, a list of paths.
    """
    return [
        process
        for process, program in programs().items()
        if os.path.basename(program or "").lower() == "orthanc" and _is_here(process)
    ]


def _is_here(process: str) -> bool:
    """Return whether a process is none of a container, and can be looked at."""
    with contextlib.suppress(OSError):
        return os.readlink(f"{process}/ns/pid") == os.readlink("/proc/self/ns/pid")
    return False


def started(process):
    """
    Part of the formula. Return when a process was started, in seconds of the clock.

    process
        Its folder below /proc.

    Raises OSError if it has ended.
    """
    with salt.utils.files.fopen(f"{process}/stat") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    with salt.utils.files.fopen("/proc/uptime") as file:
        uptime = float(file.read().split()[0])
    return time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")


def stands_still(process):
    """
    Part of the formula. Return whether all threads of a process are stopped, or it has ended.

    process
        Its folder below /proc.
    """
    for path in glob.glob(f"{process}/task/*/stat"):
        with contextlib.suppress(OSError), salt.utils.files.fopen(path) as file:
            if file.read().rpartition(")")[2].split()[0] not in "TtXZ":
                return False
    return True


def settle():
    """
    Part of the formula. Wait until an Orthanc that has just been started, as by its package,
    listens on a port.

    Up to then it may be making its index, and one that is stopped in the middle of that leaves an
    index with which no Orthanc starts any more.
    """
    deadline = time.monotonic() + SETTLING
    while time.monotonic() < deadline and any(map(_is_starting, orthancs())):
        time.sleep(0.1)


def _is_starting(process: str) -> bool:
    """Return whether an Orthanc has just been started and does not listen yet."""
    with contextlib.suppress(OSError):  # It may have ended meanwhile.
        if time.time() - started(process) < SETTLING:
            return set(opened(process).values()).isdisjoint(listening())
    return False


def opened(process):
    """
    Part of the formula. Return what a process has open, as a mapping from link to what it leads to;
    what it closes meanwhile is not among it.

    process
        Its folder below /proc.
    """
    found = {}
    for link in glob.glob(f"{process}/fd/*"):
        with contextlib.suppress(OSError):
            found[link] = os.readlink(link)
    return found


def has_open(process, path):
    """
    Part of the formula. Return whether a process has a file open.

    process
        Its folder below /proc.

    path
        The path of the file.
    """
    return any(_is_same(link, path) for link in opened(process))


def backend(index):
    """
    Part of the formula. Return where the Orthanc that runs keeps its index; see
    ``orthanc.backend``.

    index
        The path of the file in which SQLite would have it.
    """
    found = "unknown" if None in programs().values() else None
    for process in orthancs():
        try:
            with salt.utils.files.fopen(f"{process}/maps", errors="replace") as file:
                mapped = file.read()
        except OSError:
            continue  # it has ended meanwhile
        if has_open(process, index):
            return "SQLite"
        if "PostgreSQLIndex" in mapped:
            found = "PostgreSQL"
    return found


def _is_same(link: str, path: str) -> bool:
    # Closed meanwhile, or there is no such file, or there can be none.
    with contextlib.suppress(OSError, ValueError):
        return os.path.samefile(link, path)
    return False


def require_root():
    """
    Part of the formula. Return nothing where root asks.

    Raises CommandExecutionError where it is somebody else.
    """
    if os.geteuid():
        raise CommandExecutionError("only root may do this; call it with sudo")


def require_flags(given):
    """
    Part of the formula. Return nothing where arguments of people are each True or False: any other
    text would be taken for True, and any other number for either.

    given
        A mapping from the name of each to its value.

    Raises SaltInvocationError where one is something else.
    """
    for name, value in given.items():
        if not isinstance(value, bool):
            raise SaltInvocationError(f"{name} must be True or False, but is {value!r}")


def require_number(name, value, most=None):
    """
    Part of the formula. Return nothing where an argument of people is a whole number from 1 on.

    name, value
        Its name and its value.

    most
        The largest that it may be; None for any.

    Raises SaltInvocationError where it is something else.
    """
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not whole or (most and value > most):
        end = f"to {most}" if most else "on"
        raise SaltInvocationError(f"{name} must be a whole number from 1 {end}, but is {value!r}")


def listening(port=None):
    """
    Part of the formula. Return the sockets that listen, as a mapping from what a link to each leads
    to, to its address as the kernel writes it.

    port
        The number of a port, for those at it; by default all.
    """
    return {f"socket:[{row[9]}]": row[1].partition(":")[0] for row in _listening(port)}


def _listening(port):
    """Return the rows of the sockets that listen, as the kernel's tables have them."""
    found = []
    for table in glob.glob("/proc/net/tcp*"):
        with salt.utils.files.fopen(table) as file:
            next(file, "")
            for line in file:
                row = line.split()
                # The kernel has these first; of others there may be very many.
                if row[3] != LISTEN:
                    break
                if port in (None, int(row[1].partition(":")[2], 16)):
                    found.append(row)
    return found


def clients(port):
    """
    Part of the formula. Return the addresses of those who are connected to a port of this host, one
    for each connection.

    port
        Its number.
    """
    found = []
    for table in glob.glob("/proc/net/tcp*"):
        with salt.utils.files.fopen(table) as file:
            rows = [line.split() for line in file.read().splitlines()[1:]]
        for row in rows:
            if row[3] == CONNECTED and int(row[1].partition(":")[2], 16) == port:
                found.append(_address(row[2].partition(":")[0]))
    return found


def _address(text: str) -> str:
    """Return an address, which the kernel writes in words of the machine's own order."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))
    return str(getattr(address, "ipv4_mapped", None) or address)


def owners(port):
    """
    Part of the formula. Return the numbers of the accounts that listen on a port of this host.

    port
        Its number.
    """
    return {int(row[7]) for row in _listening(port)}


def holders(port):
    """
    Part of the formula. Return the paths of the programs that listen on a port of this host.

    port
        Its number.
    """
    sockets = listening(port)
    if not sockets:
        return []
    found = programs().items()
    return sorted({program for process, program in found if program and _has(process, sockets)})


def _has(process: str, sockets) -> bool:
    return not set(opened(process).values()).isdisjoint(sockets)


def is_open(port):
    """
    Part of the formula. Return whether a program listens on a port at all addresses of this host.

    port
        Its number.
    """
    return any(set(address) == {"0"} for address in listening(port).values())


def sockets_with_path():
    """
    Part of the formula. Return the paths of the sockets that take connections and have one.
    """
    with salt.utils.files.fopen("/proc/net/unix", errors="replace") as file:
        rows = [line.split(None, 7) for line in file.read().splitlines()[1:]]
    return sorted({row[7] for row in rows if len(row) == 8 and int(row[3], 16) & ACCEPTS})


def mounts():
    """
    Part of the formula. Return what is mounted, as a list of mappings: the ``point``, which folder
    of the file system, ``root``, its ``kind`` and its ``source``.
    """
    found = []
    with salt.utils.files.fopen("/proc/self/mountinfo", errors="surrogateescape") as file:
        for line in file:
            fields = line.split()
            kind, source = fields[fields.index("-") + 1 :][:2]
            names = {"root": fields[3], "point": fields[4], "source": source}
            found.append({"kind": kind, **{key: _plain(name) for key, name in names.items()}})
    return found


def disks(path):
    """
    Part of the formula. Return the disks that a path lies on, or will lie on: a set of their names;
    where the kernel tells none, as of a file system in memory or of another host, it holds what
    stands for that file system.

    path
        The path.
    """
    while not os.path.exists(path):
        path = os.path.dirname(path)
    real, number = os.path.realpath(path), os.stat(path).st_dev
    if not os.major(number):
        # As btrfs has it, whose parts have numbers of their own.
        above = [
            each for each in mounts() if f"{real}/".startswith(f"{each['point'].rstrip('/')}/")
        ]
        source = max(above, key=lambda each: len(each["point"]))["source"]
        if source.startswith("/dev/") and os.path.exists(source):
            number = os.stat(source).st_rdev
    return _whole(f"{DEVICES}/{os.major(number)}:{os.minor(number)}") or {number}


def _whole(device: str) -> set:
    """Return the names of the disks that a device of the kernel's is made of."""
    if not os.path.isdir(device):
        return set()
    real = os.path.realpath(device)
    if os.path.exists(f"{real}/partition"):
        real = os.path.dirname(real)
    below = glob.glob(f"{real}/slaves/*")
    return set().union(*map(_whole, below)) if below else {os.path.basename(real)}


def _plain(text: str) -> str:
    """Return a path as it is: the kernel writes some characters as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def account(user):
    """
    Part of the formula. Return an account of this host as ``pwd`` has it; None where there is none,
    as before the first run.

    user
        Its name.
    """
    try:
        return pwd.getpwnam(user)
    except KeyError:
        return None


def gid(group):
    """
    Part of the formula. Return the number of a group of this host.

    group
        Its name.

    Raises CommandExecutionError if there is no such group.
    """
    found = __salt__["file.group_to_gid"](group)
    if found == "":
        raise CommandExecutionError(
            f"the group {group} does not exist; the package of Orthanc creates it"
        )
    return found


def as_account(user, group):
    """
    Part of the formula. Return the words that run a command as an account; none where there is no
    such account.

    user, group
        The names of the account and of its group.
    """
    if not account(user):
        return []
    return ["setpriv", "--reuid", user, "--regid", group, "--init-groups", "--"]


def ask(words):
    """
    Part of the formula. Return what a program printed; None where it failed.

    words
        Its path and arguments, a list of texts.
    """
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def may(words, user, group):
    """
    Part of the formula. Return whether test(1), run by an account of this host, says yes.

    words
        What it is asked, a list of texts.

    user, group
        The names of the account and of its group.
    """
    switch = as_account(user, group)
    return bool(switch) and ask([*switch, "test", *words]) is not None


def unit_lines(service):
    """
    Part of the formula. Return the lines of a unit and its drop-ins in their order, a list of
    tuples: the path of the file, the section, the name and the value.

    service
        The name of the service.
    """
    path, section, found = "", "", []
    shown = ask(["systemctl", "cat", "--no-pager", f"{service}.service"]) or ""
    for line in re.sub(r"\\\n", " ", shown).splitlines():
        row, is_pair, value = (part.strip() for part in line.partition("="))
        if line.startswith("# /"):
            path, section = line[2:], ""
        elif line.startswith("["):
            section = line.strip()
        elif is_pair:
            found.append((path, section, row, value))
    return found


def systemctl(*words):
    """
    Part of the formula. Let systemd do something, as ``systemctl`` with these words does. Raises
    CommandExecutionError if that fails.
    """
    done = __salt__["cmd.run_all"](["systemctl", *words], python_shell=False)
    if done["retcode"]:
        raise CommandExecutionError(f"systemctl {' '.join(words)} failed: {done['stderr']}")


def unit(service, *properties):
    """
    Part of the formula. Return what systemd says of a unit: the values of properties, a list of
    texts in their order; an empty list where systemd does not run.

    service
        The name of the service.

    properties
        The names of the properties.
    """
    if not salt.utils.systemd.booted(__context__):
        return []
    words = [f"--property={','.join(properties)}", service]
    shown = __salt__["cmd.run_stdout"](["systemctl", "show", *words], python_shell=False)
    found = dict(line.partition("=")[::2] for line in shown.splitlines())
    return [found.get(name, "") for name in properties]
