"""What the journal tells of items that the engine has forgotten, since their subtrees have ended."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from aqueue.events import EndedItem

__all__ = ["Facts", "ReadFacts"]


class Facts(Protocol):
    """What the journal tells of an item: `aqueue._folds.ended_items.ItemFacts`, which has the docs."""

    id: int
    parent: int
    type: str
    track_overall: bool
    hook: bool
    key: str | None
    occurrence: int
    payload: bytes
    state: bytes
    group: str | None
    skipped: bool
    is_completed: bool
    is_closed: bool
    attempt: int
    hook_attempt: int
    process_result: msgspec.Raw
    has_children: bool
    results: dict[int, msgspec.Raw]

    @property
    def announced_children(self) -> list[tuple[int, str, str | None, bytes]]: ...
    def as_ended(self) -> EndedItem: ...


OnFacts = Callable[[Mapping[int, Facts] | Exception], None]
ReadFacts = Callable[[Sequence[int], OnFacts], None]
"""Reads the facts of some items and all their ancestors in a thread, and calls a function with them, or with an error, in the loop."""
