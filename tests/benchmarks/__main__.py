"""Measures what aqueue costs, as ratios: `make bench`, or `python tests/benchmarks [--rounds 5] [--only WORD] [--large]`.

Each figure is the median over several rounds. A round runs the two things to compare directly after each other, each
in a process of its own, so that a machine that slows down slows both. The rich display runs on a pseudo-terminal of
80 columns and 24 rows that is read all the time. Figures whose round takes more than 10 s have half as many rounds.

Figures about the journal depend on the disk. Those against other libraries are left out, and said to be, where one is
not installed.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # this folder is named on the command line, not imported

from tests.benchmarks.figure import ROUNDS, Figure
from tests.benchmarks.measuring import Measurement, measure
from tests.benchmarks.page import page, this_machine
from tests.benchmarks.parts import LARGE, PARTS


def parse_arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="how often each figure is measured (default %(default)s)"
    )
    parser.add_argument("--only", default="", help="only figures whose name contains this")
    parser.add_argument("--large", action="store_true", help="only figures that take minutes and gigabytes")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write all figures to this page, in Markdown")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    if arguments.write and (arguments.only or arguments.large):
        parser.error("--write makes the page from all figures but the large ones: leave out --only and --large")
    if arguments.write and not arguments.write.parent.is_dir():
        parser.error(f"there is no folder {arguments.write.parent} to write to")
    return arguments


def line(measurement: Measurement) -> str:
    """Return what is printed about a figure."""
    figure = measurement.figure
    if measurement.left_out:
        return f"{figure.name:52}  left out: {measurement.left_out} (`make bench` tries to)"
    if measurement.failed:
        return f"{figure.name:52}  FAILED: {measurement.failed}"
    return (
        f"{figure.name:52} {measurement.median:8.2f} {figure.unit:11} {figure.limit_text:14} "
        f"({min(measurement.values):.2f} to {max(measurement.values):.2f}; "
        f"base {measurement.base:,.2f} {figure.base_unit})"
        f"{'  MISSED' if measurement.missed else ''}"
    )


def main() -> None:
    """Measure and print the table; exit with 1 if a figure is beyond its limit."""
    arguments = parse_arguments()
    parts = LARGE if arguments.large else PARTS
    figures: list[Figure] = [figure for part in parts for figure in part.figures if arguments.only in figure.name]
    minutes = sum(figure.seconds * figure.rounds(arguments.rounds) for figure in figures) / 60
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.platform()}")
    print(f"median of {arguments.rounds} rounds (lowest to highest)")
    print(f"{len(figures)} figures, about {max(round(minutes), 1)} min on 2 cores\n", flush=True)
    began = time.monotonic()
    measurements = []
    with tempfile.TemporaryDirectory() as folder:
        for figure in figures:
            measurements.append(measure(figure, figure.rounds(arguments.rounds), Path(folder)))
            print(line(measurements[-1]), flush=True)
    if arguments.write:
        took = (time.monotonic() - began) / 60
        text = page(parts, measurements, this_machine(), arguments.rounds, took)
        arguments.write.write_text(text, encoding="utf-8")
        print(f"\nwritten to {arguments.write}")
    if above := sum(measurement.missed for measurement in measurements):
        raise SystemExit(f"{above} beyond the limit")


if __name__ == "__main__":
    main()
