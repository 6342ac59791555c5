"""What a figure is, and how often it is measured."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROUNDS = 5  # by default
SLOW_S = 10.0


@dataclass(frozen=True)
class Figure:
    """One row: what is measured against what, and what it should stay below.

    Attributes:
        name: what is measured; no other figure has this name.
        measure: given a folder for files, returns a ratio or quantity, and the base of the ratio.
        limit: what the figure should stay below; None for one that is there to compare.
        seconds: about how long a round takes.
        unit: of the ratio or quantity.
        base_unit: of the base.
        at_least: then `limit` is what it should reach.
    """

    name: str
    measure: Callable[[Path], tuple[float, float]]
    limit: float | None
    seconds: float
    unit: str = "times"
    base_unit: str = "µs an item"
    at_least: bool = False

    def rounds(self, asked: int) -> int:
        """Return how many rounds it is measured if so many are asked for: half of them if it is slow, rounded up."""
        return (asked + 1) // 2 if self.seconds > SLOW_S else asked

    def misses(self, value: float) -> bool:
        """Tell whether `value` is beyond the limit."""
        if self.limit is None:
            return False
        return value < self.limit if self.at_least else value > self.limit

    @property
    def limit_text(self) -> str:
        """Say what the limit is, in words."""
        if self.limit is None:
            return "to compare"
        return f"{'at least' if self.at_least else 'at most'} {self.limit:g}"


@dataclass(frozen=True)
class Part:
    """Figures that belong together.

    Attributes:
        title: the heading on the page.
        text: what the jobs are, as Markdown.
        figures: in the order in which they are measured and shown.
    """

    title: str
    text: str
    figures: tuple[Figure, ...]
