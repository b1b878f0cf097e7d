"""Test hosts that stand in for openSUSE, of which no installation can be had here.

Debian ships the real zypper, rpm and createrepo-c. A stand-in is a Debian root with SUSE's
os-release, none of Debian's package tools, and local repositories of RPMs. These carry the files of
Debian's packages in the layout of openSUSE's, as the spec files of openSUSE:Factory have it. The
shared libraries of those packages stay on the host.

To add an RPM, add it to ``RPMS``.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
import shutil
import subprocess
import textwrap
from collections.abc import Callable

# What stays of Debian: zypper and its companions, what Salt needs, what SUSE has anyway.
DEBIAN_PACKAGES = (
    "rpm zypper createrepo-c python3 python3-venv python3-dev gcc libc6-dev openssl"
    " openssh-server sudo"
)
# Packages of SUSE that are empty here, because the layer has what they stand for.
EMPTY = (
    "python3 python3-devel gcc openssl ca-certificates openssh openssh-clients openssh-server sudo"
    " dcmtk"
)
INSTALL_PYTHON = (
    "zypper --non-interactive --quiet install --no-recommends python3 python3-devel gcc"
)
# What goes: Debian's own tools, and what its packages leave behind when they are purged.
NO_DEBIAN = (
    "/usr/bin/apt* /usr/bin/dpkg* /usr/bin/deb-* /usr/sbin/dpkg* /etc/apt /etc/dpkg /var/lib/apt"
    " /var/cache/apt /usr/lib/systemd/system/apt* /usr/lib/systemd/system/dpkg*"
    " /etc/systemd/system/*/apt* /etc/systemd/system/*/dpkg* /etc/debian_version /etc/init.d"
    " /usr/sbin/adduser /usr/sbin/addgroup /usr/sbin/deluser /usr/sbin/delgroup"
    " /usr/sbin/invoke-rc.d /usr/sbin/update-rc.d /usr/sbin/policy-rc.d"
    " /etc/orthanc /var/lib/orthanc /var/log/orthanc /usr/share/orthanc"
    " /etc/postgresql* /var/lib/postgresql /var/log/postgresql /run/postgresql"
)
WORK = "/var/tmp/rpm"
REPOSITORIES = "/srv/rpm"
# Repositories and the release of the RPMs in them. The later one has the same files, and is off
# until a test that wants upgrades calls `zypper modifyrepo --enable update`.
RELEASES = {"oss": 1, "update": 2}


@dataclasses.dataclass(frozen=True)
class Rpm:
    """An RPM. Without files it is empty: what it stands for is in the layer already.

    name
        Its name on SUSE.
    debian
        The Debian packages whose files it has, with blanks between; the first gives its version.
        Here and in paths and files, {postgresql} stands for the release of PostgreSQL.
    paths
        Where their files and folders go: a pattern of paths on Debian -> a path on SUSE, which is
        that of the folder around them if it ends with a slash.
    texts
        Files that are not Debian's: path -> text.
    folders
        Empty folders, with blanks between.
    links
        Links to libraries: a pattern of paths on SUSE -> the folder of the links, which are named
        without a version.
    finish
        Changes the files, which lie in a folder as they are to lie on SUSE.
    files
        What it owns, in the words of a spec file: its section ``%files``.
    scripts
        The other sections of a spec file: name -> shell.
    tags
        The lines of a spec file that say what it requires and provides.
    """

    name: str
    debian: str = ""
    paths: dict[str, str] = dataclasses.field(default_factory=dict)
    texts: dict[str, str] = dataclasses.field(default_factory=dict)
    folders: str = ""
    links: dict[str, str] = dataclasses.field(default_factory=dict)
    finish: Callable[[pathlib.Path, StandIn], None] | None = None
    files: str = ""
    scripts: dict[str, str] = dataclasses.field(default_factory=dict)
    tags: str = ""


@dataclasses.dataclass(frozen=True)
class StandIn:
    """A release of openSUSE.

    debian
        The Debian suite that it lies on; it gives the versions of Orthanc and its plugins.
    postgresql
        The release of PostgreSQL that the suite has.
    os_release
        ``/etc/os-release``.
    configuration
        The ``Configuration.json`` of its Orthanc; empty for the one that Orthanc's source has.
    """

    debian: str
    postgresql: str
    os_release: str
    configuration: str = ""


UNIT = """\
[Unit]
Description=Orthanc DICOM server
Documentation=man:orthanc(1) http://www.orthanc-server.com/
After=syslog.target network.target

