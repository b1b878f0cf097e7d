"""A real browser on a host of its own, for what pages of other origins get from a server."""

from __future__ import annotations

import json
import shlex

import testbed
from minion import NAME

INSTALL = """
    set -e
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -qq --no-install-recommends -o APT::Keep-Downloaded-Packages=false \
        chromium python3 >/dev/null
"""
# Asks one after the other, and tells what the page itself was told: status and body, or nothing. A
# page is told no more of a connection that broke than of an answer that is kept from it; but what
# is kept from it is so each time.
PAGE = """<!doctype html><script>
const ask = async (path, init, times) => {
  try {
    const answer = await fetch(BASE + path, init);
    return [answer.status, await answer.text()];
  } catch (error) {
    console.log(`${path}: ${error}`);
    if (times === 1) {
      return null;
    }
    await new Promise(resolve => setTimeout(resolve, 300));
    return ask(path, init, times - 1);
  }
};
(async () => {
  const told = [];
  for (const [path, init] of REQUESTS) {
    told.push(await ask(path, init, 3));
  }
  await fetch("/told", {method: "POST", body: JSON.stringify(told)});
})();
</script>"""
# Serves the page, opens it in the browser and prints what it tells.
OPEN = """
import http.server, subprocess, sys, threading
port, *options = sys.argv[1:]
page, told, came = sys.stdin.buffer.read(), [], threading.Event()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(page)

    def do_POST(self):
        told.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        came.set()

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("localhost", int(port)), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
browser = subprocess.Popen(["chromium", *options, f"http://localhost:{port}/"])
came.wait(240)
browser.kill()
sys.exit("the page told nothing") if not told else print(told[0])
"""
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--ignore-certificate-errors", "--enable-logging=stderr", "--v=0"),
)


def root() -> tuple:
    """Return a root with a browser."""
    base = testbed.root("trixie")
    return testbed.layer(
        "trixie-browser", INSTALL, base, lambda host: host.run(INSTALL, timeout=900)
    )


def ask(browser, server, port: int, requests: list) -> tuple[list, str]:
    """
    Return what the page http://localhost:<port> on the browser's host was told by a server: for
    each request status and text, or None where the browser kept the answer from it; and what the
    browser says of it.

    requests
        A list of pairs of path and the settings of the JavaScript function ``fetch``.
    """
    page = PAGE.replace("REQUESTS", json.dumps(requests))
    page = page.replace("BASE", json.dumps(f"https://{NAME}:8042"))
    own = (f"--user-data-dir=/tmp/{port}", f"--host-resolver-rules=MAP {NAME} {server.address}")
    words = shlex.join(["python3", "-c", OPEN, str(port), *OPTIONS, *own])
    done = browser.run(words, input=page)
    return json.loads(done.out), done.err
