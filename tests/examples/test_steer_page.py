"""The how-to about steering a run: a reader who follows it sees what the page shows. See `test_tutorial` for the marks."""

from contextlib import ExitStack
from pathlib import Path

from tests.examples.test_tutorial import ROOT, Reader, blocks


def test_a_reader_who_steers_the_harvest_sees_what_the_page_shows(tmp_path: Path) -> None:
    """Each command of the page, given to the program of the page, prints what the page has."""
    with ExitStack() as open_terminals:
        reader = Reader(tmp_path, open_terminals, "/home/anna/harvest")
        for block in blocks(ROOT / "docs" / "howto" / "steer.md", all_marked=False):
            reader.follow(block)
