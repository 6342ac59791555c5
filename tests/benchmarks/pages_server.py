"""Serves a site of many pages over HTTP on loopback, for `crawl.py`, and says on standard output at which port.

    python pages_server.py 2000

Page 0 links to the pages 1 to 20, page 1 to the pages 21 to 40, and so on: a tree in which each page has 20 children,
but for the last ones. Each page also links back to the page above it and to page 0, and has about 4 kB. All answers are
made before the first request, so that one costs the server some 60 µs, a small part of what it costs any crawler.

It ends at end of file on standard input, and prints the CPU time that it took, in seconds.
"""

import asyncio
import sys
import time

CHILDREN = 20
FILLER = "<p>" + "A page has some text beside its links, and a crawler has to read past it. " * 5 + "</p>\n"


def answer(number: int, count: int) -> bytes:
    """Return the whole answer to a request for one page."""
    first = number * CHILDREN + 1
    links = [0, max(number - 1, 0) // CHILDREN, *range(min(first, count), min(first + CHILDREN, count))]
    body = (
        f"<!DOCTYPE html>\n<html><head><title>Page {number}</title></head><body>\n{FILLER * 5}<ul>\n"
        + "".join(f'<li><a href="/page/{link}">Page {link}</a></li>\n' for link in links)
        + f"</ul>\n{FILLER * 5}</body></html>\n"
    ).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s" % (
        len(body),
        body,
    )


NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class Connection(asyncio.Protocol):
    """Answers one request after the other. None of them has a body."""

    def __init__(self, answers: dict[bytes, bytes]) -> None:
        self.answers = answers
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        while True:
            head, end, rest = self.received.partition(b"\r\n\r\n")
            if not end:
                return
            self.received = rest
            self.transport.write(self.answers.get(head.split(b" ", 2)[1], NOT_FOUND))


async def serve(count: int) -> None:
    """Serve until standard input ends."""
    answers = {b"/page/%d" % number: answer(number, count) for number in range(count)}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(answers), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    before = time.process_time()
    await loop.run_in_executor(None, sys.stdin.read)
    print(time.process_time() - before, flush=True)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
