"""Selects items of a run by what people know of them: type, state, group, error, text, key, and what they are below."""

import shlex
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import islice
from typing import Final

import msgspec

from aqueue._arguments import WHOLE_NUMBER, check_number, not_allowed, not_one_of
from aqueue._folds.item_table import OUTSTANDING, STATES, ItemTable, State
from aqueue._history.history import History
from aqueue._history.record import ItemTexts, Record, chunks, live_record
from aqueue.errors import InvalidArgument
from aqueue.events import ErrorInfo
from aqueue.figures import amount
from aqueue.text import visible

__all__ = [
    "SelectedItem",
    "Selection",
    "Selector",
    "matches_type",
    "or_in_states",
    "record_for",
    "rows_of",
    "selection_of",
    "unknown_types",
]

_LIVE: Final[frozenset[State]] = OUTSTANDING | {"failed"}
"""The states whose items a snapshot has, so that the events before it needn't be read."""

_WITH_ERROR: Final[frozenset[State]] = frozenset({"failed", "retrying"})
"""The states in which an item shows its last error. In the others that error is history."""

_CHUNK_GROUPS: Final = 2_000
_MAX_CLASSES: Final = 10_000
_MAX_NAMED: Final = 20
_MAX_WORDS: Final = 100
"""How many item numbers the words of a selector have: they are for people."""


