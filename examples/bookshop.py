"""A bookshop to practise on: the tutorial's site, on your own machine.

    python examples/bookshop.py                      # 1,000 books at http://127.0.0.1:8000/, until Ctrl-C
    python examples/bookshop.py --slow 0.2           # as far away as a real site
    python examples/bookshop.py --books 100 --flaky  # a small one that is sometimes too busy
    python examples/bookshop.py --help

It has the paths and the page structure of https://books.toscrape.com/, a site for practising scraping, so the same
scraper works on both. Its books are made up, and are the same each time. As on the real site, not every book has a
description. Categories have no pages of their own: they link to the front page.

It isn't an example of aqueue, and needs only Python.
"""

import argparse
import random
import re
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BOOKS_ON_A_PAGE = 20
WITHOUT_DESCRIPTION = {5, 32}
EVERY = 40  # with --flaky, the page of every 40th book is refused at first
RETRY_AFTER_S = 1

CATEGORIES = ["Bees", "Bridges", "Clocks", "Fog", "Islands", "Lighthouses", "Maps", "Tea", "Trains", "Winter"]
QUALITIES = ["Borrowed", "Brass", "Careful", "Crooked", "Distant", "Folded", "Hollow", "Last", "Patient", "Seventh"]
THINGS = [
    "Almanac",
    "Cartographer",
    "Ferry",
    "Garden",
    "Harbour",
    "Ladder",
    "Orchard",
    "Postman",
    "Staircase",
    "Teapot",
]
PLACES = [
    "Ashmere",
    "Brindle Bay",
    "Coldwater",
    "Dunmarsh",
    "Eastholm",
    "Fogwick",
    "Gullport",
    "Highfen",
    "Ironvale",
    "Low Tarn",
]
SUBJECTS = ["A retired harbour master", "Her youngest cousin", "The night train's cook", "Nobody in the village"]
VERBS = ["repairs", "mislays", "inherits", "paints", "remembers"]
OBJECTS = ["an unfinished map", "the town clock", "a box of keys", "the wrong umbrella", "eleven letters"]
WHENS = ["one wet spring", "before the ice melts", "for the second time", "against good advice"]
STARS = ["One", "Two", "Three", "Four", "Five"]


@dataclass
class Book:
    number: int
    title: str
    category: str
    price: str
    stars: str
    stock: int
    description: str
    upc: str

    @property
    def folder(self) -> str:
        return f"{re.sub('[^a-z0-9]+', '-', self.title.lower())}_{self.number}"


def make_title(number: int) -> str:
    """Return one of 1,000 titles; beyond these, there are further volumes."""
    rest, quality = divmod(number * 617 % 1000, 10)
    place, thing = divmod(rest, 10)
    volume = (number - 1) // 1000 + 1
    return f"The {QUALITIES[quality]} {THINGS[thing]} of {PLACES[place]}" + f", Volume {volume}" * (volume > 1)


def make_book(number: int) -> Book:
    """Make up the book of this number; it is the same each time."""
    chance = random.Random(number)
    sentences = [
        f"{chance.choice(SUBJECTS)} {chance.choice(VERBS)} {chance.choice(OBJECTS)} {chance.choice(WHENS)}."
        for _ in range(chance.randint(2, 6))
    ]
    return Book(
        number=number,
        title=make_title(number),
        category=chance.choice(CATEGORIES),
        price=f"£{chance.randint(1000, 5999) / 100:.2f}",
        stars=chance.choice(STARS),
        stock=chance.randint(1, 22),
        description="" if number in WITHOUT_DESCRIPTION else " ".join(sentences),
        upc=f"{chance.getrandbits(64):016x}",
    )


# --- The pages ---


def page(title: str, body: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{escape(title)} | The Bookshop</title>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def listing(books: list[Book], number: int, to_books: str) -> str:
    """Return an index page; `to_books` leads from its folder to that of the books and the other pages."""
    pages = count_pages(books)
    first = (number - 1) * BOOKS_ON_A_PAGE
    shown = books[first : first + BOOKS_ON_A_PAGE]
    pods = "\n".join(
        '<li><article class="product_pod">\n'
        f'<p class="star-rating {book.stars}"></p>\n'
        f'<h3><a href="{to_books}{book.folder}/index.html" title="{escape(book.title)}">{escape(book.title)}</a></h3>\n'
        f'<div class="product_price"><p class="price_color">{book.price}</p>\n'
        '<p class="instock availability">In stock</p></div>\n</article></li>'
        for book in shown
    )
    pager = f'<li class="current">Page {number} of {pages}</li>\n'
    if number > 1:
        pager = f'<li class="previous"><a href="{to_books}page-{number - 1}.html">previous</a></li>\n' + pager
    if number < pages:
        pager += f'<li class="next"><a href="{to_books}page-{number + 1}.html">next</a></li>\n'
    return page(
        "All products",
        f"<h1>All products</h1>\n<strong>{len(books)}</strong> results - showing <strong>{first + 1}</strong> to "
        f'<strong>{first + len(shown)}</strong>.\n<ol class="row">\n{pods}\n</ol>\n<ul class="pager">\n{pager}</ul>',
    )


def book_page(book: Book) -> str:
    title = escape(book.title)
    description = ""
    if book.description:
        description = (
            '<div id="product_description" class="sub-header"><h2>Product Description</h2></div>\n'
            f"<p>{escape(book.description)}</p>\n"
        )
    rows = {
        "UPC": book.upc,
        "Product Type": "Books",
        "Price (excl. tax)": book.price,
        "Price (incl. tax)": book.price,
        "Tax": "£0.00",
        "Availability": f"In stock ({book.stock} available)",
        "Number of reviews": "0",
    }
    table = "\n".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows.items())
    return page(
        book.title,
        '<ul class="breadcrumb">\n<li><a href="../../index.html">Home</a></li>\n<li><a href="../../index.html">Books</a>'
        f'</li>\n<li><a href="../../index.html">{book.category}</a></li>\n<li class="active">{title}</li>\n</ul>\n'
        f'<article class="product_page">\n<div class="product_main">\n<h1>{title}</h1>\n'
        f'<p class="price_color">{book.price}</p>\n'
        f'<p class="instock availability"><i class="icon-ok"></i> In stock ({book.stock} available)</p>\n'
        f'<p class="star-rating {book.stars}"></p>\n</div>\n{description}'
        f'<table class="table table-striped">\n{table}\n</table>\n</article>',
    )


