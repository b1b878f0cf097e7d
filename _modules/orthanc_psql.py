"""
A session of psql, to which statements are written, and from which lines are read, for as long as it
takes.

https://www.postgresql.org/docs/current/app-psql.html
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile

from salt.exceptions import CommandExecutionError

# It says what was asked for, and nothing else.
QUIET = ("--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1")


@contextlib.contextmanager
def session(section, account):
    """
    Part of the formula. Give a ``Session`` of psql, as long as the ``with`` block lasts and however
    long that is.

    section
        What ``orthanc_postgresql.section_of`` returned.

    account
        A mapping with the names of Orthanc's ``user`` and ``group``.

    Raises CommandExecutionError with PostgreSQL's own words where a statement failed.
    """
    words, names = ["psql", *QUIET, "--file=-"], (account["user"], account["group"])
    begun, pipes = __salt__["orthanc_postgresql.begun"], ("stdin", "stdout")
    streams = dict.fromkeys(pipes, subprocess.PIPE)
    with tempfile.TemporaryFile("w+", errors="replace") as said, begun(
        words, section, names, **streams, stderr=said
    ) as process:
        done = False
        try:
            yield Session(process)
            process.stdin.close()
            done = True
        except BrokenPipeError:
            pass  # It says why.
        finally:
            if not done:
                with contextlib.suppress(OSError):
                    process.stdin.close()
        if process.wait() or not done:
            said.seek(0)
            words = " ".join(said.read().split())
            raise CommandExecutionError(f"PostgreSQL says: {words}")


class Session:
    """psql, to which statements are written, and from which lines are read."""

    def __init__(self, process) -> None:
        self.process = process

    def write(self, text: str) -> None:
        self.process.stdin.write(text)

    def read(self) -> str:
        """Return the next line."""
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise BrokenPipeError
        return line.rstrip("\n")
