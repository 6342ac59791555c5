"""Limits: how many items of one group run at once, and how many start in a second."""

from collections.abc import Callable, Mapping

import msgspec

from aqueue._arguments import WHOLE_NUMBER, check_number

__all__ = ["Limit", "Limits"]


class Limit(msgspec.Struct, frozen=True):
    """The limits of one group of items, such as the pages of one host. They apply to `process`, not to hooks.

    Attributes:
        concurrent: how many of its items run at once, at least 1; None, the default, for as many as there are workers.
        per_second: how many of its items start in any one second, more than 0; 0.2 stands for one in 5 s. Starts are
            spread over the second. None, the default, for no such limit.
    """

    concurrent: int | None = None
    per_second: float | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InvalidArgument: one is not allowed; the message names it.
        """
        check_number("Limit(concurrent=…)", self.concurrent, 1, kind=WHOLE_NUMBER, or_none=True)
        check_number("Limit(per_second=…)", self.per_second, 0, is_more_than=True, or_none=True)


Limits = Mapping[str, Limit] | Callable[[str], Limit | None]
"""The limit of each group by its name, with ``"*"`` for all other groups; or a function from the name to the limit."""
