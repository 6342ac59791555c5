"""The tutorial: a reader who does what the page says sees what the page shows. And its stand-in for a real shop.

Every code block of the page has a comment before it, which says to the test what it is:

    <!-- setup -->               commands that are not run; what they install is what the tests have
    <!-- file: NAME -->          a whole file
    <!-- change: NAME -->        functions, classes and imports that take the place of those in the file, or are added
    <!-- instead of: COMMAND --> what to type with the stand-in wherever the page has this command
    <!-- run -->                 commands; `: exit 3` if they end so, `at 100` once the running program has done so many
    <!-- run: stays -->          one command that goes on running, as in a terminal of its own
    <!-- run: instead -->        the same, after a Ctrl-C for the one that was started last and still runs
    <!-- shown -->               what the last command shows; `…` stands for any text, alone on its line for any lines
    <!-- shown after Ctrl-C -->  what it shows after a Ctrl-C, `at 40` once it has done so many, `: exit 130`
    <!-- shown at its end -->    what the program that was started last has shown when it ends by itself

What depends on time and place (seconds, rates, dates, pids) may differ from the page; with `any numbers`, all numbers may,
and which items are at work. Programs run on a terminal of 80 columns. Two things are not as on the page: the stand-in
takes a free port, and is ten times as quick.
"""

import ast
import csv
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urljoin

import pyte
import pytest
from bs4 import BeautifulSoup
from markdown_it import MarkdownIt

from tests.examples.conftest import EXAMPLES, load
from tests.processes.pty_process import PtyProcess

ROOT = EXAMPLES.parent
PAGE = ROOT / "docs" / "tutorial.md"
READERS_FOLDER = "/home/ada/books"
COLUMNS = 80  # of a terminal with a live display
MORE_COLUMNS = 110  # of others, so that no line is broken or cut, whatever the numbers in it
DEADLINE_S = 60.0

bookshop = load("bookshop")


# --- The page ---


class Block(NamedTuple):
    """A code block: its line on the page, its language, its comment's word and options, and what is in it."""

    line: int
    language: str
    word: str
    options: str
    content: str

    @property
    def at(self) -> int:
        """How many items are to be done before."""
        match = re.search(r"\bat (\d+)", self.options)
        return int(match[1]) if match else 0

    @property
    def exit_code(self) -> int:
        match = re.search(r"\bexit (\d+)", self.options)
        return int(match[1]) if match else 0


def blocks(page: Path = PAGE, *, all_marked: bool = True) -> Iterator[Block]:
    """Yield the blocks of a page; without `all_marked` those that have a comment for the test."""
    previous = None
    for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8")):
        if token.type == "fence":
            assert token.map is not None
            comment = previous.content if previous is not None and previous.type == "html_block" else ""
            match = re.fullmatch(r"<!-- (setup|file|change|instead of|run|shown)\b:?(.*) -->\s*", comment)
            if match:
                yield Block(token.map[0] + 1, token.info, match[1], match[2].strip(), token.content)
            else:
                assert not all_marked, (
                    f"line {token.map[0] + 1} of the page: a block without a comment that says what it is"
                )
        previous = token


def definitions(source: str) -> dict[str, str]:
    """Return the statements of a module, by what they define, in their order."""
    found: dict[str, str] = {}
    for statement in ast.parse(source).body:
        first = statement.lineno
        match statement:
            case ast.Import(names=[ast.alias(name=module)]) | ast.ImportFrom(module=str(module)):
                name = f"import {module}"
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                first = min([first, *(decorator.lineno for decorator in statement.decorator_list)])
            case ast.Assign(targets=[ast.Name(id=name)]):
                pass
            case _:
                name = "the end"
        assert name not in found, f"{name} is there twice"
        found[name] = "\n".join(source.splitlines()[first - 1 : statement.end_lineno])
    return found


def change(source: str, changes: str) -> str:
    """Put the definitions of `changes` into a module, as its reader does by hand: in the order of `changes`."""
    found, changed = definitions(source), definitions(changes)
    place = "the end"
    for name, text in reversed(changed.items()):
        if name not in found:
            names = list(found)
            before = {other: found.pop(other) for other in names[names.index(place) :]}
            found |= {name: text} | before
        found[name] = text
        place = name
    imports: dict[int, list[str]] = {0: [], 1: [], 2: []}  # of Python, of others, of aqueue
    for name in [name for name in found if name.startswith("import ")]:
        module = name.removeprefix("import ").partition(".")[0]
        imports[2 if module == "aqueue" else int(module not in sys.stdlib_module_names)].append(found.pop(name))
    groups = ["\n".join(sorted(group, key=lambda text: text.split()[:2])) for group in imports.values()]
    return "\n\n".join([*groups, "\n\n\n".join(found.values())]) + "\n"


