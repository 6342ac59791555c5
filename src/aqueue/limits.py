"""Limits: how many items of one group run at once, and how many start in a second."""

import sys

import msgspec

from aqueue.errors import InvalidArgument
from aqueue.text import visible_repr

__all__ = ["Limit"]


class Limit(msgspec.Struct, frozen=True):
    """What one group of items (the pages of one host, say) may do at most. Only `process` counts, not hooks.

    Attributes:
        concurrent: how many of its items run at once, at least 1; None for as many as there are workers.
        per_second: how many of its items start in any one second, more than 0; 0.2 stands for one in 5 s. Starts are
            spread over the second. None for no such limit.
    """

    concurrent: int | None = None
    per_second: float | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InvalidArgument: one is not allowed; the message names it.
        """
        at_once, rate = self.concurrent, self.per_second
        if at_once is not None and (isinstance(at_once, bool) or not isinstance(at_once, int) or at_once < 1):
            raise InvalidArgument(
                f"Limit(concurrent=…) is {visible_repr(at_once)}; it must be a whole number from 1, or None"
            )
        if rate is not None and (
            isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= sys.float_info.max
        ):
            raise InvalidArgument(
                f"Limit(per_second=…) is {visible_repr(rate)}; it must be a number greater than 0, or None"
            )
