"""Mirror a directory listing over HTTP, and verify the copy with one digest.

    python examples/mirror.py                                       # the standard library, from its own server
    python examples/mirror.py https://example.org/pub/ pub/         # what Apache, nginx or `python -m http.server` list
    python examples/mirror.py URL DEST --resume mirror.db           # with a journal, so that it can be resumed
    python examples/mirror.py --help

A `Directory` reads one listing and enqueues what it finds. A `File` streams to disk and returns its SHA-256. Once
everything below a directory has completed, its hook combines the digests of its children, so that the root's digest covers
every byte and every name of the mirror. Run without a URL, the example compares it with one computed from the source.

With `--resume`, everything is recorded in a journal. After Ctrl-C, `kill -9` or a power cut the same command resumes:
completed downloads are not requested again, and the digest is that of an uninterrupted run. Three things ensure that.
Items hold only what identifies them permanently, while what may differ the next time (the server's port, the folder, the
client) comes from `lifespan`. A file appears whole or not at all, so fetching it twice does no harm. And it is on the disk
before its item completes, since the journal then says that it is there.
"""

import argparse
import hashlib
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote, urljoin, urlsplit
from uuid import uuid4

import anyio.to_thread
import httpx

import standard_library
from aqueue import EnqueueFn, Item, ItemFailures, JournalError, SetDescFn, child_results, current, run_queue, shared

# --- The items ---


@dataclass
class Site:
    """What all items share: the source and the target of the mirror in this process."""

    client: httpx.AsyncClient
    url: str
    folder: Path
    exclude: tuple[str, ...]


class Directory(Item):
    """A listing at `url`, to be mirrored into the folder `path`; both are relative to the site's.

    The initial one also names the `source` and what to `exclude`, so that a journal isn't resumed for another mirror: an
    initial item that differs from the recorded one is a new item.
    """

    def __init__(self, url: str, path: str, source: str = "", exclude: frozenset[str] = frozenset()) -> None:
        self.url = url
        self.path = path
        self.source = source
        self.exclude = exclude

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        site: Site = shared()
        listing = site.url + self.url
        set_desc(unquote(listing))
        async with get(listing) as response:
            if not response.headers.get("content-type", "").startswith("text/html"):
                raise MirrorError(f"{listing}: not a directory listing: it is not HTML")
            await response.aread()
        os.makedirs(site.folder / self.path, exist_ok=True)
        links, refused = read_listing(listing, response.text)
        for name, url in links.items():
            if name in site.exclude:
                continue
            kind: type[Directory | File] = Directory if url.endswith("/") else File
            enqueue(kind(url.removeprefix(site.url), os.path.join(self.path, name)))
        if refused:  # everything else is still mirrored
            raise MirrorError(f"{listing}: not mirrored: {'; '.join(refused)}")

    async def after_children_processed(self) -> tuple[str, str]:
        return listed_name(self.path) + "/", directory_digest(child_results())


class File(Item):
    """A file at `url`, to be written to `path`; both are relative to the site's."""

    track_overall = True

    def __init__(self, url: str, path: str) -> None:
        self.url = url
        self.path = path

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> tuple[str, str]:
        site: Site = shared()
        url = site.url + self.url
        shown_path = unquote(urlsplit(url).path)
        set_desc(f"{readable(0):>8}  {shown_path}")
        digest = hashlib.sha256()
        async with get(url) as response, whole_file(site.folder / self.path) as file:
            async for chunk in response.aiter_raw():
                # Not in a thread: writing 64 kB to the page cache takes less time than waking one.
                file.write(chunk)
                digest.update(chunk)
                set_desc(f"{readable(file.tell()):>8}  {shown_path}")
        return listed_name(self.path), digest.hexdigest()


class MirrorError(Exception):
    """A URL could not be mirrored; the message names it and says why."""


@asynccontextmanager
async def get(url: str) -> AsyncGenerator[httpx.Response, None]:
    """Request `url` with the client that all items share; any error becomes a `MirrorError`."""
    site: Site = shared()
    try:
        async with site.client.stream("GET", url) as response:
            if response.status_code != 200:
                to = f" to {response.headers['location']}" if response.has_redirect_location else ""
                raise MirrorError(f"{url}: HTTP {response.status_code} {response.reason_phrase}{to}")
            yield response
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise MirrorError(f"{url}: {type(error).__name__}: {error}") from error


