"""What `make bench` measures, the page that it writes, and the pages that quote it.

A page quotes a figure by a comment behind the number: ``3.8 times<!-- figure: NAME -->`` for its median, and
``3.3 µs<!-- base: NAME -->`` for its base, both in the unit that docs/reference/figures.md has. The number is the last
one before the comment on its line, rounded as one likes: 340 is true of 343.12, and 3.8 of 3.84.
"""

import platform
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from itertools import count, pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.benchmarks.figure import ROUNDS, Figure, Part
from tests.benchmarks.measuring import Measurement, measure, run_job
from tests.benchmarks.page import COLUMNS, Machine, page, rows, this_machine
from tests.benchmarks.parts import LARGE, PARTS
from tests.benchmarks.parts.others import crawl_ratio

ROOT = Path(__file__).parents[1]
FIGURES = [figure for part in PARTS for figure in part.figures]
THE_PAGE = ROOT / "docs" / "reference" / "figures.md"
QUOTING = sorted([*ROOT.glob("*.md"), *(path for path in ROOT.glob("docs/**/*.md") if "_build" not in path.parts)])
QUOTE = re.compile(r"<!-- (figure|base): (.+?) -->")
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
MACHINE = Machine("CPython 3.11.7", "Abacus, 2 cores", "Linux 6.1, x86_64", "trio 0.29", "2026-01-02")


def never(folder: Path) -> tuple[float, float]:
    """Stand for a measurement that is not to be made."""
    raise AssertionError(folder)


RATIO = Figure("a job / another", never, 2, seconds=3)
QUANTITY = Figure("items at once", never, 1_000, seconds=30, unit="items/s", base_unit="µs", at_least=True)
OTHER = Figure("another queue / ours", never, None, seconds=3)
MADE_UP = (
    Part("The first part", "What *it* is about.", (RATIO, QUANTITY)),
    Part("The second part", "And this.", (OTHER,)),
)


def made_up_page(*measurements: Measurement, rounds: int = 3) -> str:
    """Return a page from these measurements, and ordinary ones of the other figures."""
    usual = {
        RATIO.name: Measurement(RATIO, (1.5, 1.25, 1.75), (10.0, 30.0, 20.0)),
        QUANTITY.name: Measurement(QUANTITY, (23_800.0, 12_000.0), (1.0, 3.0)),
        OTHER.name: Measurement(OTHER, (33.333, 40.0, 20.0), (9.0, 9.5, 10.0)),
    }
    usual.update({measurement.figure.name: measurement for measurement in measurements})
    return page(MADE_UP, usual.values(), MACHINE, rounds, minutes=12.3)


def tables(text: str) -> list[list[list[str]]]:
    """Return the cells of each table of a page, row by row, as a Markdown parser has them."""
    found: list[list[list[str]]] = []
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for before, token in pairwise(tokens):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and before.type in {"th_open", "td_open"}:
            found[-1][-1].append(token.content)
    return found


def true_of(shown: str, value: float) -> bool:
    """Tell whether a number as it is written may stand for `value`: rounded, but not to less than two digits for that."""
    digits = shown.replace(",", "")
    zeros = 0 if "." in digits else min(len(digits) - len(digits.rstrip("0")), max(len(digits) - 2, 0))
    step = 10.0 ** (zeros - len(digits.partition(".")[2]))
    return abs(float(digits) - value) <= step / 2 + 1e-9


def contradictions(text: str, figures_page: str) -> list[str]:
    """Return what a page says of figures that the page of figures doesn't."""
    known = {row.name: row for row in rows(figures_page)}
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        end = 0
        for quote in QUOTE.finditer(line):
            kind, name = quote.groups()
            shown = NUMBER.findall(line, end, quote.start())
            end = quote.end()
            row = known.get(name)
            value = None if row is None else row.median if kind == "figure" else row.base
            if row is None:
                found.append(f"line {number}: there is no figure {name!r}")
            elif value is None:
                found.append(f"line {number}: {name!r} was not measured")
            elif not shown:
                found.append(f"line {number}: no number before {name!r}")
            elif not true_of(shown[-1], value):
                found.append(f"line {number}: {shown[-1]} is not the {kind} of {name!r}, {value:,}")
    return found


def test_names_of_figures_are_unique_and_fit_in_tables_and_comments() -> None:
    """A figure is known by its name, in the table and in the comments of the pages that quote it."""
    names = [figure.name for part in PARTS + LARGE for figure in part.figures]
    assert len(set(names)) == len(names)
    assert [name for name in names if re.search(r"[|<>\\`*]", name) or name != name.strip()] == []