class Selector(msgspec.Struct, frozen=True, kw_only=True):
    """Which items of a run are meant: those for which everything holds that is given. Something must be given.

    Attributes:
        items: one of these numbers.
        types: the class is one of these, with or without its module, as ``Page`` or ``shop:Page``.
        states: the state is one of these, as ``aqueue items`` shows it: ``queued``, ``running``, ``retrying``, ``interrupted``,
            ``completed``, ``failed``, ``skipped``.
        groups: the group in which the item waits, or waited last, is one of these.
        error: the item has failed, or waits to be retried, and this pattern matches the class of the error, with or without its
            module, as in ``"HTTP*"``. As in a shell, ``*`` stands for any text, ``?`` for a character, ``[…]`` for some.
        text: the item's description, its key, or the message of the error contains this text.
        key: this pattern, of the same kind, matches the item's key.
        subtree: the number of an item; it and everything below it is meant.
    """

    items: Sequence[int] = ()
    types: Sequence[str] = ()
    states: Sequence[State] = ()
    groups: Sequence[str] = ()
    error: str | None = None
    text: str | None = None
    key: str | None = None
    subtree: int | None = None

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            InvalidArgument: a field has a value that is not allowed.
        """
        for number in self.items:
            check_number("Selector(items=…)", number, 1, kind=WHOLE_NUMBER)
        check_number("Selector(subtree=…)", self.subtree, 1, kind=WHOLE_NUMBER, or_none=True)
        for name in ("types", "states", "groups"):
            value = getattr(self, name)
            if isinstance(value, str) or not all(isinstance(one, str) for one in value):
                raise not_allowed(f"Selector({name}=…)", value, "a list of strings")
        for state in self.states:
            if state not in STATES:
                raise not_one_of("Selector(states=…)", state, STATES)
        for name in ("error", "text", "key"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value):
                raise not_allowed(f"Selector({name}=…)", value, "text, or None")

    @property
    def is_empty(self) -> bool:
        """Whether nothing is given."""
        several = self.items or self.types or self.states or self.groups
        return not (several or self.error or self.text or self.key or self.subtree)

    def __str__(self) -> str:
        """Return what is given as the words of a command line, not made safe to show."""
        words = [str(item) for item in self.items[:_MAX_WORDS]]
        if len(self.items) > _MAX_WORDS:
            words.append(f"… {amount(len(self.items) - _MAX_WORDS)} more")
        several = (("--type", self.types), ("--state", self.states), ("--group", self.groups))
        words += [f"{option} {shlex.quote(value)}" for option, values in several for value in values]
        single = (("--error", self.error), ("--text", self.text), ("--key", self.key), ("--subtree", self.subtree))
        words += [f"{option} {shlex.quote(str(value))}" for option, value in single if value is not None]
        return " ".join(words)


class SelectedItem(msgspec.Struct, frozen=True):
    """One of the items that a selector selects, to show as an example; its texts are not made safe to show.

    Attributes:
        item: its number.
        type: its class, as ``module:qualname``.
        state: its state.
        label: its description, or else its key; empty if it has neither.
        error: why it has failed, or is retried; None otherwise.
    """

    item: int
    type: str
    state: State
    label: str
    error: ErrorInfo | None


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """The items that a selector selects, as they are now.

    Attributes:
        selector: the selector in words.
        items: their numbers by their states, in the order of enqueue.
        types: how many of them are of each class, the most numerous first.
        sample: the first of them; None if there are none.
        hooks: how many of their ancestors have a hook that runs once they, and what else is outstanding below it, have succeeded.
        unknown: those of the selector's numbers that no item has.
        is_live: whether a process seems to run the run.
    """

    selector: str
    items: dict[State, list[int]]
    types: dict[str, int]
    sample: SelectedItem | None
    hooks: int
    unknown: Sequence[int]
    is_live: bool

    @property
    def count(self) -> int:
        """How many items are selected."""
        return sum(map(len, self.items.values()))


def or_in_states(selector: Selector, states: Sequence[State]) -> Selector:
    """Return `selector`, narrowed to `states` if it names neither items nor states."""
    if selector.items or selector.states or selector.is_empty:
        return selector
    return msgspec.structs.replace(selector, states=states)


def matches_type(name: str, type: str) -> bool:
    """Return whether `name` names the item type `type`: in full, by its qualname, or by its class name."""
    return name in _names_of(type)


def unknown_types(wanted: Sequence[str], known: Collection[str]) -> str:
    """Return that no item is of some of the `wanted` types, and which types are `known`; empty if each stands for some."""
    unknown = [name for name in wanted if not any(matches_type(name, type) for type in known)]
    if not unknown:
        return ""
    named = " or ".join(repr(visible(name, 100)) for name in unknown)
    shown = ", ".join(visible(type, 100) for type in islice(known, _MAX_NAMED)) or "none yet"
    more = ", …" if len(known) > _MAX_NAMED else ""
    return f"no item is of type {named}; known types: {shown}{more}"


def record_for(history: History, selector: Selector) -> Record:
    """Return the run, perhaps without items that have ended well, if `selector` selects none of these.

    Raises:
        JournalError, CannotRead: it can't be read.
    """
    is_live = _states_of(selector) <= _LIVE
    if is_live or selector.items:
        record = live_record(history)
        missing = (item for item in selector.items if record.items.row_of(item) is None)
        lacks_items = not is_live and any(map(record.has_item, missing))
        if record.is_whole or not (lacks_items or (selector.text and record.lacks_texts)):
            return record
        history.rewind()
    return Record(history)


def rows_of(record: Record, selector: Selector) -> list[int]:
    """Return the rows of the items that `selector` selects, in order; all if it is empty.

    Parameters:
        record: the run, as `record_for` reads it.
        selector: which items.

    Raises:
        InvalidArgument: no item is of a type that is given, or none has the number whose subtree is given.
    """
    items, states = record.items, _states_of(selector)
    if why := unknown_types(selector.types, record.view.types):
        raise InvalidArgument(why)
    types = None
    if selector.types:
        numbered = enumerate(items.types)
        types = frozenset(number for number, type in numbered if any(matches_type(one, type) for one in selector.types))
    rows = items.rows_in(states, types)
    if selector.items:  # few, as a rule
        found = sorted({row for item in selector.items if (row := items.row_of(item)) is not None})
        rows = (
            row for row in found if items.state_of(row) in states and (not types or items.type_number[row] in types)
        )
    if selector.subtree is not None:
        rows = _in_subtree(record, selector.subtree, rows)
    # What follows reads events again, of the rows that are left.
    if selector.groups:
        rows = _in_groups(record, frozenset(selector.groups), rows)
    if selector.error or selector.text or selector.key:
        rows = _with_texts(record, selector, rows)
    return list(rows)


def selection_of(record: Record, selector: Selector) -> Selection:
    """Return what `selector` selects of a run, as `record_for` reads it.

    Raises:
        InvalidArgument: as `rows_of` raises it.
    """
    items, rows = record.items, rows_of(record, selector)
    by_state: dict[State, list[int]] = {}
    for row in rows:
        by_state.setdefault(items.state_of(row), []).append(items.item_of(row))
    types = Counter(items.type_number[row] for row in rows)
    return Selection(
        selector=str(selector),
        items=by_state,
        types={items.types[number]: count for number, count in types.most_common()},
        sample=next((_sample(record, row, texts) for row, texts in record.texts(rows[:1])), None),
        hooks=_hooks_above(items, rows),
        unknown=[item for item in selector.items if not record.has_item(item)],
        is_live=record.state.name == "running",
    )


def _states_of(selector: Selector) -> frozenset[State]:
    states = frozenset(selector.states or STATES)
    return states & _WITH_ERROR if selector.error else states


@lru_cache(_MAX_CLASSES)
def _names_of(cls: str) -> frozenset[str]:
    """Return the names of a class: in full, its qualname, and its class name."""
    qualname = cls.rpartition(":")[2]
    return frozenset((cls, qualname, qualname.rpartition(".")[2]))


def _in_subtree(record: Record, top: int, rows: Iterator[int]) -> Iterator[int]:
    items = record.items
    if not record.has_item(top):
        raise InvalidArgument(f"no item has the number {top} whose subtree is meant; see `aqueue items`")
    if (first := items.row_of(top)) is None:  # all of it has ended well
        return iter(())
    is_in, parents = bytearray(len(items)), items.parent_row
    is_in[first] = 1
    for row in range(first + 1, len(items)):  # parents come before their children
        if parents[row] >= first and is_in[parents[row]]:
            is_in[row] = 1
    return (row for row in rows if is_in[row])


def _in_groups(record: Record, groups: Collection[str], rows: Iterator[int]) -> Iterator[int]:
    items = record.items
    for chunk in chunks(rows, _CHUNK_GROUPS):
        seqs = [items.group_seq.get(row) or items.enqueued_seq[row] for row in chunk]
        found = record.history.events_at(set(seqs))
        for row, seq in zip(chunk, seqs, strict=True):
            if getattr(found.get(seq), "group", None) in groups:
                yield row


def _with_texts(record: Record, selector: Selector, rows: Iterator[int]) -> Iterator[int]:
    columns = {"enqueued_seq": selector.key or selector.text, "described_seq": selector.text}
    columns["failed_seq"] = selector.error or selector.text
    needed = [name for name, is_needed in columns.items() if is_needed]
    for row, texts in record.texts(rows, needed):
        failure = texts.failure if record.items.state_of(row) in _WITH_ERROR else None
        error = None if failure is None else failure.error
        if selector.error and (error is None or not _matches_class(selector.error, error.type)):
            continue
        if selector.key and (texts.key is None or not fnmatchcase(texts.key, selector.key)):
            continue
        said = (texts.description, texts.key or "", "" if error is None else error.message)
        if selector.text is None or any(selector.text in one for one in said):
            yield row


@lru_cache(_MAX_CLASSES)
def _matches_class(pattern: str, cls: str) -> bool:
    return any(fnmatchcase(name, pattern) for name in _names_of(cls))


def _sample(record: Record, row: int, texts: ItemTexts) -> SelectedItem:
    items, state = record.items, record.items.state_of(row)
    failure = texts.failure if state in _WITH_ERROR else None
    return SelectedItem(
        items.item_of(row), items.type_of(row), state, texts.label, None if failure is None else failure.error
    )


def _hooks_above(items: ItemTable, rows: Sequence[int]) -> int:
    """Return how many ancestors of the items in these rows have a hook, and no failure below but theirs."""
    size, parents = len(items), items.parent_row
    is_one, is_above, fails_below = bytearray(size), bytearray(size), bytearray(size)
    for row in rows:
        is_one[row] = 1
    has_failed, has_no_hook = items.is_in("failed"), items.is_in("failed", "skipped")
    for row in range(size - 1, -1, -1):  # children come after their parents
        if (parent := parents[row]) < 0:
            continue
        if is_one[row] or is_above[row]:
            is_above[parent] = 1
        if fails_below[row] or (has_failed[row] and not is_one[row]):
            fails_below[parent] = 1
    return sum(
        items.has_hook(row)
        for row in range(size)
        if is_above[row] and not (fails_below[row] or has_no_hook[row] or is_one[row])
    )
