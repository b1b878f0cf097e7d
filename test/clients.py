"""Clients that go on asking a server, and what became of their requests."""

from __future__ import annotations

import base64
import collections
import contextlib
import hashlib
import http.client
import json
import socket
import ssl
import threading
import time

from minion import NAME

SEARCH = json.dumps({"Level": "Study", "Expand": True, "Query": {"PatientName": "*"}})
REQUESTS = [("GET", "/system", None), ("GET", "/instances", None), ("POST", "/tools/find", SEARCH)]


@contextlib.contextmanager
def meanwhile(work, threads: int = 1):
    """Do something again and again as long as the block lasts, in so many threads."""
    over = threading.Event()

    def go_on() -> None:
        while not over.is_set():
            work()

    going = [threading.Thread(target=go_on) for _ in range(threads)]
    for thread in going:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in going:
            thread.join()


class Connection(http.client.HTTPConnection):
    """A connection to a host of the tests, over TLS if there is an authority to trust."""

    def __init__(
        self, host: str, port: int, context: ssl.SSLContext | None, timeout: float
    ) -> None:
        super().__init__(host, port, timeout=timeout)
        self.context = context

    def connect(self) -> None:
        super().connect()
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.context:
            self.sock = self.context.wrap_socket(self.sock, server_hostname=NAME)

    def certificate(self) -> str:
        """Return a fingerprint of the server's certificate."""
        return hashlib.sha256(self.sock.getpeercert(binary_form=True)).hexdigest()


class Clients:
    """Threads that ask a server over and over while a test does something to it.

    user
        Name and password.
    ca
        The file of the authority that signed the server's certificate; without one, HTTP.
    keeping, opening
        How many of them keep their connection, and how many open one for each request.
    pause
        How many seconds each waits between its requests.
    timeout
        After how many seconds without an answer a request has failed.
    """

    def __init__(
        self,
        host: str,
        user: tuple[str, str],
        ca: str = "",
        port: int = 8042,
        keeping: int = 0,
        opening: int = 1,
        pause: float = 0.05,
        timeout: float = 20,
    ) -> None:
        self.host, self.port, self.pause, self.timeout = host, port, pause, timeout
        self.context = ssl.create_default_context(cafile=ca) if ca else None
        token = base64.b64encode(":".join(user).encode()).decode()
        self.headers = {"Authorization": f"Basic {token}"}
        self.answered: list[float] = []
        self.failed: list[tuple[float, str]] = []
        self.repeated: list[float] = []
        self.seen: collections.Counter = collections.Counter()
        self.over = threading.Event()
        kinds = [True] * keeping + [False] * opening
        self.threads = [threading.Thread(target=self._go_on, args=[kind]) for kind in kinds]

    def __enter__(self) -> Clients:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def wait_for(self, count: int) -> None:
        """Wait until so many requests were answered, or one failed."""
        while len(self.answered) < count and not self.failed:
            time.sleep(0.05)

    def wait_for_answer(self, limit: float = 60) -> None:
        """Wait until a server that was away answers again, for at most so many seconds."""
        now = time.monotonic()
        while not self.answered or self.answered[-1] < now:
            assert time.monotonic() < now + limit, f"no answer for {limit} s: {self.failed[-1:]}"
            time.sleep(0.05)

    def failures(self, since: float) -> list[str]:
        """Return what became of the requests that began since a moment and failed."""
        return [text for began, text in list(self.failed) if began >= since]

    def away(self, since: float) -> float:
        """Return the longest time without an answer since a moment."""
        moments = [since, *sorted(moment for moment in list(self.answered) if moment >= since)]
        return max(after - before for before, after in zip(moments, moments[1:]))

    def send(self, method: str, path: str, file=None, size: int = 0) -> http.client.HTTPResponse:
        """Send one request and return the answer, yet to be read.

        file
            Its body: a file, or parts one after the other; ``size`` is that of all, in bytes.
        """
        connection = Connection(self.host, self.port, self.context, timeout=300)
        headers = {**self.headers, "Content-Length": str(size)} if file else self.headers
        connection.request(method, path, file, headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise ValueError(f"{method} {path}: HTTP {answer.status} {answer.read(200)!r}")
        return answer

    def _go_on(self, keep: bool) -> None:
        number, connection = 0, None
        while not self.over.wait(self.pause):
            number, began = number + 1, time.monotonic()
            try:
                connection = self._ask(connection, *REQUESTS[number % len(REQUESTS)])
                self.answered.append(time.monotonic())
            except (OSError, ValueError, http.client.HTTPException) as err:
                self.failed.append((began, f"{time.monotonic() - began:.2f} s: {err!r}"))
                connection = None
            if connection and not keep:
                connection.close()
                connection = None

    def _ask(self, connection, method: str, path: str, body: str | None) -> Connection:
        """Send one request and return its connection; what is not a good answer raises."""
        answer = None
        if connection:
            # A server may close an idle connection at any time. Every client sends its request
            # again when that has happened before it got a byte of the answer (RFC 9112, 9.3.1).
            with contextlib.suppress(ConnectionError, ssl.SSLEOFError, http.client.BadStatusLine):
                connection.request(method, path, body, self.headers)
                answer = connection.getresponse()
            if not answer:
                self.repeated.append(time.monotonic())
        if not answer:
            connection = Connection(self.host, self.port, self.context, self.timeout)
            connection.connect()
            if self.context:
                self.seen[connection.certificate()] += 1
            connection.request(method, path, body, self.headers)
            answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200 or json.loads(text) is None:
            raise ValueError(f"{method} {path}: HTTP {answer.status} {text[:200]!r}")
        if answer.will_close:
            connection.close()
            return None
        return connection