[Service]
PrivateTmp=true
ProtectSystem=true
ProtectHome=true
ProtectKernelModules=true
ProtectKernelTunables=true
ProtectControlGroups=true
MountFlags=private
NoNewPrivileges=true
PrivateDevices=true
ProtectHostname=true
ProtectKernelLogs=true
RestrictRealtime=true
MemoryDenyWriteExecute=true
Type=simple
User=orthanc
Group=orthanc
ExecStart=/usr/sbin/orthanc /etc/orthanc/

[Install]
WantedBy=multi-user.target
"""

POSTGRESQL_UNIT = """\
[Unit]
Description=PostgreSQL database server
After=syslog.target
After=network.target

[Service]
Type=forking
User=postgres
EnvironmentFile=-/etc/sysconfig/postgresql
ExecStart=/usr/share/postgresql/postgresql-script start
ExecStop=/usr/share/postgresql/postgresql-script stop
ExecReload=/usr/share/postgresql/postgresql-script reload
SendSIGKILL=no

[Install]
WantedBy=multi-user.target
"""
# As on SUSE, the cluster is made at the first start. By `ident`, initdb means the account on the
# other side: peer on the socket, and nobody over TCP, where no such service runs.
POSTGRESQL_SCRIPT = """\
#!/bin/sh
data=/var/lib/pgsql/data
cd /var/lib/pgsql
case "$1" in
  start)
    [ -f $data/PG_VERSION ] || initdb --auth=ident $data > initlog 2>&1 || exit 1
    exec pg_ctl -s -w -D $data start ;;
  stop) exec pg_ctl -s -D $data -m fast stop ;;
  reload) exec pg_ctl -s -D $data reload ;;
esac
"""

NGINX_UNIT = """\
[Unit]
Description=The nginx HTTP and reverse proxy server
After=network-online.target remote-fs.target nss-lookup.target
Wants=network-online.target

[Service]
RuntimeDirectory=nginx
PIDFile=/run/nginx.pid
ExecStartPre=/usr/sbin/nginx -t
ExecStart=/usr/sbin/nginx -g "daemon off;"
ExecReload=/bin/kill -s HUP $MAINPID
KillSignal=SIGQUIT
TimeoutStopSec=5
KillMode=mixed
PrivateTmp=true
ProtectSystem=full
ProtectHome=read-only
PrivateDevices=true
ProtectHostname=true
ProtectClock=true
ProtectKernelTunables=true
ProtectKernelModules=true
ProtectKernelLogs=true
ProtectControlGroups=true
RestrictRealtime=true

[Install]
WantedBy=multi-user.target
"""

# The site of the package itself is part of it.
NGINX = """\
user nginx;
worker_processes 1;
pid /run/nginx.pid;

events {
    worker_connections 1024;
}

