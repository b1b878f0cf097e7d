"""Booted hosts for tests: pristine Debian machines that live for one test.

A *root* is a folder with a Debian in it, built once with mmdebstrap and kept in the cache folder.
Layers may lie on top of it: Salt, or what turns it into a stand-in for openSUSE (``suse.py``).
A *host* is a root booted by systemd-nspawn, with its own systemd, network name space and address.
All that a host writes lands in a layer of its own in memory, thrown away when it stops, so that one
root serves any number of hosts. Booting takes about two seconds.

    with Host(root("bookworm")) as host:
        host.run("hostname -f")
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import ipaddress
import itertools
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable

import suse

CACHE = pathlib.Path(os.environ.get("ORTHANC_TEST_CACHE", "/var/cache/orthanc-formula-test"))
# What pip downloaded and built on a host, the others need not download and build again.
PIP_CACHE = CACHE / "pip"
FORMULA = pathlib.Path(__file__).resolve().parent.parent
DAY = 24 * 60 * 60
EXPORTS = pathlib.Path("/run/systemd/nspawn/unix-export")
PROGRAMS = ("mmdebstrap", "systemd-nspawn", "nsenter", "ip", "nft", "mount")

# A minimal Debian installation with a network, and nothing that the formula or Salt would need.
BASE = "systemd,systemd-sysv,dbus,ca-certificates,iproute2,procps,adduser,netbase"
# Downloaded into the root while it is built, so that a host installs them in seconds.
DOWNLOADS = (
    "--no-install-recommends python3 python3-venv python3-dev gcc libc6-dev",
    "--install-recommends orthanc orthanc-dicomweb orthanc-gdcm orthanc-mysql orthanc-postgresql"
    " orthanc-python orthanc-webviewer orthanc-wsi",
    "--install-recommends nginx postgresql",
)
# What of it others than the makers of Orthanc, nginx and PostgreSQL make, and what takes more than
# half of the time of an installation. On a machine in use, much of it is there as well.
LIBRARIES = f"""
    set -e
    export DEBIAN_FRONTEND=noninteractive
    names=$({{ {"; ".join(f"apt-get install -s {words}" for words in DOWNLOADS[1:])}; }} |
        sed -nE 's/^Inst ((lib|perl|dcmtk|locales)[^ ]*).*/\\1/p' | grep -v ^libnginx | sort -u)
    apt-get install -qq --no-install-recommends $names >/dev/null
    apt-mark auto $names >/dev/null
    # Orthanc's package has this locale made each time.
    echo en_US.UTF-8 UTF-8 > /etc/locale.gen
    locale-gen >/dev/null
    cd /usr/lib/locale
    cp locale-archive made
    printf '#!/bin/sh\ncd /usr/lib/locale && cp made locale-archive\n' > /usr/bin/localedef
"""
# Stands in for Ubuntu: what Salt's grains know it by, on a Debian with its release of Orthanc.
UBUNTU = """
    set -e
    cat > /usr/lib/os-release <<END
PRETTY_NAME="Ubuntu 25.10"
NAME="Ubuntu"
VERSION_ID="25.10"
VERSION="25.10 (Questing Quokka)"
VERSION_CODENAME=questing
ID=ubuntu
ID_LIKE=debian
UBUNTU_CODENAME=questing
END
    cat > /etc/lsb-release <<END
DISTRIB_ID=Ubuntu
DISTRIB_RELEASE=25.10
DISTRIB_CODENAME=questing
DISTRIB_DESCRIPTION="Ubuntu 25.10"
END
    echo forky/sid > /etc/debian_version