def test_a_whole_run_fits_into_half_an_hour() -> None:
    """With the default rounds, all figures together take at most 30 minutes, by what each is said to take."""
    assert sum(figure.seconds * figure.rounds(ROUNDS) for figure in FIGURES) <= 30 * 60


def test_slow_figures_have_half_as_many_rounds() -> None:
    """Figures whose round takes long are measured half as often as is asked for, rounded up."""
    assert [RATIO.rounds(asked) for asked in (1, 2, 5)] == [1, 2, 5]
    assert [QUANTITY.rounds(asked) for asked in (1, 2, 5)] == [1, 1, 3]


def test_the_page_has_a_row_for_each_figure_and_no_other() -> None:
    """The page in the docs shows what `make bench` measures, all of it, in its order and against the limits of now."""
    shown = rows(THE_PAGE.read_text(encoding="utf-8"))
    assert [(row.name, row.cells["limit"].removesuffix(", **missed**")) for row in shown] == [
        (figure.name, figure.limit_text) for figure in FIGURES
    ]


def test_a_page_has_all_measurements_in_tables() -> None:
    """Each row has a figure's median, range, limit, base and rounds, under the heading and the text of its part."""
    text = made_up_page()
    assert tables(text)[1:] == [
        [
            list(COLUMNS),
            ["a job / another", "1.50 times", "1.25 to 1.75", "at most 2", "20.00 µs an item", "3"],
            ["items at once", "17,900 items/s", "12,000 to 23,800", "at least 1000", "2.00 µs", "2"],
        ],
        [
            list(COLUMNS),
            ["another queue / ours", "33.33 times", "20.00 to 40.00", "to compare", "9.50 µs an item", "3"],
        ],
    ]
    order = ["## The first part", "What *it* is about.", "items at once", "## The second part", "And this.", "33.33"]
    assert sorted(order, key=text.index) == order


def test_a_page_says_how_it_was_measured() -> None:
    """The page names the machine, the date, the rounds, how long it took, and the command to measure again."""
    text = made_up_page()
    assert [value for _, value in tables(text)[0][1:]] == [
        "CPython 3.11.7",
        "Abacus, 2 cores",
        "Linux 6.1, x86_64",
        "trio 0.29",
        "2026-01-02",
        "3; 2 of each figure whose round takes more than 10 s",
    ]
    assert "make bench\n" in text
    assert "12 min" in text


