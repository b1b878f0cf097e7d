"""A real browser on a host of its own, for what pages of other origins get from a server."""

from __future__ import annotations

import html
import json
import re

import testbed
from minion import NAME

INSTALL = """
    set -e
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -qq --no-install-recommends -o APT::Keep-Downloaded-Packages=false \
        chromium python3 >/dev/null
"""
# Asks one after the other, and tells what the page itself was told: status and body, or nothing.
PAGE = """<!doctype html><pre>pending</pre><script>
(async () => {
  const told = [];
  for (const [path, init] of REQUESTS) {
    try {
      const answer = await fetch(BASE + path, init);
      told.push([answer.status, await answer.text()]);
    } catch (error) {
      told.push(null);
    }
  }
  document.querySelector("pre").textContent = JSON.stringify(told);
})();
</script>"""


def root() -> tuple:
    """Return a root with a browser."""
    base = testbed.root("trixie")
    return testbed.layer(
        "trixie-browser", INSTALL, base, lambda host: host.run(INSTALL, timeout=900)
    )


def ask(browser, server, port: int, requests: list) -> list:
    """
    Return what the page http://localhost:<port> on the browser's host was told by a server: for
    each request status and text, or None where the browser kept the answer from it.

    requests
        A list of pairs of path and the settings of the JavaScript function ``fetch``.
    """
    page = PAGE.replace("REQUESTS", json.dumps(requests))
    browser.write("/srv/page.html", page.replace("BASE", json.dumps(f"https://{NAME}:8042")))
    serve = f"systemd-run -q --unit pages-{port} python3 -m http.server -d /srv {port}"
    address = f"http://localhost:{port}/page.html"
    wait = f"until python3 -c 'import socket; socket.create_connection((\"localhost\", {port}))'"
    browser.run(f"{serve}; {wait} 2>/dev/null; do sleep 0.1; done")
    shown = browser.run(
        "chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage"
        f" --user-data-dir=/tmp/{port} --ignore-certificate-errors"
        f" --host-resolver-rules='MAP {NAME} {server.address}'"
        f" --virtual-time-budget=60000 --dump-dom {address} 2>/dev/null"
    ).out
    return json.loads(html.unescape(re.search("(?s)<pre>(.*)</pre>", shown)[1]))
