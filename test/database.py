"""A PostgreSQL server on a host of its own, reached over TLS only."""

from __future__ import annotations

import pki
import testbed
from minion import Server

NAME = "db.hospital.example"
# Where it is reached too, besides its own port.
OTHER_PORT = 5433
# Leads to the server as well, but its certificate does not have this name.
OTHER_NAME = "other.hospital.example"
ROLE = "pacs"
# As many special characters as there are, and what Orthanc itself would replace.
PASSWORD = "".join(map(chr, range(32, 127))) + "äß€ ${HOME}"
SETTINGS = """\
listen_addresses = '*'
ssl = on
ssl_cert_file = '/etc/postgresql/server.crt'
ssl_key_file = '/etc/postgresql/server.key'
"""
ACCESS = "hostssl all all 0.0.0.0/0 scram-sha-256\n"


def root() -> tuple:
    """Return the layers of a Debian 12 with PostgreSQL, that its package brought."""
    script = "DEBIAN_FRONTEND=noninteractive apt-get install -qq postgresql >/dev/null"
    base = testbed.used("bookworm")
    return testbed.layer("bookworm-postgresql", script, base, lambda host: host.run(script))


class Database(Server):
    """A PostgreSQL server, and the ``authority`` of its certificate."""

    def __init__(self) -> None:
        super().__init__(root())
        self.authority = pki.make("Hospital CA", authority=True)

    def __enter__(self) -> Database:
        super().__enter__()
        self.show(self.authority.sign(NAME))
        self.write("/etc/postgresql/15/main/conf.d/tls.conf", SETTINGS)
        self.run(f"echo '{ACCESS}' >> /etc/postgresql/15/main/pg_hba.conf")
        self.run("systemctl restart postgresql@15-main")
        self.sql(f"CREATE ROLE {ROLE} LOGIN PASSWORD $word${PASSWORD}$word$")
        self.run(
            f"systemd-run -q --socket-property=ListenStream={OTHER_PORT} --unit=other"
            " /lib/systemd/systemd-socket-proxyd 127.0.0.1:5432"
        )
        return self

    def show(self, pair: pki.Pair) -> None:
        """Let the server show this certificate from now on."""
        self.write("/etc/postgresql/server.crt", pair.pem)
        self.write("/etc/postgresql/server.key", pair.key)
        self.run("chown postgres: /etc/postgresql/server.*; chmod 600 /etc/postgresql/server.key")
        self.run("systemctl reload postgresql@15-main")

    def sql(self, statement: str, name: str = "postgres") -> str:
        """Return what a statement gives to the superuser."""
        return self.run(f"psql -qAtX {name}", user="postgres", input=statement).out.strip()

    def make(self, name: str) -> None:
        """Make one more database."""
        self.sql(f"CREATE DATABASE {name} OWNER {ROLE} ENCODING 'UTF8' TEMPLATE template0")

    def introduce(self, host: Server) -> None:
        """Tell another host the names of this one."""
        host.run(f"echo {self.address} {NAME} {OTHER_NAME} >> /etc/hosts")
