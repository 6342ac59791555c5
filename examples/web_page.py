"""The web formats that the link checker needs: normalized addresses, the links of a page, robots.txt."""

import re
from contextlib import suppress
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit
from urllib.robotparser import RobotFileParser

import httpx

from aqueue.text import visible, visible_repr

# --- Addresses ---


def normalise(reference: str, base: str = "") -> str:
    """Return the normal form of an address, without its fragment; "" if it isn't http or https.

    Raises ValueError if it isn't a valid URL.
    """
    try:
        url = httpx.URL(urljoin(base, reference.strip()))  # lower case, IDNA, dot segments, default port, escapes
        if url.scheme not in {"http", "https"}:
            return ""
        url.raw_host.decode().encode("idna")  # refuses what can't be looked up
    except (httpx.InvalidURL, ValueError) as error:
        raise ValueError(f"{visible_repr(reference)} is not a valid URL: {error}") from error
    if not re.fullmatch("[a-z0-9._:-]+", url.raw_host.decode()) or (url.port or 0) > 65_535:
        raise ValueError(f"{visible_repr(reference)} is not a valid URL: its host or port is invalid")
    return re.sub("%[0-9a-fA-F]{2}", plain_if_unreserved, str(url.copy_with(raw_path=url.raw_path, fragment=None)))


def plain_if_unreserved(escape: re.Match[str]) -> str:
    """Return the character of an escape if it needn't be escaped (RFC 3986, section 6.2.2), or else the escape."""
    character = chr(int(escape[0][1:], 16))
    return character if re.fullmatch("[A-Za-z0-9._~-]", character) else escape[0].upper()


def origin(url: str) -> str:
    return "{0.scheme}://{0.netloc}".format(urlsplit(url))


def site_of(url: str) -> str:
    """Return host and folder of an address."""
    parts = urlsplit(url)
    return parts.netloc + parts.path.rpartition("/")[0] + "/"


def is_below(url: str, site: str) -> bool:
    return url.partition("://")[2].startswith(site)


# --- Pages ---

# Which attributes hold links. A <link> that only asks the browser to connect early (preconnect) isn't a page.
LINKS = {
    "a": ["href"], "area": ["href"], "link": ["href"], "script": ["src"], "img": ["src"], "iframe": ["src"],
    "frame": ["src"], "embed": ["src"], "object": ["data"], "audio": ["src"], "video": ["src", "poster"],
    "source": ["src"], "track": ["src"], "input": ["src"],
}  # fmt: skip


class LinkParser(HTMLParser):
    """Collects the targets of the links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.base = ""
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(reversed(attrs))  # the first of two attributes counts
        if tag == "base":
            self.base = self.base or values.get("href") or ""
        elif tag != "link" or not {"preconnect", "dns-prefetch"} & set((values.get("rel") or "").lower().split()):
            self.references += [value for name in LINKS.get(tag, []) if (value := values.get(name)) is not None]


def find_links(url: str, html: str) -> tuple[list[str], list[str]]:
    """Return the addresses that a page links to, each once, and the links that aren't valid URLs."""
    parser = LinkParser()
    parser.feed(html.replace("<![", "&lt;!["))  # before Python 3.14, html.parser gave up at a marked section
    parser.close()
    base = url
    with suppress(ValueError):
        base = normalise(parser.base, url) or url
    links: dict[str, None] = {}
    invalid: dict[str, None] = {}
    for reference in parser.references:
        try:
            links[normalise(reference, base)] = None
        except ValueError:
            invalid[visible(reference.strip(), 200)] = None
    links.pop("", None)
    return list(links), list(invalid)


def decode(body: bytes, charset: str | None) -> str:
    """Decode a page with the encoding that the server names, or else the page itself; by default UTF-8."""
    declared = re.search(rb"<meta[^>]+charset\s*=\s*[\"']?([\w.:-]+)", body[:1024], re.IGNORECASE)
    for encoding in (charset, declared and declared[1].decode("ascii", "replace")):
        with suppress(LookupError, ValueError):  # unknown, or not a text encoding
            if encoding:
                return body.decode(encoding, "replace")
    return body.decode("utf-8-sig", "replace")


def read_robots(text: str) -> RobotFileParser:
    """Read robots.txt. Lines that make the parser raise, such as a path that is half a URL, are ignored."""
    lines: list[str] = []
    for line in text.splitlines():
        with suppress(ValueError):
            RobotFileParser().parse(["User-agent: *", line])
            lines.append(line)
    rules = RobotFileParser()
    rules.parse(lines)
    return rules