"""
# What makes the network and the package managers of this machine work inside a host as well.
MACHINE_SETTINGS = ("/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")
PIP_ENVIRONMENT = ("PIP_", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY")


def missing() -> str:
    """Return why this machine cannot boot hosts, or an empty text where it can."""
    if os.geteuid() != 0:
        return "booting test hosts needs root"
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        return "not installed here: " + ", ".join(absent)
    if not pathlib.Path("/etc/debian_version").exists():
        return "the test hosts are built from the apt sources of a Debian machine"
    return ""


def local(*command: str, **options) -> subprocess.CompletedProcess:
    """Run a command on this machine; its output is shown only if it fails."""
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, **options
    )
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}")
    return done


def say(text: str) -> None:
    """Tell what takes long; pytest shows it with ``-s``, which the test command sets."""
    print(f"  [testbed] {text}", flush=True)


@functools.lru_cache(None)
def mirror() -> str:
    """Return the Debian mirror that this machine itself uses."""
    sites = local("apt-get", "indextargets", "--format", "$(SITE)").stdout.split()
    if not sites:
        local("apt-get", "update")
        sites = local("apt-get", "indextargets", "--format", "$(SITE)").stdout.split()
    return next(site for site in sites if "security" not in site)


def cached(name: str, recipe: str, build) -> pathlib.Path:
    """Return the folder that ``build(folder)`` makes, built again only if its recipe changed."""
    folder = CACHE / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    # Another worker of the same test run may be building it.
    with locked(name):
        _build(name, folder, build)
    return folder


@contextlib.contextmanager
def locked(name: str):
    """Keep other test runs of this machine from what is done meanwhile, by a name for it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(name: str, folder: pathlib.Path, build) -> None:
    if not folder.exists():
        unfinished = pathlib.Path(tempfile.mkdtemp(prefix=f"{name}.", dir=CACHE))
        unfinished.chmod(0o755)
        started = time.monotonic()
        say(f"building {name}, once, in {CACHE}")
        try:
            build(unfinished)
            for outdated in CACHE.glob(f"{name}-" + "[0-9a-f]" * 12):
                # Another working tree, whose recipe differs, may have hosts on a recent one.
                if time.time() - outdated.stat().st_ctime > DAY:
                    shutil.rmtree(outdated)
            unfinished.rename(folder)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        say(f"built {name} in {time.monotonic() - started:.0f} s")


@functools.lru_cache(None)
def root(suite: str) -> tuple[pathlib.Path, ...]:
    """Return a pristine Debian of this suite, with the downloads of the tests in apt's cache.

    ``leap`` and ``tumbleweed`` give a Debian that stands in for openSUSE.
    """
    if suite in suse.STAND_INS:
        stand_in = suse.STAND_INS[suite]
        recipe = pathlib.Path(suse.__file__).read_text()
        return layer(suite, recipe, root(stand_in.debian), lambda host: suse.make(host, stand_in))

    copies = [path for path in MACHINE_SETTINGS if os.path.exists(path)]
    hooks = [
        "--customize-hook=echo testhost > $1/etc/hostname",
        "--customize-hook=rm -f $1/etc/resolv.conf",
        "--customize-hook=echo 'APT::Keep-Downloaded-Packages \"true\";' > "
        "$1/etc/apt/apt.conf.d/60keep",
        *(f"--customize-hook=cp {path} $1{path}" for path in copies),
        *(f"--customize-hook=chroot $1 apt-get install -qq -d {words}" for words in DOWNLOADS),
    ]

    def build(folder: pathlib.Path) -> None:
        target = f"--include={BASE}"
        # Mirrors lag behind: sid's lists are valid for a week only.
        keep = ("--skip=cleanup/apt", '--aptopt=Acquire::Check-Valid-Until "false"')
        local(
            *("mmdebstrap", "--variant=minbase", target, *keep, *hooks),
            *(suite, str(folder), mirror()),
        )

    # Once a week, because mirrors drop the packages that a root knows of.
    week = time.strftime("%G-%V")
    return (cached(suite, repr((BASE, hooks, mirror(), week)), build),)


@functools.lru_cache(None)
def used(suite: str) -> tuple[pathlib.Path, ...]:
    """Return a Debian that has been in use: with the ``LIBRARIES``."""
    return layer(f"{suite}-used", LIBRARIES, root(suite), lambda host: host.run(LIBRARIES))