# --- What is shown ---

SOMETIMES = [
    (re.compile(r"\b[\w-]+@[\w.-]*\w"), "WHO"),
    (re.compile(r"journal of run [0-9a-f]{16}"), "journal of run ID"),
    (re.compile(r"\bpid \d+( on [^\s)]+)?"), "pid PID"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "DATE"),
    (re.compile(r"\b\d\d-\d\d \d\d:\d\d\b"), "DATE"),
    (re.compile(r"\d\d:\d\d:\d\d\.\d{3}"), "CLOCK"),
    (re.compile(r"\b\d+:\d\d(:\d\d)?\b"), "TIME"),
    (re.compile(r"\b\d[\d.,]*( a second|/s)"), "RATE"),
    (re.compile(r"\b\d[\d.,]* (s|ms|µs)\b"), "TIME"),
]
NUMBERS = [
    (re.compile(r"\d[\d.,]*"), "#"),
    (re.compile(r"(?<=^│ )# (\S (Book|Index) .*|idle *)(?= │$)", re.MULTILINE), "A WORKER"),
    (re.compile(r"^ *# +(Book|Index) +TIME +\S+$", re.MULTILINE), "AN ITEM"),
    (re.compile(r"(?<=RATE found).*(?= │$)", re.MULTILINE), ""),
    (re.compile("(?<=^╰─) [^─]+ ─+(?=╯$)", re.MULTILINE), ""),  # what limits the run, if anything does by then
    (re.compile("[━╸╺─╌]+"), "─"),
    (re.compile(" +"), " "),
]


def normalised(text: str, *, any_numbers: bool) -> str:
    """Return a text without what differs from run to run; several empty lines count as one."""
    for pattern, name in [*SOMETIMES, *(NUMBERS if any_numbers else [])]:
        text = pattern.sub(name, text)
    lines = "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")
    return re.sub("\n{3,}", "\n\n", lines) + "\n"


def fits(expected: str, actual: str) -> bool:
    """Whether a normalised text is as it is to be."""
    lines = [
        "(?:.*\n)*?" if line.strip() == "…" else re.escape(line).replace("…", ".*") + "\n"
        for line in expected.splitlines()
    ]
    return re.fullmatch("".join(lines), actual) is not None


def rendered(process: PtyProcess) -> str:
    """Return what stands on a program's terminal, as if that were too wide and too high for any line to be broken."""
    screen = pyte.Screen(300, 400)
    pyte.ByteStream(screen).feed(process.output)
    lines = [line.rstrip() for line in screen.display]
    return "\n".join(line for line in lines if line != "next-prompt$").strip("\n")


# --- The reader ---


def wait_for(condition: Callable[[], object], what: Callable[[], str]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.05)


