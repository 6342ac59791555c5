"""What an item costs without reporters and without a journal."""

from pathlib import Path

from tests.benchmarks.figure import Figure, Part
from tests.benchmarks.measuring import compare, run_job, siblings

K, M = 100_000, 1_000_000
LOOP = ("--loop",)


def pending_bytes(folder: Path) -> tuple[float, float]:
    """Return the resident bytes that a pending item costs beyond the user's object, and over how many."""
    return run_job("pending", str(M), "--reporter", "plain")["bytes_an_item"], M


def import_ratio(folder: Path) -> tuple[float, float]:
    """Return the ratio of the import times, and the base in milliseconds."""
    base_s = run_job("import", "--modules", "trio, anyio, msgspec")["wall_s"]
    ours_s = run_job("import", "--modules", "aqueue")["wall_s"]
    return ours_s / base_s, base_s * 1e3


ENGINE = Part(
    "The engine",
    'The items only set a description. The run has 5 workers and `reporter="none"`. Siblings are the children of'
    " one item; in a chain, each item enqueues the next. The hand-written loop is a deque and a pool of tasks,"
    " without events: `tests/benchmarks/hand_written_loop.py`.",
    (
        Figure(
            "100,000 siblings, none / hand-written loop",
            lambda folder: compare(siblings(K), siblings(K, *LOOP), K),
            5,
            seconds=2,
        ),
        Figure(
            "1,000,000 siblings, none / hand-written loop",
            lambda folder: compare(siblings(M), siblings(M, *LOOP), M),
            5,
            seconds=7,
        ),
        # One short run is mostly start-up, which would flatter the long one: so a hundred, one after the other.
        Figure(
            "an item of 1,000,000 / of 10,000 (100 times)",
            lambda folder: compare(siblings(M), siblings(10_000, "--repeat", "100"), M, M),
            1.3,
            seconds=10,
        ),
        Figure(
            "an item of a chain 100,000 deep / of siblings",
            lambda folder: compare(("chain", str(K)), siblings(K), K),
            1.3,
            seconds=2,
        ),
        Figure("memory a pending item", pending_bytes, 250, seconds=4, unit="bytes", base_unit="items"),
        Figure("import aqueue / import trio, anyio, msgspec", import_ratio, 1.2, seconds=1, base_unit="ms"),
    ),
)
