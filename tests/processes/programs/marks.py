"""What the programs share: marks, with which they tell the test how far they are, and gates, at which they wait for it."""

import os
from pathlib import Path

import anyio

__all__ = ["gate", "mark"]

_FD = int(os.environ.get("AQUEUE_TEST_MARKS_FD", "-1"))


def mark(text: str) -> None:
    """Tell the test `text`."""
    if _FD >= 0:
        os.write(_FD, text.encode() + b"\n")


async def gate(name: str) -> None:
    """Wait until the test has made a file called `name` in the folder ``AQUEUE_TEST_GATES``."""
    path = Path(os.environ["AQUEUE_TEST_GATES"]) / name
    while not path.exists():  # another process makes it
        await anyio.sleep(0.01)