class Reader:
    """Somebody who does what the page says, in a folder beside a clone of aqueue.

    Attributes:
        folder: where the program is.
        shown: what the last command that has ended has shown.
    """

    def __init__(self, folder: Path, open_terminals: ExitStack, on_the_page: str = READERS_FOLDER) -> None:
        self.folder = folder
        self._on_the_page = on_the_page  # what it is called there
        self.shown = ""
        self._open = open_terminals
        self._running: list[PtyProcess] = []
        self._instead: dict[str, str] = {}  # of commands
        self._replacements = {"--slow 0.2": "--slow 0.02"}  # within them
        self._port = 0

    def follow(self, block: Block) -> None:
        """Do what a block says."""
        match block.word:
            case "setup":
                self.check_setup(block.content)
            case "file":
                (self.folder / block.options).write_text(block.content, encoding="utf-8")
            case "change":
                file = self.folder / block.options
                file.write_text(change(file.read_text(encoding="utf-8"), block.content), encoding="utf-8")
            case "instead of":
                self._instead[block.options] = block.content.strip()
            case "run" if block.options in {"stays", "instead"}:
                if block.options == "instead":
                    self.press_ctrl_c()
                self.start(block.content.strip())
            case "run":
                self.run(block)
            case "shown" if block.options.startswith("after Ctrl-C"):
                self.wait_for_done(block.at)
                assert self.press_ctrl_c() == block.exit_code, self.shown
                self.check_shown(block, self.shown, ended="…\n")
            case "shown" if block.options.startswith("at its end"):
                process = self._running.pop()
                assert process.wait() == block.exit_code, rendered(process)
                self.check_shown(block, rendered(process), ended="…\n")
            case "shown" if not self.shown:
                running = self._running[-1]
                wait_for(
                    lambda: self.is_shown(block, rendered(running), around="…\n"),
                    lambda: f"never shown: line {block.line} of the page; instead:\n{rendered(running)}",
                )
            case "shown":
                self.check_shown(block, self.shown)

    @staticmethod
    def check_setup(commands: str) -> None:
        """What the page installs is what the tests of this project are run with."""
        tested = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]["test"]
        [install] = re.findall(r"^pip install (.*)$", commands, re.MULTILINE)
        aqueue, *others = install.split()
        assert aqueue == "../aqueue"
        assert set(others) <= {re.split("[><=]", requirement)[0] for requirement in tested}

    def start(self, command: str, columns: int = COLUMNS) -> PtyProcess:
        """Start a command on a terminal of its own."""
        command = self._instead.get(command, command)
        for on_the_page, here in self._replacements.items():
            command = command.replace(on_the_page, here)
        is_shop = "bookshop.py" in command
        if is_shop:
            command += f" --port {self._port}"
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        run = command if command.startswith("kill ") else f"exec {command}"  # some systems have kill in the shell alone
        process = PtyProcess(
            *("sh", "-c", f"cd '{self.folder}' && {run}"),
            env={"PATH": path, "NO_PROXY": "*", "no_proxy": "*"},
            columns=columns,
        )
        self._running.append(self._open.enter_context(process))
        self.shown = ""
        if is_shop:
            process.until("until Ctrl-C")
            [port] = re.findall(r"127\.0\.0\.1:(\d+)/", process.text)
            self._port = int(port)
            self._replacements[":8000"] = f":{port}"
        return process

    def run(self, block: Block) -> None:
        """Run commands, one after the other, to their ends."""
        self.wait_for_done(block.at)
        shown = ""
        for command in block.content.splitlines():
            if command.startswith("kill "):
                killed = self._running[-1]
                assert self._replacements.get(command) == f"kill -9 {killed.pid}", "status has not shown this pid"
            process = self.start(command, MORE_COLUMNS)
            code = process.wait()
            self._running.remove(process)
            shown += f"{rendered(process)}\n"
            is_last = command == block.content.splitlines()[-1]
            assert code == (block.exit_code if is_last else 0), f"{command}:\n{shown}"
            if command.startswith("kill "):
                assert self._running.pop().wait() == -9
        self.shown = shown

    def press_ctrl_c(self) -> int:
        """Press Ctrl-C in the terminal that was opened last, and return the exit code."""
        process = self._running.pop()
        process.type(b"\x03")
        code = process.wait()
        self.shown = rendered(process)
        return 130 if code == -2 else code

    def wait_for_done(self, number: int) -> None:
        """Wait until the program that runs shows that so many items are done."""

        def is_done() -> bool:
            done = re.findall(r"([\d,]+) of [\d,]+ (?:completed|found so far)", rendered(self._running[-1]))
            return bool(done) and int(done[-1].replace(",", "")) >= number

        if number:
            wait_for(is_done, lambda: rendered(self._running[-1]))

    def is_shown(self, block: Block, shown: str, *, around: str = "") -> bool:
        any_numbers = "any numbers" in block.options
        here = shown.replace(str(self.folder), self._on_the_page)
        if self._port:
            here = here.replace(f":{self._port}", ":8000")
        expected = normalised(around + block.content + around, any_numbers=any_numbers)
        return fits(expected, normalised(here, any_numbers=any_numbers))

    def check_shown(self, block: Block, shown: str, *, ended: str = "") -> None:
        """Check that the page shows what came; learn the pid that stands for the page's."""
        expected = ended + block.content
        assert self.is_shown(block._replace(content=expected), shown), (
            f"line {block.line} of the page, normalised:\n"
            f"{normalised(expected, any_numbers='any numbers' in block.options)}\n"
            f"what was shown:\n{shown}\n"
            f"and normalised:\n{normalised(shown, any_numbers='any numbers' in block.options)}"
        )
        for on_the_page, here in zip(
            re.findall(r"\bpid (\d+)", block.content), re.findall(r"\bpid (\d+)", shown), strict=False
        ):
            self._replacements[f"kill -9 {on_the_page}"] = f"kill -9 {here}"


