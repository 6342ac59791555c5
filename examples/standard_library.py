"""Something real to mirror without a network: the standard library of the running Python, served over HTTP.

`mirror.py` uses it when it is run without a URL. It isn't an example of aqueue.
"""

import hashlib
import os
import subprocess
import sys
import sysconfig
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

# Installed packages can be of any size, and bytecode may be written while we read.
EXCLUDE = ("site-packages", "dist-packages", "__pycache__")

# `python -m http.server`, ended by the end of its standard input, which comes even if this process is killed, and with
# room for many connections at once: of more than five that wait to be accepted, Linux loses some. Each answer, and each
# further part of one, waits for about as long as the last argument says: so the server may seem to be far away.
_SERVER = """
import io, os, random, runpy, shutil, socketserver, sys, threading, time
socketserver.TCPServer.request_queue_size = 1000
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
wait_s = float(sys.argv.pop())
def copy_slowly(source, output):
    part = max(os.fstat(source.fileno()).st_size // PARTS, PART) if isinstance(source, io.BufferedReader) else -1
    time.sleep(wait_s * random.uniform(0.2, 1.8))
    while data := source.read(part):
        output.write(data)
        if part == len(data):
            time.sleep(wait_s)
if wait_s:
    shutil.copyfileobj = copy_slowly  # http.server sends files with it
runpy.run_module("http.server", run_name="__main__", alter_sys=True)
"""
_PART = 65_536
_PARTS = 20  # a file comes in at most this many parts


FOLDER = Path(sysconfig.get_paths()["stdlib"])


class Difference(Exception):
    """A copy differs from its source; the message says where."""


@contextmanager
def serve(busy_s: float = 0.0) -> Generator[str, None, None]:
    """Serve the standard library on loopback, from a child process, and return its URL.

    With `busy_s`, the server waits for that many seconds in total while it serves everything once.
    """
    program = _SERVER.replace("PARTS", str(_PARTS)).replace("PART", str(_PART))
    options = ["--bind", "127.0.0.1", "--directory", str(FOLDER)]
    command = [sys.executable, "-Iuc", program, "0", *options, str(busy_s / count_waits(FOLDER) if busy_s else 0)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # Ctrl-C must not reach the server: running downloads finish first
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            first_line = server.stdout.readline()  # Serving HTTP on 127.0.0.1 port 8000 (http://127.0.0.1:8000/) ...
            url = first_line.partition("(")[2].partition(")")[0]
            if not url:
                raise OSError(f"python -m http.server did not start: {command}")
            yield url
        finally:
            server.stdin.close()


def count_waits(folder: Path) -> int:
    """Return how often a slow server waits in total while it serves everything in `folder`."""
    waits = 1
    for child in folder.iterdir():
        if child.name not in EXCLUDE:
            waits += count_waits(child) if child.is_dir() else 1 + min(child.stat().st_size // _PART, _PARTS)
    return waits


def check(digest: str, copy: Path, source: Path = FOLDER) -> str:
    """Return a line that says that `digest` matches the digest of `source`, computed here from the disk.

    Raises:
        Difference: it is not; the message names the paths in which `copy` differs.
    """
    expected = scan(source, EXCLUDE)
    if digest != expected[""]:
        found = scan(copy)
        paths = [path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path)]
        raise Difference(
            f"digest {digest} differs from {expected['']} of the source folder {source}; {len(paths)} paths differ"
            + "".join(f"\n  {path or './'}" for path in sorted(paths)[:20])
        )
    files = [path for path in expected if path and not path.endswith("/")]
    size_mb = sum((source / path).stat().st_size for path in files) / 1e6
    return (
        f"digest {digest} matches the source folder: "
        f"{len(files)} files, {len(expected) - len(files)} directories, {size_mb:.1f} MB"
    )


def scan(folder: Path, exclude: tuple[str, ...] = (), below: str = "") -> dict[str, str]:
    """Return the digest of each file and directory in `folder` by its path; a directory's path ends in a slash.

    The folder's own is under `below`, with which all paths begin. Directories are digested as `mirror.py` says.
    """
    digests: dict[str, str] = {}
    entries: list[tuple[str, str]] = []
    for child in folder.iterdir():
        if child.name in exclude:
            continue
        slash = "/" if child.is_dir() else ""
        path = f"{below}{child.name}{slash}"
        if slash:
            digests |= scan(child, exclude, path)
        else:
            digests[path] = hashlib.sha256(child.read_bytes()).hexdigest()
        entries.append((quote(os.fsencode(child.name)) + slash, digests[path]))
    digests[below] = hashlib.sha256("".join(f"{d}  {name}\n" for name, d in sorted(entries)).encode()).hexdigest()
    return digests
