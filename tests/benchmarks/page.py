"""Writes measurements as a page of the documentation, and reads them from it."""

import importlib.metadata
import os
import platform
import re
import textwrap
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks.figure import SLOW_S, Part
from tests.benchmarks.measuring import Measurement

COLUMNS = ("figure", "median", "lowest to highest", "limit", "base", "rounds")
LIBRARIES = (
    *("trio", "anyio", "msgspec", "rich", "distributed", "httpx"),
    *("scrapy", "crawlee", "celery", "huey", "persist-queue", "dbos"),
)

INTRO = """\
# Figures

<!-- Written by `make bench`: change tests/benchmarks, not this page. -->

These are the benchmarks of aqueue: its overhead per item, memory, journal and cluster, and a comparison with other
tools.

Most figures are ratios: how many times as long the job before the "/" takes as the job after it. The two jobs run
directly one after the other, each in its own process, so that a machine that slows down slows both. This is one round.
A figure has several rounds. Its value is their median, shown with the lowest and the highest. The *base* is what the
other job takes by itself, or what else the figure refers to, and is also a median. The *limit* is the target that
aqueue sets itself; a figure that misses it is marked as **missed**. Figures without a limit are there to compare. A
figure that could not be measured is shown as left out.

The items of most of these jobs do nothing, or nearly nothing, so the figures show the overhead of the queue itself.
They don't show how long your job takes: an item that waits for a network or computes takes far longer than the queue.
All figures come from one machine. On another one, the ratios will be about the same, and the bases will not. If the
lowest and the highest value are far apart, the machine had other work at the time.
"""

AGAIN = """\
## Measure again

`make bench` measures everything and writes this page again. {duration}

```sh
make bench
.venv/bin/python tests/benchmarks --only pages                # figures with this in their names; prints them only
.venv/bin/python tests/benchmarks --rounds 9 --only siblings  # more rounds
```
"""


@dataclass(frozen=True)
class Machine:
    """Where and when something was measured. The name of the host is not part of it.

    Attributes:
        python: its implementation and version.
        processor: its model, and how many cores there are.
        system: the operating system and the architecture.
        libraries: the versions of those that are measured or compared with.
        date: in UTC, as ISO 8601 has it.
    """

    python: str
    processor: str
    system: str
    libraries: str
    date: str


def this_machine() -> Machine:
    """Return what is to be said of this machine."""
    versions = {}
    for name in LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    release = re.match(r"[\d.]*\d", platform.release())  # the rest may name a vendor or a build
    return Machine(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        processor=f"{_cpu_model()}, {os.cpu_count()} cores",
        system=f"{platform.system()} {release[0] if release else ''}, {platform.machine()}",
        libraries=", ".join(f"{name} {version}" for name, version in versions.items()),
        date=datetime.now(tz=UTC).date().isoformat(),
    )


def _cpu_model() -> str:
    """Return the processor's name, or its architecture where it isn't told."""
    with suppress(OSError):
        model = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
        if model:
            return " ".join(model[1].split())
    return platform.processor() or platform.machine()


def page(
    parts: Iterable[Part], measurements: Iterable[Measurement], machine: Machine, rounds: int, minutes: float
) -> str:
    """Return the page.

    Parameters:
        parts: what there is to measure, in order.
        measurements: one of each figure.
        machine: where it was measured.
        rounds: how many were asked for.
        minutes: how long all of it took.
    """
    of = {measurement.figure.name: measurement for measurement in measurements}
    few = (rounds + 1) // 2
    how_many = (
        str(rounds) if few == rounds else f"{rounds}; {few} of each figure whose round takes more than {SLOW_S:g} s"
    )
    facts = {
        "Python": machine.python,
        "processor": machine.processor,
        "system": machine.system,
        "libraries": machine.libraries,
        "date": machine.date,
        "rounds": how_many,
    }
    blocks = [INTRO, _table(("", ""), facts.items())]
    for part in parts:
        table = _table(COLUMNS, (_row(of[figure.name]) for figure in part.figures))
        blocks += [f"## {part.title}\n", _wrapped(part.text), table]
    blocks.append(AGAIN.format(duration=f"That took {max(round(minutes), 1)} min here."))
    return "\n".join(blocks)


def _wrapped(text: str) -> str:
    """Return paragraphs in lines of at most 120 characters, with a line break at their end."""
    return "\n\n".join(textwrap.fill(one, 120, break_on_hyphens=False) for one in text.split("\n\n")) + "\n"


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table, with a line break at its end."""
    header = tuple(columns)
    cells = [header, ("---",) * len(header), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in cells)


def _row(measurement: Measurement) -> tuple[str, ...]:
    """Return the cells of a figure's row."""
    figure = measurement.figure
    if not measurement.values:
        why = f"left out: {measurement.left_out}" if measurement.left_out else f"**failed**: {measurement.failed}"
        return figure.name, why, "", figure.limit_text, "", ""
    return (
        figure.name,
        f"{_amount(measurement.median)} {figure.unit}",
        f"{_amount(min(measurement.values))} to {_amount(max(measurement.values))}",
        figure.limit_text + (", **missed**" if measurement.missed else ""),
        f"{_amount(measurement.base)} {figure.base_unit}",
        str(len(measurement.values)),
    )


def _amount(number: float) -> str:
    """Return a number with two decimals, or with none from 1,000."""
    return f"{number:,.2f}" if number < 1_000 else f"{number:,.0f}"


@dataclass(frozen=True)
class Row:
    """A figure's row on the page.

    Attributes:
        name: of the figure.
        median: None if the figure was left out or failed.
        base: the same.
        cells: all cells, by their columns.
    """

    name: str
    median: float | None
    base: float | None
    cells: dict[str, str] = field(repr=False)


def rows(text: str) -> list[Row]:
    """Return the rows of a page's tables of figures, in order."""
    found = []
    in_table = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("|") else []
        if tuple(cells) == COLUMNS:
            in_table = True
        elif not cells:
            in_table = False
        elif in_table and cells[0] != "---":
            named = dict(zip(COLUMNS, cells, strict=True))
            found.append(Row(cells[0], _number(named["median"]), _number(named["base"]), named))
    return found


def _number(cell: str) -> float | None:
    """Return the number at a cell's start, if there is one."""
    number = re.match(r"\d[\d,]*(?:\.\d+)?", cell)
    return float(number[0].replace(",", "")) if number else None