http {
    include mime.types;
    default_type application/octet-stream;
    sendfile on;
    keepalive_timeout 65;
    include conf.d/*.conf;

    server {
        listen 80;
        server_name localhost;
        location / {
            root /srv/www/htdocs/;
        }
    }

    include vhosts.d/*.conf;
}
"""

# Packages of openSUSE up to Orthanc 1.12 bring a configuration of the days of Orthanc 1.6.
OLD_CONFIGURATION = """\
{
  // General
  "Name" : "MyOrthanc@openSUSE",
  "StorageDirectory" : "/var/lib/orthanc/OrthancStorage",
  "IndexDirectory" : "/var/lib/orthanc/OrthancStorage",
  // "TemporaryDirectory" : "/tmp/Orthanc/",
  "StorageCompression" : false,
  "MaximumStorageSize" : 0,
  "MaximumPatientCount" : 0,
  "LuaScripts" : [
  ],
  "Plugins" : [
  "/usr/share/orthanc/plugins"
  ],
  "ConcurrentJobs" : 2,

  // HTTP
  "HttpServerEnabled" : true,
  "HttpPort" : 8042,
  "HttpDescribeErrors" : true,
  "HttpCompressionEnabled" : true,

  // DICOM
  "DicomServerEnabled" : true,
  "DicomAet" : "ORTHANC",
  "DicomCheckCalledAet" : false,
  "DicomPort" : 4242,
  "DefaultEncoding" : "Latin1",
  "DeflatedTransferSyntaxAccepted"     : true,
  "JpegTransferSyntaxAccepted"         : true,
  "Jpeg2000TransferSyntaxAccepted"     : true,
  "JpegLosslessTransferSyntaxAccepted" : true,
  "JpipTransferSyntaxAccepted"         : true,
  "Mpeg2TransferSyntaxAccepted"        : true,
  "RleTransferSyntaxAccepted"          : true,
  "Mpeg4TransferSyntaxAccepted"        : true,
  "UnknownSopClassAccepted"            : false,
  "DicomScpTimeout" : 30,

  // Security of the HTTP server
  "RemoteAccessAllowed" : false,
  "SslEnabled" : false,
  "SslCertificate" : "certificate.pem",
  /**
     "AuthenticationEnabled" : false,
   **/
  "RegisteredUsers" : {
    // "user" : "password"
  },

  // Other machines
  "DicomModalities" : {
    // "ct" : [ "CT", "127.0.0.1", 2000 ]
  },
  "DicomModalitiesInDatabase" : false,
  "DicomAlwaysAllowEcho" : true,
  "DicomAlwaysAllowStore" : true,
  "DicomCheckModalityHost" : false,
  "DicomScuTimeout" : 10,
  "OrthancPeers" : {
    // "peer" : [ "http://127.0.0.1:8043/", "user", "password" ]
  },
  "OrthancPeersInDatabase" : false,
  "HttpProxy" : "",
  "HttpVerbose" : false,
  "HttpTimeout" : 60,
  "HttpsVerifyPeers" : true,
  "HttpsCACertificates" : "",

  // Advanced
  "UserMetadata" : {
  },
  "UserContentType" : {
  },
  "StableAge" : 60,
  "StrictAetComparison" : false,
  "StoreMD5ForAttachments" : true,
  "LimitFindResults" : 0,
  "LimitFindInstances" : 0,
  "LimitJobs" : 10,
  "LogExportedResources" : false,
  "KeepAlive" : true,
  "TcpNoDelay" : true,
  "HttpThreadsCount" : 50,
  "StoreDicom" : true,
  "DicomAssociationCloseDelay" : 5,
  "QueryRetrieveSize" : 100,
  "CaseSensitivePN" : false,
  "LoadPrivateDictionary" : true,
  // "Locale" : "en_US.UTF-8",
  "Dictionary" : {
  },
  "SynchronousCMove" : true,
  "JobsHistorySize" : 10,
  "SaveJobs" : true,
  "OverwriteInstances" : false,
  "MediaArchiveSize" : 1,
  "StorageAccessOnFind" : "Always",
  "MetricsEnabled" : true,
  "ExecuteLuaEnabled" : false,
  "HttpRequestTimeout" : 30,
  "DefaultPrivateCreator" : "",
  "StorageCommitmentReportsSize" : 100
}
"""


def configure(folder: pathlib.Path, stand_in: StandIn) -> None:
    """Write Configuration.json, which SUSE also builds into the program (``--config=-``)."""
    program = folder / "usr/sbin/orthanc"
    code = program.read_bytes()
    start = code.index(b"{\n  /**\n   * General configuration of Orthanc")
    sample = code[start : code.index(b"\n}\n\0", start) + 3]
    text = stand_in.configuration or (
        sample.decode()
        .replace('"MyOrthanc"', '"MyOrthanc@openSUSE"')
        .replace(' : "OrthancStorage"', ' : "/var/lib/orthanc/OrthancStorage"', 1)
    )
    (folder / "etc/orthanc/Configuration.json").write_text(text)
    built_in = re.sub(r" +\n", "\n", text).encode().ljust(len(sample), b"\n")
    if len(built_in) != len(sample):
        raise ValueError("there is no room for Configuration.json in the program")
    program.write_bytes(code.replace(sample, built_in))


def plugin(name: str, files: str = "", requires: str = "orthanc") -> Rpm:
    """Return the RPM of a plugin of Orthanc; all are made alike, and none has files in /etc."""
    return Rpm(
        name=name,
        debian=name,
        paths={
            "usr/lib/orthanc/*": "/usr/lib64/share/orthanc/plugins/",
            "etc/orthanc/*": "/usr/share/doc/packages/orthanc/",
            "usr/share/doc/*/README.Debian": f"/usr/share/doc/packages/orthanc/{name}-readme.SUSE",
            "usr/bin/*": "/usr/bin/",
        },
        links={"/usr/lib64/share/orthanc/plugins/*": "/usr/share/orthanc/plugins"},
        files=f"/usr/lib64/share\n/usr/share/orthanc\n/usr/share/doc/packages/orthanc\n{files}",
        scripts={"post": "/sbin/ldconfig", "postun": "/sbin/ldconfig"},
        tags=f"Requires: {requires}",
    )


def programs(folder: pathlib.Path, stand_in: StandIn) -> None:
    """Link PostgreSQL's programs from /usr/bin; SUSE has alternatives for that."""
    for program in folder.glob("usr/lib/postgresql/*/bin/*"):
        place(folder, f"/usr/bin/{program.name}").symlink_to(f"/{program.relative_to(folder)}")