def test_the_name_of_the_host_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said of the machine has its processor and system, and not its name."""
    monkeypatch.setattr("platform.node", lambda: "the-host")
    real = platform.uname()
    monkeypatch.setattr("platform.uname", lambda: real._replace(node="the-host"))
    machine = this_machine()
    assert "the-host" not in repr(machine)
    assert "cores" in machine.processor
    assert "trio" in machine.libraries


def test_a_figure_beyond_its_limit_is_marked_as_missed() -> None:
    """A median above what it should stay below, or below what it should reach, is marked; one at the limit is not."""
    text = made_up_page(Measurement(RATIO, (2.1,), (1.0,)), Measurement(QUANTITY, (999.0,), (1.0,)))
    assert [row.cells["limit"] for row in rows(text)] == [
        "at most 2, **missed**",
        "at least 1000, **missed**",
        "to compare",
    ]
    text = made_up_page(Measurement(RATIO, (2.0,), (1.0,)), Measurement(QUANTITY, (1_000.0,), (1.0,)))
    assert "**missed**" not in "".join(row.cells["limit"] for row in rows(text))


def test_what_was_not_measured_is_said_to_be_left_out() -> None:
    """A figure whose library is missing keeps its row, which says so; one that failed says that it did."""
    text = made_up_page(
        Measurement(OTHER, left_out="another is not installed"), Measurement(RATIO, failed="crawl.py ended with 1")
    )
    by_name = {row.name: row for row in rows(text)}
    assert tables(text)[2][1] == [OTHER.name, "left out: another is not installed", "", "to compare", "", ""]
    assert by_name[RATIO.name].cells["median"] == "**failed**: crawl.py ended with 1"
    assert by_name[OTHER.name].median is by_name[RATIO.name].median is None


def test_rows_are_read_as_they_were_written() -> None:
    """What is read from a page are the numbers that were written, and nothing of its other tables."""
    assert [(row.name, row.median, row.base) for row in rows(made_up_page())] == [
        ("a job / another", 1.5, 20.0),
        ("items at once", 17_900.0, 2.0),
        ("another queue / ours", 33.33, 9.5),
    ]


def test_rounds_are_measured_one_after_the_other(tmp_path: Path) -> None:
    """Each round measures the figure once more; their ratios and their bases are kept in order."""
    numbers = count(1)
    figure = replace(RATIO, measure=lambda folder: (next(numbers), 10 * next(numbers)))
    measured = measure(figure, 3, tmp_path)
    assert (measured.values, measured.bases) == ((1, 3, 5), (20, 40, 60))
    assert (measured.median, measured.base, measured.missed) == (3, 40, True)


def test_a_missing_library_leaves_its_figures_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A figure about a library that can't be imported is left out, and is not beyond its limit."""
    (tmp_path / "scrapy.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    figure = replace(RATIO, measure=partial(crawl_ratio, "scrapy-jobdir"))
    measured = measure(figure, 2, tmp_path)
    assert measured == Measurement(figure, left_out="scrapy is not installed")
    assert not measured.missed


def test_a_library_that_breaks_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """If a crawl with another tool fails, its figure has failed, and what went wrong is printed."""
    (tmp_path / "scrapy.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    figure = replace(RATIO, measure=partial(crawl_ratio, "scrapy"))
    measured = measure(figure, 2, tmp_path)
    assert (measured.failed, measured.missed) == ("crawl.py scrapy ended with 1", True)
    assert "scrapy.crawler" in capfd.readouterr().err


@pytest.mark.parametrize("tool", ["loop", "aqueue", "aqueue-journal"])
def test_a_crawl_gets_every_page_once(tool: str, tmp_path: Path) -> None:
    """The crawls that others are compared with come to their end, having got each page once, or they'd fail."""
    cost = run_job(tool, "50", str(tmp_path), program="crawl.py")
    assert cost["cpu_s"] > 0


@pytest.mark.parametrize("choice", [("--only", "memory"), ("--large",)])
def test_a_page_is_not_overwritten_with_a_part_of_the_figures(choice: tuple[str, ...], tmp_path: Path) -> None:
    """`--write` with `--only` or `--large` is refused before anything is measured: the other rows would be lost."""
    kept = tmp_path / "figures.md"
    kept.write_text("rows")
    command = [sys.executable, str(ROOT / "tests" / "benchmarks"), *choice, "--write", str(kept)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "leave out --only and --large" in done.stderr
    assert kept.read_text() == "rows"


@pytest.mark.parametrize(
    ("shown", "value", "expected"),
    [
        ("3.8", 3.84, True),
        ("3.8", 3.86, False),
        ("3.80", 3.84, False),
        ("340", 343.12, True),
        ("340", 346.0, False),
        ("10", 10.4, True),
        ("10", 12.0, False),
        ("600", 604.0, True),
        ("600", 640.0, False),
        ("23,800", 23_812.5, True),
        ("23,812", 23_813.0, False),
    ],
)
def test_a_number_may_be_rounded(shown: str, value: float, expected: bool) -> None:
    """A number is true of a value that it is the rounding of, zeros at its end being places that were rounded."""
    assert true_of(shown, value) is expected


def test_a_page_that_quotes_other_numbers_is_found() -> None:
    """Each number that a page quotes is compared with the page of figures, by the comment behind it."""
    figures_page = made_up_page(Measurement(OTHER, left_out="another is not installed"))
    good = (
        "| 100 jobs | 1.5 times<!-- figure: a job / another -->, of 20 µs<!-- base: a job / another --> |\n"
        "| 7 items | some 18,000<!-- figure: items at once --> a second |\n"
        "| 12 without a comment |\n"
    )
    assert contradictions(good, figures_page) == []
    assert contradictions(good.replace("1.5", "1.4").replace("18,000", "many"), figures_page) == [
        "line 1: 1.4 is not the figure of 'a job / another', 1.5",
        "line 2: 7 is not the figure of 'items at once', 17,900.0",
    ]
    assert contradictions(
        "<!-- base: a job / another --> 3<!-- figure: no such --> 3<!-- figure: another queue / ours -->", figures_page
    ) == [
        "line 1: no number before 'a job / another'",
        "line 1: there is no figure 'no such'",
        "line 1: 'another queue / ours' was not measured",
    ]


@pytest.mark.parametrize("path", QUOTING, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_quote_the_figures_as_they_are(path: Path) -> None:
    """No page contradicts the page of figures where it says which figure it quotes."""
    assert contradictions(path.read_text(encoding="utf-8"), THE_PAGE.read_text(encoding="utf-8")) == []