@functools.lru_cache(None)
def root_with_salt(suite: str, version: str) -> tuple[pathlib.Path, ...]:
    """Return a root with this version of Salt in /opt/salt and its programs on the path.

    ``ubuntu`` gives a Debian that stands in for Ubuntu.
    """
    if suite == "ubuntu":
        base = root_with_salt("trixie", version)
        return layer(f"{suite}-salt{version}", UBUNTU, base, lambda host: host.run(UBUNTU))
    name, programs = f"{suite}-salt{version}", "/opt/salt/bin/salt* /opt/salt/bin/spm"
    links = f"ln -s {programs} /usr/local/bin/"
    if suite in suse.STAND_INS:
        # Below is the Python of a Debian, for which it is there already.
        twin = root_with_salt(suse.STAND_INS[suite].debian, version)
        script = f"{suse.INSTALL_PYTHON} >/dev/null && {links}"

        def change(host: Host) -> None:
            local("cp", "-a", str(twin[0] / "opt/salt"), str(host.path("/opt/salt")))
            host.run(script)

        return layer(name, script + twin[0].name, root(suite), change)
    script = f"""
        set -e
        export DEBIAN_FRONTEND=noninteractive
        apt-get install -qq --no-install-recommends python3 python3-venv >/dev/null
        python3 -m venv /opt/salt
        install() {{ /opt/salt/bin/pip install -q "salt=={version}"; }}
        # What has to be built is in pip's cache, but for the first root.
        install || {{ apt-get install -qq {DOWNLOADS[0]} >/dev/null; install; }}
        {links}
    """
    return layer(name, script, used(suite), lambda host: host.run(script, timeout=900))


@functools.lru_cache(None)
def deployed(suite: str, version: str) -> tuple[pathlib.Path, ...]:
    """Return a root with Salt and Orthanc, as the package leaves it where services may not start:
    for hosts that show nothing of the installation and of the first run.
    """
    stands_in = suite in suse.STAND_INS
    install = "zypper --non-interactive --quiet install" if stands_in else "apt-get install -qq"
    script = f"""
        set -e
        export DEBIAN_FRONTEND=noninteractive
        printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
        chmod +x /usr/sbin/policy-rc.d
        {install} orthanc >/dev/null
        rm /usr/sbin/policy-rc.d
        systemctl disable orthanc
    """
    base = root_with_salt(suite, version)
    return layer(f"{suite}-salt{version}-orthanc", script, base, lambda host: host.run(script))


def layer(
    name: str, recipe: str, base: tuple[pathlib.Path, ...], change: Callable[[Host], object]
) -> tuple[pathlib.Path, ...]:
    """Return a root with one more layer: what ``change(host)`` changes on a host."""

    def build(folder: pathlib.Path) -> None:
        with Host(base) as host:
            change(host)
            # A service that ends while its files are copied takes some of them away.
            host.shut_down()
            # With the marks that overlays keep of what was removed.
            local("cp", "-a", f"{host.changes}/.", str(folder))

    return (cached(name, recipe + base[0].name, build), *base)


class Network:
    """A bridge on this machine that joins the hosts, with a way out through this machine."""

    def __init__(self) -> None:
        # Workers of one test run start at the same time.
        with locked("network"):
            self._begin()
        pathlib.Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        self.nft("add", "table", "ip", self.name)
        self.nft(
            *("add", "chain", "ip", self.name, "out"),
            "{ type nat hook postrouting priority srcnat; }",
        )
        self.nft(
            *("add", "rule", "ip", self.name, "out", "ip", "saddr", str(self.net)),
            *("ip", "daddr", "!=", str(self.net), "masquerade"),
        )

    def _begin(self) -> None:
        """Make the bridge, with the first net that nobody has."""
        words = local("ip", "-o", "-4", "address").stdout.split()
        taken = [ipaddress.ip_interface(word).ip for word in words if word.count(".") == 3]
        nets = (ipaddress.ip_network(f"10.213.{n}.0/24") for n in range(256))
        self.net = next(net for net in nets if not any(address in net for address in taken))
        self.name = f"ofb{self.net[1].packed[2]}"
        self.gateway = str(self.net[1])
        self.addresses = (str(address) for address in itertools.islice(self.net.hosts(), 1, None))
        # A bridge without an address of its own takes the lowest one of what is on it, another one
        # when hosts come and go: those that stay lose the way to this machine for seconds.
        own = f"02:0f:00:00:00:{self.net[1].packed[2]:02x}"
        local("ip", "link", "add", self.name, "address", own, "type", "bridge")
        local("ip", "address", "add", f"{self.gateway}/24", "dev", self.name)
        local("ip", "link", "set", self.name, "up")

    @staticmethod
    def nft(*words: str) -> None:
        local("nft", " ".join(words))

    def close(self) -> None:
        self.nft("delete", "table", "ip", self.name)
        local("ip", "link", "delete", self.name)