def without_contrib(folder: pathlib.Path, stand_in: StandIn) -> None:
    """Leave out the extension that SUSE has in another package, and what only a compiler needs."""
    shutil.rmtree(
        folder / f"usr/lib/postgresql/{stand_in.postgresql}/lib/bitcode", ignore_errors=True
    )
    for file in folder.rglob("pg_trgm*"):
        file.unlink()
    programs(folder, stand_in)


RPMS = (
    # Installed from the beginning: scripts need a shell, zypper wants to see a C library, and
    # Debian's rpm does not like it when the last package is removed.
    Rpm("base", tags="Provides: /bin/sh\nProvides: glibc"),
    *(Rpm(name) for name in EMPTY.split()),
    Rpm(
        name="orthanc",
        debian="orthanc",
        paths={
            "usr/sbin/Orthanc": "/usr/sbin/orthanc",
            "usr/bin/OrthancRecoverCompressedFile": "/usr/bin/orthancRecoverCompressedFile",
            "usr/lib/orthanc/*": "/usr/lib64/orthanc/",
            "etc/orthanc/serve-folders.json": "/etc/orthanc/",
            "etc/orthanc/worklists.json": "/etc/orthanc/",
        },
        texts={"/usr/lib/systemd/system/orthanc.service": UNIT},
        folders="/var/lib/orthanc/db-v6",
        links={
            "/usr/lib64/orthanc/libConnectivityChecks.so.*": "/usr/share/orthanc/plugins",
            "/usr/lib64/orthanc/libDelayedDeletion.so.*": "/usr/share/orthanc/plugins",
            "/usr/lib64/orthanc/libModalityWorklists.so.*": "/usr/share/orthanc/plugins",
            "/usr/lib64/orthanc/libServeFolders.so.*": "/usr/share/orthanc/plugins",
        },
        finish=configure,
        files="""
            /usr/bin/orthancRecoverCompressedFile
            /usr/sbin/orthanc
            /usr/lib/systemd/system/orthanc.service
            /usr/lib64/orthanc
            /usr/share/orthanc
            %dir %attr(0755, orthanc, orthanc) /etc/orthanc
            %config(noreplace) %attr(0750, orthanc, orthanc) /etc/orthanc/*.json
            %dir %attr(0755, orthanc, orthanc) /var/lib/orthanc
            %dir %attr(0755, orthanc, orthanc) /var/lib/orthanc/db-v6
        """,
        scripts={
            "pre": """
                getent group orthanc >/dev/null || groupadd -r orthanc
                getent passwd orthanc >/dev/null ||
                    useradd -r -g orthanc -d /var/lib/orthanc -s /sbin/nologin orthanc
            """,
            "post": """
                /sbin/ldconfig
                systemctl daemon-reload || :
            """,
            "preun": """
                [ $1 != 0 ] || systemctl disable --now orthanc.service || :
            """,
            "postun": """
                /sbin/ldconfig
                systemctl daemon-reload || :
                [ $1 = 0 ] || systemctl try-restart orthanc.service || :
            """,
        },
        tags="""
            Requires: dcmtk
            Provides: group(orthanc)
            Provides: user(orthanc)
        """,
    ),
    Rpm(
        name="nginx",
        debian="nginx nginx-common",
        paths={"usr/sbin/nginx": "/usr/sbin/", "etc/nginx/mime.types": "/etc/nginx/"},
        texts={
            "/etc/nginx/nginx.conf": NGINX,
            "/usr/lib/systemd/system/nginx.service": NGINX_UNIT,
        },
        folders="/etc/nginx/conf.d /etc/nginx/vhosts.d /var/lib/nginx /var/log/nginx",
        files="""
            /usr/sbin/nginx
            /usr/lib/systemd/system/nginx.service
            %dir /etc/nginx
            %dir /etc/nginx/conf.d
            %dir /etc/nginx/vhosts.d
            %config(noreplace) /etc/nginx/mime.types
            %config(noreplace) /etc/nginx/nginx.conf
            %dir %attr(0750, nginx, nginx) /var/lib/nginx
            %dir %attr(0750, nginx, nginx) /var/log/nginx
        """,
        scripts={
            "pre": """
                getent group nginx >/dev/null || groupadd -r nginx
                getent passwd nginx >/dev/null ||
                    useradd -r -g nginx -d /var/lib/nginx -s /usr/sbin/nologin nginx
            """,
            "post": "systemctl daemon-reload || :",
        },
        tags="""
            Provides: group(nginx)
            Provides: user(nginx)
        """,
    ),
    Rpm(
        name="restic",
        debian="restic",
        paths={"usr/bin/restic": "/usr/bin/"},
        files="/usr/bin/restic",
    ),
    plugin("orthanc-postgresql", requires="orthanc postgresql-server"),
    plugin("orthanc-dicomweb"),
    plugin("orthanc-gdcm"),
    plugin("orthanc-mysql"),
    plugin("orthanc-python"),
    plugin("orthanc-webviewer"),
    plugin("orthanc-wsi", files="/usr/bin/OrthancWSI*"),
    # The programs look for their files where Debian has them.
    Rpm(
        name="postgresql",
        debian="postgresql-client-{postgresql} postgresql-client-common postgresql-common",
        paths={"usr/lib/postgresql/*/bin": "/usr/lib/postgresql/{postgresql}/"},
        finish=programs,
        files="/usr/lib/postgresql\n/usr/bin/*",
    ),
    Rpm(
        name="postgresql-server",
        debian="postgresql-{postgresql}",
        paths={
            "usr/lib/postgresql/*/bin": "/usr/lib/postgresql/{postgresql}/",
            "usr/lib/postgresql/*/lib": "/usr/lib/postgresql/{postgresql}/",
            "usr/share/postgresql/*": "/usr/share/postgresql/",
        },
        texts={
            "/usr/lib/systemd/system/postgresql.service": POSTGRESQL_UNIT,
            "/usr/lib/tmpfiles.d/postgresql.conf": "d /run/postgresql 0755 postgres postgres -\n",
            "/usr/share/postgresql/postgresql-script": POSTGRESQL_SCRIPT,
        },
        folders="/var/lib/pgsql",
        finish=without_contrib,
        files="""
            /usr/lib/postgresql
            /usr/lib/systemd/system/postgresql.service
            /usr/lib/tmpfiles.d/postgresql.conf
            /usr/bin/*
            /usr/share/postgresql/{postgresql}
            %attr(0755, root, root) /usr/share/postgresql/postgresql-script
            %attr(0750, postgres, postgres) /var/lib/pgsql
        """,
        scripts={
            "pre": """
                getent group postgres >/dev/null || groupadd -g 26 -o -r postgres
                getent passwd postgres >/dev/null ||
                    useradd -g postgres -o -r -d /var/lib/pgsql -s /bin/bash -u 26 postgres
            """,
            "post": """
                systemd-tmpfiles --create /usr/lib/tmpfiles.d/postgresql.conf || :
                systemctl daemon-reload || :
            """,
            "preun": """
                [ $1 != 0 ] || systemctl disable --now postgresql.service || :
            """,
        },
        tags="Requires: postgresql",
    ),
    Rpm(
        name="postgresql-contrib",
        debian="postgresql-{postgresql}",
        paths={
            "usr/lib/postgresql/*/lib/pg_trgm.so": "/usr/lib/postgresql/{postgresql}/lib/",
            "usr/share/postgresql/*/extension/pg_trgm*": (
                "/usr/share/postgresql/{postgresql}/extension/"
            ),
        },
        files="/usr/lib/postgresql\n/usr/share/postgresql",
        tags="Requires: postgresql",
    ),
)

