"""Check the links of the built documentation with aqueue's own link checker: ``python docs/check_links.py FOLDER``.

It serves the folder on the loopback interface and runs ``examples/linkcheck.py`` on it. Links to other hosts are left
out: building needs no network. The exit code is that of the checker: 1 if a link leads nowhere.
"""

import functools
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CHECKER = Path(__file__).parents[1] / "examples" / "linkcheck.py"
DEADLINE_S = 600


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and says nothing of it."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name in the base class
        """Say nothing."""


def main() -> int:
    """Serve the folder that the command line names, check it, and return the checker's exit code."""
    folder = Path(sys.argv[1])
    if not (folder / "index.html").exists():
        sys.exit(f"{folder} has no index.html; build the documentation first: make docs")
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/index.html"
        options = ["--no-external", "--ignore-robots", "--per-host", "16", "--reporter", "none"]
        checked = subprocess.run([sys.executable, CHECKER, address, *options], check=False, timeout=DEADLINE_S)
        server.shutdown()
    return checked.returncode


if __name__ == "__main__":
    sys.exit(main())