def rows(path: Path) -> list[list[str]]:
    """Return the rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_a_reader_who_follows_the_page_sees_what_it_shows(tmp_path: Path) -> None:
    """Every file, change and command of the page does what the page says, and the CSV has every book of the shop."""
    folder = tmp_path / "books"
    folder.mkdir()
    (tmp_path / "aqueue").symlink_to(ROOT)
    with ExitStack() as open_terminals:
        reader = Reader(folder, open_terminals)
        for block in blocks():
            reader.follow(block)
    written = rows(folder / "books.csv")
    assert written[0] == ["title", "category", "price", "upc"]
    books = [bookshop.make_book(number) for number in range(100, 0, -1)]
    assert sorted(written[1:]) == sorted(
        [book.title, book.category, str(float(book.price[1:])), book.upc] for book in books
    )
    prices = rows(folder / "prices.csv")
    assert prices[0] == ["title", "price"]
    every = (bookshop.make_book(number) for number in range(1, 1001))
    assert sorted(prices[1:]) == sorted([book.title, str(float(book.price[1:]))] for book in every)


# --- The stand-in ---


@pytest.fixture
def start_shop() -> Iterator[Callable[..., PtyProcess]]:
    """Return a function that starts the stand-in with arguments, at a port that is free."""
    with ExitStack() as open_terminals:

        def start(*arguments: str) -> PtyProcess:
            command = [sys.executable, str(EXAMPLES / "bookshop.py"), "--port", "0", *arguments]
            process = open_terminals.enter_context(PtyProcess(*command))
            process.until("until Ctrl-C")
            return process

        yield start


def get(shop: PtyProcess, *paths: str) -> list[tuple[int, str | None, BeautifulSoup]]:
    """Return the status, `Retry-After` and page of each path."""
    [port] = re.findall(r"127\.0\.0\.1:(\d+)/", shop.text)
    connection = HTTPConnection("127.0.0.1", int(port))
    answers = []
    for path in paths:
        connection.request("GET", path)
        response = connection.getresponse()
        page = BeautifulSoup(response.read(), "html.parser")
        answers.append((response.status, response.headers["Retry-After"], page))
    connection.close()
    return answers


def text(page: BeautifulSoup, selector: str) -> str:
    """Return the text of what is there exactly once."""
    [found] = page.select(selector)
    return found.get_text(strip=True)


def test_every_book_is_found_from_the_front_page(start_shop: Callable[..., PtyProcess]) -> None:
    """The index pages, 20 books on each, lead to all books; each page has what the real shop's has, or no description."""
    shop = start_shop("--books", "45")
    path, books, lengths = "/", list[str](), list[int]()
    while path:
        [(_, _, page)] = get(shop, path)
        links = page.select("article.product_pod h3 > a[title]")
        assert len(links) == len(page.select("article.product_pod p.price_color"))
        lengths.append(len(links))
        books += [urljoin(path, str(link["href"])) for link in links]
        path = "".join(urljoin(path, str(link["href"])) for link in page.select("li.next > a"))
    assert lengths == [20, 20, 5]
    for number, (status, _, page) in zip(range(45, 0, -1), get(shop, *books), strict=True):
        book = bookshop.make_book(number)
        assert status == 200
        assert text(page, "div.product_main h1") == book.title
        assert text(page, "p.price_color") == book.price
        assert text(page, "p.instock.availability") == f"In stock ({book.stock} available)"
        assert text(page, "ul.breadcrumb li:nth-of-type(3)") == book.category
        assert text(page, 'th:-soup-contains("UPC") + td') == book.upc
        assert len(page.select(f"p.star-rating.{book.stars}")) == 1
        if number in {5, 32}:
            assert not page.select("#product_description")
        else:
            assert text(page, "#product_description + p") == book.description
    assert [status for status, _, _ in get(shop, "/catalogue/page-1.html", "/catalogue/page-4.html")] == [200, 404]
    shop.type(b"\x03")
    assert shop.wait() == 0


def test_a_flaky_shop_refuses_the_page_of_every_40th_book_once(start_shop: Callable[..., PtyProcess]) -> None:
    """With `--flaky` the first request for some pages is answered with 503 and `Retry-After`, the second with the page."""
    shop = start_shop("--books", "80", "--flaky")
    paths = [f"/catalogue/{bookshop.make_book(number).folder}/index.html" for number in range(80, 0, -1)]
    refused = [(path, wait) for path, (status, wait, _) in zip(paths, get(shop, *paths), strict=True) if status == 503]
    assert refused == [(paths[0], "1"), (paths[40], "1")]
    assert {status for status, _, _ in get(shop, *paths)} == {200}


def test_a_port_that_is_taken_is_said(start_shop: Callable[..., PtyProcess]) -> None:
    """The stand-in ends with one line that says what to do if another program has its port."""
    [port] = re.findall(r"127\.0\.0\.1:(\d+)/", start_shop("--books", "1").text)
    command = [sys.executable, EXAMPLES / "bookshop.py", "--port", port, "--books", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"bookshop.py: port {port}: Address already in use; choose another with --port\n"