STAND_INS = {
    "leap": StandIn(
        debian="trixie",
        postgresql="17",
        os_release="""\
NAME="openSUSE Leap"
VERSION="15.6"
ID="opensuse-leap"
ID_LIKE="suse opensuse"
VERSION_ID="15.6"
PRETTY_NAME="openSUSE Leap 15.6"
CPE_NAME="cpe:/o:opensuse:leap:15.6"
""",
        configuration=OLD_CONFIGURATION,
    ),
    "tumbleweed": StandIn(
        debian="sid",
        postgresql="18",
        os_release="""\
NAME="openSUSE Tumbleweed"
# VERSION="20261101"
ID="opensuse-tumbleweed"
ID_LIKE="opensuse suse"
VERSION_ID="20261101"
PRETTY_NAME="openSUSE Tumbleweed"
CPE_NAME="cpe:/o:opensuse:tumbleweed:20261101"
""",
    ),
}


def make(host, stand_in: StandIn) -> None:
    """Turn a booted Debian into the stand-in; what changes on the host is the stand-in's layer."""
    rpms = [of_release(rpm, stand_in) for rpm in RPMS]
    sources = " ".join(sorted({word for rpm in rpms for word in rpm.debian.split()}))
    host.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")
    host.run(
        f"""
        set -e
        export DEBIAN_FRONTEND=noninteractive
        chmod +x /usr/sbin/policy-rc.d
        apt-get update -qq -o Acquire::Check-Valid-Until=false
        apt-get install -qq --no-install-recommends {DEBIAN_PACKAGES}
        mkdir -p {WORK}/debian
        cp -a /etc/passwd /etc/group /etc/shadow /etc/gshadow {WORK}
        apt-get install -qq --no-install-recommends {sources}
        dpkg-query -Wf '${{Package}} ${{Package}}_${{Version}}_${{Architecture}}.deb\n' {sources} |
            sed s/:/%3a/ | while read package file; do
                dpkg-deb -x /var/cache/apt/archives/$file {WORK}/debian/$package
            done
        """,
        timeout=600,
    )
    make_repositories(host, stand_in, rpms)
    host.write("/usr/lib/os-release", stand_in.os_release)
    # Newer releases of rpm want signatures by default.
    host.write("/etc/rpm/macros", "%_dbpath /var/lib/rpm\n%_pkgverify_level digest\n")
    for name, release in RELEASES.items():
        host.write(
            f"/etc/zypp/repos.d/{name}.repo",
            f"[{name}]\nenabled={int(release == 1)}\nautorefresh=1\ngpgcheck=0\n"
            f"baseurl=file://{REPOSITORIES}/{name}\n",
        )
    host.run(
        f"""
        set -e
        dpkg --purge --force-depends {sources}
        cp -a {WORK}/passwd {WORK}/group {WORK}/shadow {WORK}/gshadow /etc
        systemctl disable ssh
        sed /^Alias=/d /usr/lib/systemd/system/ssh.service > /usr/lib/systemd/system/sshd.service
        rm /usr/lib/systemd/system/ssh.service
        ln -s certs/ca-certificates.crt /etc/ssl/ca-bundle.pem
        rm -rf {NO_DEBIAN} {WORK}
        systemctl daemon-reload
        zypper --non-interactive refresh
        rpm -i {REPOSITORIES}/oss/*/base-*.rpm
        """
    )