@asynccontextmanager
async def whole_file(path: Path) -> AsyncGenerator[BinaryIO, None]:
    """Open a new file that will be at `path` once it is whole; after an error or a cancellation nothing is left.

    With a journal, it is then on the disk; and a partial file of a killed process is replaced when the item runs again,
    since the temporary name is the same in every rerun, and differs from that of every other item.
    """
    key = current().idempotency_key
    temporary = path.with_name(f".{key or uuid4().hex}.part")  # can't be a name in the listing, and is short enough
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            if key:
                await anyio.to_thread.run_sync(os.fsync, file.fileno())
        temporary.replace(path)
        if key:
            await anyio.to_thread.run_sync(sync_folder, path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make sure that the names in `folder` are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- What a listing says ---


class LinkParser(HTMLParser):
    """Collects the targets of the links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value for name, value in attrs if tag == "a" and name == "href" and value]


def read_listing(url: str, html: str) -> tuple[dict[str, str], list[str]]:
    """Return the URL of each entry directly below `url` by its name on disk, and what is wrong with the other links.

    A folder's URL ends in a slash. Links to other places (the parent, other hosts, sort orders) aren't entries and are
    ignored; an entry whose name could lead out of its folder is refused.
    """
    parser = LinkParser()
    parser.feed(html)
    links: dict[str, str] = {}
    refused: list[str] = []
    for reference in parser.references:
        try:
            link = urljoin(url, reference.strip()).partition("#")[0]
        except ValueError:  # not a valid URL
            continue
        entry = link.removeprefix(url)
        encoded_name = entry.removesuffix("/")
        if entry == link or not encoded_name or "/" in encoded_name or "?" in entry:
            continue
        name = unquote(encoded_name, errors="surrogateescape")
        if name in {".", ".."} or set(name) & set("/\\\0"):
            refused.append(f"the link {reference!r} isn't a valid file name")
        elif links.setdefault(name, link) != link:
            refused.append(f"{name!r} is both a file and a folder")
    return links, refused


def listed_name(path: str) -> str:
    """Return the last part of `path` percent-encoded: on one line, and valid JSON in any encoding on disk."""
    return quote(os.fsencode(Path(path).name))


def directory_digest(entries: Iterable[tuple[str, str]]) -> str:
    """Return the SHA-256 of a folder, given the name and digest of each entry in it."""
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in sorted(entries)).encode()).hexdigest()


def readable(size_bytes: float) -> str:
    """Return a size for people, such as ``12.3 kB``."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.1f} {unit}" if unit != "B" else f"{size_bytes} B"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"


# --- The run ---


def mirror(url: str, folder: Path, options: argparse.Namespace) -> str:
    """Mirror the listing at `url` into `folder`, and return the digest of the whole."""
    result = run_queue(
        initial_items=[Directory("", "", options.url, frozenset(options.exclude))],
        num_workers=options.workers,
        queue_type_name="stack",  # depth first: subtrees are finished, and forgotten, early
        on_error="continue",
        lifespan=partial(open_site, url if url.endswith("/") else url + "/", folder, options),
        reporter=options.reporter,
        resume=options.resume,
    )
    [root] = result.root_results
    if options.resume and next(result.iter_results()).result != root:  # the journal's first item is another one
        raise MirrorError(
            f"{options.resume} is the journal of a mirror with another URL or --exclude; name another file"
        )
    _, digest = root
    return str(digest)


@asynccontextmanager
async def open_site(url: str, folder: Path, options: argparse.Namespace) -> AsyncGenerator[Site, None]:
    """Open what the items share."""
    async with httpx.AsyncClient(
        headers={"accept-encoding": "identity"},  # the bytes of the file, not a compressed form of them
        limits=httpx.Limits(max_connections=options.workers),
        timeout=30.0,
        trust_env=options.url != "stdlib",  # a proxy can't reach our own server
    ) as client:
        yield Site(client, url, folder, tuple(options.exclude))


def mirror_standard_library(options: argparse.Namespace) -> str:
    """Mirror the standard library from our own server, and return the result of comparing it with the source."""
    options.exclude += standard_library.EXCLUDE
    with (
        tempfile.TemporaryDirectory(prefix="aqueue-mirror-") as temporary,
        standard_library.serve(options.slow * options.workers) as url,
    ):
        folder = Path(options.dest or temporary)
        return standard_library.check(mirror(url, folder, options), folder)


def main() -> int:
    """Run the example and return the exit code: 0 if everything is mirrored."""
    options = read_arguments()
    try:
        if options.url == "stdlib":
            print(mirror_standard_library(options))
        else:
            print(f"digest {mirror(options.url, Path(options.dest), options)}")
    except ItemFailures as failures:
        listed = "".join(f"\n  {failure}" for failure in failures.exceptions[:10])
        print(f"the mirror is incomplete: {failures.message}{listed}", file=sys.stderr)
        return 1
    except (standard_library.Difference, MirrorError, JournalError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the mirror is incomplete", file=sys.stderr)
        return 130
    return 0


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Mirror a directory listing over HTTP, and print one digest of everything in it.",
        epilog="examples:\n"
        "  mirror.py                                  serve and mirror Python's standard library, and check the copy\n"
        "  mirror.py stdlib copy/                     the same, and keep the copy\n"
        "  mirror.py https://example.org/pub/ pub/    mirror a listing by Apache, nginx or python -m http.server\n"
        "  mirror.py https://example.org/pub/ pub/ --resume pub.db    the same, resumable: run it again after an interruption\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url", metavar="URL", nargs="?", default="stdlib", help="the listing (default: %(default)s)")
    parser.add_argument("dest", metavar="DEST", nargs="?", help="the folder to write to (stdlib: a temporary one)")
    parser.add_argument("--workers", type=int, default=8, help="concurrent downloads (default: %(default)s)")
    parser.add_argument("--reporter", default="auto", help="auto, rich, plain, jsonl or none (default: %(default)s)")
    parser.add_argument("--resume", metavar="FILE", help="record the run in FILE, or resume the one recorded there")
    parser.add_argument(
        "--slow", metavar="S", type=float, default=0.0, help="stdlib: slow the server so that it takes about S seconds"
    )
    parser.add_argument(
        "--exclude", metavar="NAME", action="append", default=[], help="skip files and folders of this name; repeatable"
    )
    options = parser.parse_args()
    if options.url != "stdlib" and not options.url.startswith(("http://", "https://")):
        parser.error("URL must start with http:// or https://")
    if options.url != "stdlib" and not options.dest:
        parser.error("DEST is missing: name the folder to mirror into")
    if options.resume and not options.dest:
        parser.error("DEST is missing: with --resume, name a folder that isn't temporary")
    return options


if __name__ == "__main__":
    sys.exit(main())
