"""Real plugins of Orthanc, good and broken ones, and a web server that gives them to hosts.

https://orthanc.uclouvain.be/book/developers/creating-plugins.html
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import pathlib
import subprocess
import threading

CODE = """
#include <stdint.h>
#include <unistd.h>
int32_t OrthancPluginInitialize(const void* context) {{ return {initialize}; }}
void OrthancPluginFinalize(void) {{}}
const char* OrthancPluginGetName(void) {{ return "{name}"; }}
const char* OrthancPluginGetVersion(void) {{ return "{version}"; }}
{more}
"""
# Where the ELF header says which processor it is for, and the number of one that no host has.
MACHINE, SPARC = slice(18, 20), (2).to_bytes(2, "little")


def compile(path: pathlib.Path, code: str, *words: str) -> pathlib.Path:
    """Make a shared library of C code, with further words for gcc."""
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", str(path), *words, "-xc", "-"],
        input=code,
        text=True,
        check=True,
    )
    return path


def make(
    path: pathlib.Path,
    name: str = "made-for-tests",
    version: str = "1.0",
    initialize: str = "0",
    more: str = "",
    words: tuple[str, ...] = (),
) -> pathlib.Path:
    """Make a plugin.

    name, version
        What it says of itself; Orthanc shows it at /plugins.
    initialize
        The expression in C that it starts with: 0 is success.
    more
        More code.
    words
        More words for gcc.
    """
    code = CODE.format(initialize=initialize, name=name, version=version, more=more)
    return compile(path, code, *words)


def broken(folder: pathlib.Path) -> dict[str, tuple[pathlib.Path, str]]:
    """Make plugins that stop Orthanc: what is wrong -> the file, and words that say why."""
    good = make(folder / "libGood.so", "good").read_bytes()

    def written(name: str, content: bytes) -> pathlib.Path:
        (folder / name).write_bytes(content)
        return folder / name

    foreign = bytearray(good)
    foreign[MACHINE] = SPARC
    compile(folder / "libNeeded.so", "int needed(void) { return 1; }", "-Wl,-soname,libNeeded.so.7")
    needed = ("-Wl,--no-as-needed", str(folder / "libNeeded.so"))
    undefined = "int no_such_function(void); int call(void) { return no_such_function(); }"
    return {
        "truncated": (written("libTruncated.so", good[: len(good) // 2]), "SIGBUS"),
        "no library": (written("libPage.so", b"<html>404</html>"), "is no shared library"),
        "another processor": (written("libForeign.so", foreign), "built for another processor"),
        "missing library": (make(folder / "libNeeds.so", "needs", words=needed), "libNeeded.so.7"),
        "no plugin": (
            compile(folder / "libOther.so", "int x;"),
            "does not declare the proper entry functions",
        ),
        "another ABI": (
            make(folder / "libAbi.so", "abi", initialize="-1"),
            "Error while initializing",
        ),
        "missing function": (
            make(folder / "libUndefined.so", "undefined", more=undefined),
            "no_such_function",
        ),
        "name of another": (make(folder / "libAgain.so"), "already registered"),
    }


def sha256(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class WebServer:
    """Serves a folder to the test hosts, and counts the requests."""

    def __init__(self, address: str, folder: pathlib.Path) -> None:
        self.requests: list[str] = []
        requests = self.requests

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_) -> None:
                requests.append(self.path)

        handler = functools.partial(Handler, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer((address, 0), handler)
        self.url = f"http://{address}:{self.server.server_port}"

    def __enter__(self) -> WebServer:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()