def of_release(rpm: Rpm, stand_in: StandIn) -> Rpm:
    """Return an RPM with the release of PostgreSQL in its names."""

    def fill(text: str) -> str:
        return text.replace("{postgresql}", stand_in.postgresql)

    paths = {pattern: fill(path) for pattern, path in rpm.paths.items()}
    return dataclasses.replace(rpm, debian=fill(rpm.debian), paths=paths, files=fill(rpm.files))


def make_repositories(host, stand_in: StandIn, rpms: list[Rpm]) -> None:
    """Make the RPMs from the files of Debian's packages."""
    specs: dict[str, list[str]] = {name: [] for name in RELEASES}
    for rpm in rpms:
        files = f"{WORK}/{rpm.name}"
        lay_out(rpm, host.path(f"{WORK}/debian"), host.path(files))
        if rpm.finish:
            rpm.finish(host.path(files), stand_in)
        version = "1"
        if rpm.debian:
            query = "dpkg-query -Wf '${source:Upstream-Version}' " + rpm.debian.split()[0]
            version = re.match(r"[\d.]+", host.run(query).out).group()
        for name, release in RELEASES.items():
            if release == 1 or rpm.debian:
                specs[name].append(f"{files}-{release}.spec")
                host.path(specs[name][-1]).write_text(spec(rpm, version, release, files))
    for name, paths in specs.items():
        folder = f"{REPOSITORIES}/{name}"
        settings = f"-D '_topdir {WORK}/build' -D '_rpmdir {folder}'"
        host.run(f"rpmbuild -bb --quiet {settings} {' '.join(paths)}", timeout=600)
        host.run(f"createrepo_c -q {folder}")