def count_pages(books: list[Book]) -> int:
    return max(1, -(-len(books) // BOOKS_ON_A_PAGE))


class Shop:
    """All pages by their paths, and which of them are still to be refused once."""

    def __init__(self, books: int, *, flaky: bool) -> None:
        shelf = [make_book(number) for number in range(books, 0, -1)]
        self.pages = {"/": listing(shelf, 1, "catalogue/"), "/index.html": listing(shelf, 1, "catalogue/")}
        for number in range(1, count_pages(shelf) + 1):
            self.pages[f"/catalogue/page-{number}.html"] = listing(shelf, number, "")
        paths = {book.number: f"/catalogue/{book.folder}/index.html" for book in shelf}
        self.pages |= {paths[book.number]: book_page(book) for book in shelf}
        self._lock = threading.Lock()
        self._to_refuse = {path for number, path in paths.items() if flaky and number % EVERY == 0}

    def refuses(self, path: str) -> bool:
        """Return whether to refuse this request: the first one for some pages."""
        with self._lock:
            refused = path in self._to_refuse
            self._to_refuse.discard(path)
        return refused


# --- The server ---


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body go out together
    disable_nagle_algorithm = True

    def __init__(self, *arguments: object, shop: Shop, slow_s: float) -> None:
        self.shop = shop
        self.slow_s = slow_s
        super().__init__(*arguments)  # type: ignore[arg-type]  # passed on as they come

    def do_GET(self) -> None:
        time.sleep(self.slow_s)
        path = self.path.partition("?")[0]
        text = self.shop.pages.get(path)
        if text is None:
            self.send_error(404, "Not Found")
        elif self.shop.refuses(path):
            self.answer(503, page("Busy", "<h1>Too busy, come again</h1>"))
        else:
            self.answer(200, text)

    do_HEAD = do_GET  # noqa: N815  # the name that the base class looks for

    def answer(self, status: int, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        if status == 503:
            self.send_header("Retry-After", str(RETRY_AFTER_S))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name that the base class gives it
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 1000  # connections that wait to be accepted

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a client that was killed; anything else is a bug in this program."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # passed on as they come


def main() -> int:
    """Serve the shop until Ctrl-C, and return the exit code."""
    options = read_arguments()
    shop = Shop(options.books, flaky=options.flaky)
    try:
        server = Server(("127.0.0.1", options.port), partial(Handler, shop=shop, slow_s=options.slow))
    except OSError as error:
        print(f"bookshop.py: port {options.port}: {error.strerror}; choose another with --port", file=sys.stderr)
        return 2
    with server:
        print(f"{options.books} books at http://127.0.0.1:{server.server_port}/ until Ctrl-C", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Serve a made-up bookshop on this machine to practise scraping on.",
        epilog="examples:\n"
        "  bookshop.py                       1,000 books at http://127.0.0.1:8000/\n"
        "  bookshop.py --slow 0.2            as far away as a real site\n"
        "  bookshop.py --books 100 --flaky   a small one that is sometimes too busy\n"
        "  bookshop.py --port 0              on any free port\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--books", metavar="N", type=int, default=1000, help="number of books, 20 per index page (default: %(default)s)"
    )
    parser.add_argument(
        "--port",
        metavar="PORT",
        type=int,
        default=8000,
        help="port to listen on, 0 for any free one (default: %(default)s)",
    )
    parser.add_argument(
        "--slow", metavar="SECONDS", type=float, default=0.0, help="wait before each answer (default: 0)"
    )
    parser.add_argument(
        "--flaky",
        action="store_true",
        help=f"answer the first request for every {EVERY}th book with 503 and Retry-After: {RETRY_AFTER_S}",
    )
    options = parser.parse_args()
    if options.books < 1:
        parser.error("--books must be at least 1")
    if not 0 <= options.port <= 65_535:
        parser.error("--port must be from 0 to 65535")
    if not 0 <= options.slow <= 60:
        parser.error("--slow must be from 0 to 60")
    return options


if __name__ == "__main__":
    sys.exit(main())