@functools.lru_cache(None)
def network() -> Network:
    """Return the one network of this test run; ``close_network`` takes it away."""
    return Network()


def close_network() -> None:
    if network.cache_info().currsize:
        network().close()
        network.cache_clear()


def make_cgroup(name: str) -> pathlib.Path:
    """
    Return the folder of a new control group within that of this process.

    Otherwise the services of one name on all hosts are in one, and systemd kills, or freezes, what
    is in the group of a service on all of them.
    """
    mounts = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    point = next(line.split()[4] for line in mounts if " - cgroup2 " in line)
    groups = pathlib.Path("/proc/self/cgroup").read_text().splitlines()
    own = next(line[len("0::/") :] for line in groups if line.startswith("0::/"))
    folder = pathlib.Path(point, own, name)
    folder.mkdir()
    return folder


def remove_cgroup(folder: pathlib.Path) -> None:
    """Remove a control group, and those within, as soon as nothing runs in them any more."""
    deadline = time.monotonic() + 10
    for inside, _, _ in os.walk(folder, topdown=False):
        while True:
            try:
                os.rmdir(inside)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


class Host:
    """A machine that is booted on entry and thrown away on exit.

    layers
        The folders of its root, topmost first (``root()``, ``root_with_salt()``).
    booted
        False gives a root with no systemd and no service manager as PID 1, as in a container or
        a build VM: a shell that sleeps.
    """

    numbers = itertools.count(1)

    def __init__(self, layers: tuple[pathlib.Path, ...], booted: bool = True) -> None:
        self.layers, self.booted = layers, booted
        self.name = f"ofh{os.getpid()}-{next(self.numbers)}"
        self.leader = 0
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> Host:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{self.name}.", dir="/tmp"))
        local("mount", "-t", "tmpfs", "-o", "mode=755", self.name, str(self.folder))
        self.tree, self.changes = self.folder / "tree", self.folder / "changes"
        for part in (self.tree, self.changes, self.folder / "work"):
            part.mkdir()
        lower = ":".join(str(layer) for layer in self.layers)
        local(
            *("mount", "-t", "overlay", "overlay", str(self.tree), "-o"),
            f"lowerdir={lower},upperdir={self.changes},workdir={self.folder / 'work'}",
        )
        self.address = next(network().addresses)
        link = f"v{self.name[3:]}"[:15]
        local("ip", "netns", "add", self.name)
        local(
            *("ip", "link", "add", link, "type", "veth"),
            *("peer", "name", "eth0", "netns", self.name),
        )
        local("ip", "link", "set", link, "master", network().name, "up")
        inside = ("ip", "-n", self.name)
        local(*inside, "link", "set", "lo", "up")
        local(*inside, "address", "add", f"{self.address}/24", "dev", "eth0")
        local(*inside, "link", "set", "eth0", "up")
        local(*inside, "route", "add", "default", "via", network().gateway)
        self.cgroup = make_cgroup(self.name)
        self.boot()
        return self

    def __exit__(self, *_) -> None:
        self.power_off()
        remove_cgroup(self.cgroup)
        # systemd-nspawn from Debian 13 on leaves the last of these behind when it is killed.
        for mounted in (self.tree, self.folder, EXPORTS / self.name):
            subprocess.run(["umount", "-l", str(mounted)], capture_output=True, check=False)
        self.folder.rmdir()
        subprocess.run(["ip", "netns", "delete", self.name], check=False)

    def boot(self) -> None:
        """Start the machine and wait until it takes commands and its systemd has settled."""
        PIP_CACHE.mkdir(parents=True, exist_ok=True)
        begin = ["--boot"] if self.booted else ["--as-pid2", "sleep", "infinity"]
        self.process = subprocess.Popen(
            [
                *("sh", "-c", 'echo $$ > "$0/cgroup.procs"; exec "$@"', str(self.cgroup)),
                *("systemd-nspawn", "-q", "-D", str(self.tree), "--register=no", "--keep-unit"),
                *("--console=pipe", "--resolv-conf=off", "--timezone=off", "--hostname=testhost"),
                # As a machine has it.
                "--capability=CAP_NET_ADMIN",
                *(f"--machine={self.name}", f"--bind={PIP_CACHE}:/root/.cache/pip"),
                *(f"--network-namespace-path=/run/netns/{self.name}", *begin),
            ],
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            stdin=subprocess.DEVNULL,
            stdout=open(self.folder / "console", "ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        ready = "! grep -q nspawn /proc/1/comm"
        if self.booted:
            ready = "systemctl is-system-running --wait | grep -E 'running|degraded'"
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline and self.process.poll() is None:
            children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
            self.leader = int((children.read_text().split() or ["0"])[0])
            if self.leader and self.run(ready, check=False).ok:
                return
            time.sleep(0.1)
        console = (self.folder / "console").read_text(errors="replace")
        raise RuntimeError(f"the host did not boot:\n{console[-3000:]}")

    def power_off(self) -> None:
        """Cut the power: nothing on the host gets a chance to tidy up."""
        for pid in (self.leader, self.process.pid if self.process else 0):
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if self.process:
            self.process.wait(30)
        self.leader = 0

    def shut_down(self) -> None:
        """Shut the host down in order; its disk stays until the host is left."""
        subprocess.run(["kill", "-s", "RTMIN+4", str(self.leader)], check=True)
        self.process.wait(180)
        self.process, self.leader = None, 0

    def reboot(self) -> None:
        """Shut the host down in order and boot it again on the same disk."""
        self.shut_down()
        self.boot()

    def run(
        self,
        command: str,
        check: bool = True,
        user: str = "",
        input: str | None = None,
        timeout: float = 300,
        env: dict | None = None,
    ) -> Result:
        """Run shell commands on the host, as root or another user.

        check
            Raise with everything that was printed if the command fails.
        """
        words = [
            *self.inside(env),
            *(("runuser", "-u", user, "--") if user else ()),
            *("sh", "-c", command),
        ]
        done = subprocess.run(
            words, input=input or "", capture_output=True, text=True, timeout=timeout, check=False
        )
        result = Result(done.returncode, done.stdout, done.stderr)
        if check and not result.ok:
            raise AssertionError(f"{command}\nended with {result}")
        return result

    def inside(self, env: dict | None = None) -> list[str]:
        """Return the words that let the words behind them be a command of root's on the host."""
        passed = {k: v for k, v in os.environ.items() if k.startswith(PIP_ENVIRONMENT)}
        passed.pop("PIP_FIND_LINKS", None)
        settings = {
            **passed,
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            **(env or {}),
        }
        return [
            *("nsenter", "-t", str(self.leader), "-m", "-p", "-u", "-i", "-n", "-C", "-r", "-w"),
            *("env", "-i", *(f"{key}={value}" for key, value in settings.items())),
        ]

    def path(self, path: str) -> pathlib.Path:
        """Return where a file of the host lies on this machine (not below /run or /tmp)."""
        return self.tree / path.lstrip("/")

    def write(self, path: str, text: str) -> None:
        """Write a file on the host."""
        self.run(f"mkdir -p $(dirname {path}); cat > {path}", input=text)

    def read(self, path: str) -> str:
        """Read a file on the host as root."""
        return self.run(f"cat {shlex.quote(path)}").out

    def install_formula(self, path: str = "/srv/formulas/orthanc-formula") -> str:
        """Put a clean clone of the working tree's files on the host and return its path."""
        files = local(
            *("git", "-C", str(FORMULA), "ls-files", "-z", "-co", "--exclude-standard"),
        ).stdout
        present = "\0".join(name for name in files.split("\0") if (FORMULA / name).is_file())
        target = self.path(path)
        target.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            f"tar -C {FORMULA} --null -T - -c | tar -C {target} --no-same-owner -x",
            shell=True,
            input=present,
            text=True,
            check=True,
        )
        return path


class Result:
    """What a command on a host gave: ``ok``, ``code``, ``out``, ``err``."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.ok, self.code, self.out, self.err = code == 0, code, out, err

    def __str__(self) -> str:
        return f"exit code {self.code}\n{self.out}\n{self.err}"