def lay_out(rpm: Rpm, debian: pathlib.Path, folder: pathlib.Path) -> None:
    """Put the files of an RPM into a folder, as they are to lie on SUSE."""
    folder.mkdir()
    for path in rpm.folders.split():
        (folder / path.lstrip("/")).mkdir(parents=True)
    for path, text in rpm.texts.items():
        place(folder, path).write_text(text)
    for pattern, path in rpm.paths.items():
        for package in rpm.debian.split():
            for file in (debian / package).glob(pattern):
                target = place(folder, path + file.name * path.endswith("/"))
                subprocess.run(["cp", "-aT", file, target], check=True)
    for pattern, path in rpm.links.items():
        for file in folder.glob(pattern.lstrip("/")):
            link = place(folder, f"{path}/{file.name.partition('.so')[0]}.so")
            up = "/".join(".." for _ in path.strip("/").split("/"))
            link.symlink_to(f"{up}/{file.relative_to(folder)}")


def place(folder: pathlib.Path, path: str) -> pathlib.Path:
    """Return where a path of SUSE is in a folder; the folder above it is there."""
    target = folder / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def spec(rpm: Rpm, version: str, release: int, files: str) -> str:
    """Return the spec file of an RPM whose files are in a folder."""
    sections = "\n".join(f"%{name}\n{textwrap.dedent(text)}" for name, text in rpm.scripts.items())
    return f"""\
%global debug_package %{{nil}}
%global __os_install_post %{{nil}}
%global _binary_payload w1.gzdio
Name: {rpm.name}
Version: {version}
Release: {release}
Summary: Stands in for {rpm.name} of openSUSE
License: GPL-3.0-or-later
AutoReqProv: no
{textwrap.dedent(rpm.tags)}
%description
%{{summary}}.

%install
mkdir -p %{{buildroot}}
cp -a {files}/. %{{buildroot}}

{sections}
%files
{textwrap.dedent(rpm.files)}
"""
