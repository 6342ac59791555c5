"""Finds items of a run in its index: what a person has typed into the filter, and the list of items that match it.

To look at all of a million items takes a second or more, so a list is searched some at a time, and shown as far as it is.
"""

import re
import sqlite3
import time
from array import array
from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from typing import Any, Final, Literal, NamedTuple

import msgspec

from aqueue._folds.item_table import OUTSTANDING, STATES, State
from aqueue._history.journal_history import JournalHistory
from aqueue._history.selecting import matches_type, unknown_types
from aqueue._page.index import NUMBER_OF, last_view
from aqueue.events import Event
from aqueue.text import visible
from aqueue.view import RunView

__all__ = ["PAGE_ITEMS", "Filter", "ItemReader", "ListedItem", "Listing", "Order", "without_states"]

PAGE_ITEMS: Final = 100
"""How many items a page of the list has."""

Order = Literal["newest", "oldest", "slowest"]
"""In which order items are listed: by their numbers, or by how long the last attempt took."""

_SLICE_ITEMS: Final = 20_000
"""How many items are looked at in one go: some 10 ms, 30 ms in the past."""

_LOOK_S: Final = 0.1
"""How long a list is searched before the page is updated, seconds."""

_REST: Final = 10.0
"""A list that is complete is searched again after this many times the time that it took."""

_RARE: Final = frozenset(STATES) - {"queued", "completed"}
"""The states by which the index finds items."""

_QUALIFIERS: Final = ("type", "state", "group", "error", "key", "parent", "subtree", "attempts")
_MAX_STARS: Final = 5
"""How many a pattern may have: the time that it takes grows with each as the length of the text."""

_WORD: Final = re.compile(r'(?:([A-Za-z_-]+):)?(?:"([^"]*)"?|(\S+))')
_NUMBER: Final = re.compile(r"[0-9]{1,15}")
_ATTEMPTS: Final = re.compile(r"(>=|<=|>|<|=|)([0-9]{1,9})")
_WAITING: Final = {"waiting": "queued"}
"""What displays call a state if it isn't by its own name."""


class Filter(msgspec.Struct, frozen=True):
    """Which items a person wants to see, as it was typed: ``type:Book state:failed error:HTTP* lighthouse``.

    Attributes:
        types, states, groups, errors, keys, parents, subtrees, attempts: what was given by a qualifier; several of one kind mean any
            of them. Errors, groups and keys are patterns, as for the command.
        words: what else was given: each must be in the description, the key or the error.
        problems: what isn't understood; safe to show.
    """

    types: tuple[str, ...] = ()
    states: tuple[State, ...] = ()
    groups: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    parents: tuple[int, ...] = ()
    subtrees: tuple[int, ...] = ()
    attempts: tuple[tuple[str, int], ...] = ()
    words: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @staticmethod
    def of(typed: str) -> "Filter":
        """Return what `typed` means."""
        found: dict[str, list[Any]] = {name: [] for name in Filter.__struct_fields__}
        for qualifier, quoted, plain in _WORD.findall(typed):
            value = quoted or plain
            if plain.endswith(":") and plain[:-1] in _QUALIFIERS:  # while it is being typed
                found["problems"].append(f"{plain} needs a value")
            elif not qualifier:
                found["words"] += [value] if value else []
            elif qualifier not in _QUALIFIERS:
                if value.startswith("//"):  # a URL
                    found["words"].append(f"{qualifier}:{value}")
                    continue
                close = get_close_matches(qualifier, _QUALIFIERS, 1)
                hint = f"do you mean {close[0]}:?" if close else f"known are {', '.join(_QUALIFIERS)}"
                found["problems"].append(f"“{visible(qualifier, 50)}:” is no qualifier; {hint}")
            elif not _add(found, qualifier, value):
                found["problems"].append(f"{_EXPECTED[qualifier]}, not “{visible(value, 50)}”")
        return Filter(**{name: tuple(values) for name, values in found.items()})

    @property
    def asks_of_now(self) -> list[str]:
        """What of it the index knows for now alone: in the past, it is compared with what the items have today."""
        return [name for name in ("groups", "errors", "attempts", "words") if getattr(self, name)]

    @property
    def is_empty(self) -> bool:
        """Whether all items match."""
        return not any(getattr(self, name) for name in self.__struct_fields__ if name != "problems")


def without_states(typed: str) -> str:
    """Return what was typed into the filter, without the states."""
    return " ".join(word[0] for word in _WORD.finditer(typed) if word[1] != "state")


_EXPECTED: Final = {
    "state": f"a state is {', '.join('waiting' if one == 'queued' else one for one in STATES)} or outstanding",
    "parent": "parent: takes the number of an item",
    "subtree": "subtree: takes the number of an item",
    "attempts": "attempts: takes a number, as in attempts:>1",
    **dict.fromkeys(
        ("type", "group", "error", "key"), f"a qualifier needs a value, with at most {_MAX_STARS} asterisks"
    ),
}


def _add(found: dict[str, list[Any]], qualifier: str, value: str) -> bool:
    """Add what a qualifier says; return whether it is understood."""
    match qualifier:
        case "state":
            states = OUTSTANDING if value == "outstanding" else {_WAITING.get(value, value)}
            found["states"] += [state for state in STATES if state in states]
            return states <= set(STATES)
        case "parent" | "subtree":
            is_number = _NUMBER.fullmatch(value) is not None
            found[f"{qualifier}s"] += [int(value)] if is_number else []
            return is_number
        case "attempts":
            match = _ATTEMPTS.fullmatch(value)
            found["attempts"] += [(match[1] or "=", int(match[2]))] if match else []
            return match is not None
        case _:
            is_simple = bool(value) and value.count("*") <= _MAX_STARS
            found[f"{qualifier}s"] += [value] if is_simple else []
            return is_simple


class ListedItem(NamedTuple):
    """A row of the list, as the index has it; texts are not made safe to show.

    Attributes:
        item, parent: the numbers; a parent of 0 means an initial item.
        type: its class, as ``module:qualname``.
        key, group: its key and its group; None for none.
        enqueued_at, changed_at, started_at: when it was announced, when its state last changed, and when it last started; Unix time
            in seconds; None if it never has.
        state: its state.
        attempts: how often its `process` was started.
        took_s: how long its last attempt that ended took, seconds.
        description: its last description, and the number of the event that has it.
        error_type, error: what its last failed attempt raised.
        parent_label: the description or key of its parent.
        last_seq: the number of its last event at the moment that is shown, if others have followed; None if all of this holds.
    """

    item: int
    parent: int
    type: str
    key: str | None
    group: str | None
    enqueued_at: float
    state: State
    changed_at: float
    attempts: int
    started_at: float | None
    took_s: float | None
    description: str | None
    described_seq: int | None
    error_type: str | None
    error: str | None
    parent_label: str | None
    last_seq: int | None


_MAX_LISTINGS: Final = 100
"""How many lists are kept, so that a browser's next look goes on where the last one ended."""

_MAX_KEPT: Final = 4
"""Of how many items and lists the events are kept."""

_MAX_ANCESTORS: Final = 6
_MAX_CHILDREN: Final = 50_000
_MAX_EVENTS: Final = 2_000

_STATE_AT: Final = "(SELECT c.state FROM changes c WHERE c.item = i.item AND c.seq <= :at ORDER BY c.seq DESC LIMIT 1)"
_SEQ_AT: Final = (
    "CASE WHEN EXISTS (SELECT 1 FROM changes c WHERE c.item = i.item AND c.seq > :at) "
    "THEN (SELECT max(c.seq) FROM changes c WHERE c.item = i.item AND c.seq <= :at) END"
)
_TOOK: Final = "coalesce(i.took_s, 0.0)"


_LIKE: Final = re.compile("[%_!]")
_FAILING: Final = f"({NUMBER_OF['failed']}, {NUMBER_OF['retrying']})"
"""The states in which an item shows its last error. In the others that error is history."""

_SAYS: Final = (
    "(i.description {like} OR i.key {like} OR "
    f"{{state}} IN {_FAILING} AND (i.error {{like}} OR i.error_type {{like}}))"
)


class Listing:
    """The items that match a filter, as far as they are searched: a page of them, and how many they are.

    Attributes:
        rows: the page.
        count: how many match, of those that are searched.
        share: how much is searched, from 0 to 1.
        problem: why nothing can be found; empty if something can. Safe to show.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        wanted: Filter,
        *,
        order: Order = "newest",
        start: int | None = None,
        at: int | None = None,
    ) -> None:
        """Begin to search.

        Parameters:
            connection: to the index.
            wanted: which items.
            order: in which order.
            start: the number of the item with which the page begins; None for the first one. Not for the slowest.
            at: the number of the event at which the run is shown; None for now.
        """
        self._connection = connection
        self._wanted, self._order, self._start, self._at = wanted, order, start, at
        self.rows: list[ListedItem] = []
        self.count = self.num_before = 0
        self.share = 0.0
        self.problem = ""
        self._seq = -1  # of the index when the search began
        self._is_live = True
        self._began_at = self._took_s = 0.0
        self._search: _Search | None = None

    def look(self, seq: int, num_items: int, *, is_live: bool, budget_s: float | None = None) -> None:
        """Search for a while, or again if something has changed since.

        Parameters:
            seq: the last event that the index has.
            num_items: how many items there are at the moment that is shown.
            is_live: whether a process runs the run: else what was running is interrupted.
            budget_s: for how long to search, seconds; by default a tenth. One slice is searched in any case.
        """
        now = time.monotonic()
        if self._search is None:
            is_due = self._seq < 0 or (self._at is None and now - self._began_at > self._took_s * _REST)
            if not is_due or (seq, is_live) == (self._seq, self._is_live):
                return
            self._seq, self._is_live, self._began_at, self._took_s = seq, is_live, now, 0.0
            self._search = _Search(
                self._connection, self._wanted, self._order, self._start, self._at, num_items, is_live
            )
        search = self._search
        search.run_until(now + (_LOOK_S if budget_s is None else budget_s))
        self._took_s += time.monotonic() - now
        if search.is_over or self.share < 1:  # what was found before stays until all is searched again
            self.rows, self.count, self.num_before = search.rows, search.count, search.num_before
            self.share, self.problem = search.share, search.problem
        if search.is_over:
            self._search = None


class _Search:
    """One pass over the items, a slice at a time."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        wanted: Filter,
        order: Order,
        start: int | None,
        at: int | None,
        num_items: int,
        is_live: bool,
    ) -> None:
        self._connection = connection
        self._order, self._start = order, start
        self.rows: list[ListedItem] = []
        self.count = self.num_before = 0
        self._num_items = self._left = num_items
        types = dict(connection.execute("SELECT type, name FROM types"))
        self.problem = unknown_types(wanted.types, list(types.values()))
        self._parameters: dict[str, Any] = {"at": at}
        state = "i.state" if at is None else _STATE_AT
        # By a rare state, the index finds them by itself.
        self._is_by_state = at is None and bool(wanted.states) and _RARE.issuperset(wanted.states)
        conditions = ["i.item BETWEEN :first AND :last", *self._conditions(wanted, types, state, is_live=is_live)]
        where = f"FROM items i WHERE {' AND '.join(conditions)}"
        self._count = f"SELECT count(*), sum(i.item {'<' if order == 'oldest' else '>'} :start) {where}"
        direction = (
            "i.item ASC" if order == "oldest" else "i.item DESC" if order == "newest" else f"{_TOOK} DESC, i.item"
        )
        after = {"newest": " AND i.item <= :start", "oldest": " AND i.item >= :start", "slowest": ""}[order]
        self._page = (
            "SELECT i.item, i.parent, i.type, i.key, i.group_name, i.enqueued_at, "  # noqa: S608
            f"{state}, i.changed_at, i.attempts, i.started_at, i.took_s, i.description, i.described_seq, i.error_type, i.error, "
            "(SELECT coalesce(iif(p.described_seq > :at, NULL, p.description), p.key) FROM items p WHERE p.item = i.parent), "
            f"{'NULL' if at is None else _SEQ_AT} {where}{after if start is not None else ''} ORDER BY {direction} LIMIT :limit"
        )
        self._types = types
        is_quick = wanted.is_empty or (self._is_by_state and not wanted.subtrees)
        self._slice = num_items if is_quick else _SLICE_ITEMS
        self._all_match = wanted.is_empty
        self._tops = frozenset(wanted.subtrees)
        # Which items are in the subtrees; a search from each item upwards would take days in a chain of 100,000 items.
        self._below = bytearray(num_items + 1 if wanted.subtrees else 0)
        self._known = min(self._tops, default=num_items + 1) - 1  # up to which item that is known
        if self.problem:
            self._left = 0

    @property
    def is_over(self) -> bool:
        return self._left <= 0

    @property
    def share(self) -> float:
        return 1 - self._left / self._num_items if self._num_items else 1.0

    def run_until(self, end: float) -> None:
        """Search until all is searched, or the monotonic clock says `end`."""
        while not self.is_over:
            if self._known < self._num_items:
                self._look_below()
                if time.monotonic() >= end:
                    return
                continue
            size = min(self._slice, self._left)
            first = self._num_items - self._left + 1 if self._order == "oldest" else self._left - size + 1
            self._search(first, first + size - 1)
            self._left -= size
            if time.monotonic() >= end:
                return

    def _look_below(self) -> None:
        """Find out which of the next items are in the subtrees: a parent has a lower number than its children."""
        first = self._known + 1
        self._known = min(self._known + _SLICE_ITEMS, self._num_items)
        below, tops = self._below, self._tops
        for item, parent in self._connection.execute(
            "SELECT item, parent FROM items WHERE item BETWEEN ? AND ? ORDER BY item", (first, self._known)
        ):
            below[item] = item in tops or below[parent]

    def _is_below(self, item: int) -> bool:
        return item < len(self._below) and bool(self._below[item])

    def _search(self, first: int, last: int) -> None:
        if self._tops:  # another search may have given this name to its own
            self._connection.create_function("is_below", 1, self._is_below)
        parameters = self._parameters | {"first": first, "last": last, "start": self._start}
        if self._all_match:
            self.count = self._num_items
            if self._start is not None:
                before = self._start - 1 if self._order == "oldest" else self._num_items - self._start
                self.num_before = min(max(before, 0), self._num_items)
        else:
            count, before = self._connection.execute(self._count, parameters).fetchone()
            self.count += count
            self.num_before += before or 0
        room = PAGE_ITEMS if self._order == "slowest" else PAGE_ITEMS - len(self.rows)
        if room > 0:
            found = self._connection.execute(self._page, parameters | {"limit": room})
            rows = [self._row(row) for row in found]
            self.rows += rows
            if self._order == "slowest":
                self.rows = sorted(self.rows, key=lambda row: (-(row.took_s or 0.0), row.item))[:PAGE_ITEMS]

    def _row(self, row: Sequence[Any]) -> ListedItem:
        return ListedItem._make((*row[:2], self._types.get(row[2], "?"), *row[3:6], STATES[row[6] or 0], *row[7:]))

    def _conditions(self, wanted: Filter, types: dict[int, str], state: str, *, is_live: bool) -> Iterable[str]:
        """Yield the conditions of a filter as SQL, in which nothing that was typed stands."""
        if wanted.types:
            numbers = [number for number, name in types.items() if any(matches_type(one, name) for one in wanted.types)]
            yield f"i.type IN ({', '.join(map(str, numbers))})"
        if wanted.states:
            states = set(wanted.states)
            if not is_live:  # what was running is interrupted
                states = states - {"running"} | ({"running"} if "interrupted" in states else set())
            yield f"{state} IN ({', '.join(str(NUMBER_OF[one]) for one in sorted(states))})"
            if self._is_by_state:
                yield "i.state NOT IN (0, 4)"  # else SQLite doesn't see that it can use the index of the rare states
        if wanted.errors:
            yield f"{state} IN {_FAILING}"
            yield self._any(wanted.errors, "(i.error_type GLOB {0} OR i.error_type GLOB '*[:.]' || {0})")
        for column, patterns in (("i.group_name", wanted.groups), ("i.key", wanted.keys)):
            if patterns:
                yield self._any(patterns, f"{column} GLOB {{0}}")
        if wanted.parents:
            yield f"i.parent IN ({', '.join(map(str, wanted.parents))})"
        if wanted.subtrees:
            yield "is_below(i.item)"
        yield from (f"i.attempts {operator} {number}" for operator, number in wanted.attempts)
        for word in wanted.words:
            escaped = _LIKE.sub(r"!\g<0>", word)
            yield self._any([f"%{escaped}%"], _SAYS.format(state=state, like="LIKE {0} ESCAPE '!'"))

    def _any(self, values: Sequence[str], condition: str) -> str:
        """Return that `condition` holds for one of `values` at least, which become parameters."""
        names = []
        for value in values:
            names.append(f":v{len(self._parameters)}")
            self._parameters[names[-1][1:]] = value
        return f"({' OR '.join(condition.format(name) for name in names)})"


class ItemReader:
    """Reads the items of a run from its index, and their events from the journal. All in one thread.

    Attributes:
        seq, at: the number of the last event in the index, and when it happened, Unix time in seconds.
        is_searching: whether a list that was asked for since `refresh` isn't complete.
    """

    def __init__(self, connection: sqlite3.Connection, history: JournalHistory) -> None:
        """Read from `connection`, which is one to the index, and from `history`; both are closed with this."""
        self._connection = connection
        self._history = history
        self._listings: dict[object, Listing] = {}
        self._kept: dict[tuple[int, ...], list[Event]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Look how far the index is. Until the next time, all lists together are searched for a tenth of a second."""
        self._budget_s = _LOOK_S
        self.is_searching = False
        self.seq, self.at = self._connection.execute("SELECT seq, at FROM mark").fetchone()

    def listing(
        self,
        typed: str,
        order: Order,
        start: int | None,
        at: int | None,
        num_items: int,
        *,
        is_live: bool,
    ) -> Listing:
        """Return what is found so far of the items that match a filter; see `Filter.of` and `Listing`."""
        key = (typed, order, start, at)
        listing = self._listings.pop(key, None)
        if listing is None:
            listing = Listing(self._connection, Filter.of(typed), order=order, start=start, at=at)
        self._listings[key] = listing  # the last of them was used last
        while len(self._listings) > _MAX_LISTINGS:
            del self._listings[next(iter(self._listings))]
        known = self._connection.execute("SELECT coalesce(max(item), 0) FROM items").fetchone()[0]
        began = time.monotonic()
        listing.look(self.seq, min(num_items, known), is_live=is_live, budget_s=self._budget_s)
        self._budget_s = max(self._budget_s - (time.monotonic() - began), 0.0)
        self.is_searching |= listing.share < 1
        return listing

    def item(self, number: int) -> ListedItem | None:
        """Return an item as it is now; None if the index doesn't have it."""
        found = Listing(self._connection, Filter(), start=number)
        found.look(self.seq, number, is_live=True)
        return found.rows[0] if found.rows and found.rows[0].item == number else None

    def state_at(self, number: int, at: int) -> State:
        """Return the state of an item after the event `at`."""
        row = self._connection.execute(
            "SELECT state FROM changes WHERE item = ? AND seq <= ? ORDER BY seq DESC LIMIT 1", (number, at)
        ).fetchone()
        return STATES[row[0]] if row is not None else "queued"

    def num_interrupted(self, at: int | None) -> int:
        """Return how many items were interrupted and have not been started again, by the event `at` or, if it is None, by now."""
        found = self._connection.execute(
            "SELECT count(*) FROM items WHERE state = 3 AND state NOT IN (0, 4)"
            if at is None
            else "SELECT count(*) FROM changes c WHERE c.state = 3 AND c.seq <= :at AND NOT EXISTS "
            "(SELECT 1 FROM changes d WHERE d.item = c.item AND d.seq > c.seq AND d.seq <= :at)",
            {"at": at},
        )
        number: int = found.fetchone()[0]
        return number

    def path_to(self, number: int) -> list[ListedItem]:
        """Return the ancestors of an item, the initial one first; of more than six the first and the last three."""
        # In Python, 100,000 ancestors take a second.
        found = self._connection.execute(
            "WITH RECURSIVE above (item) AS (SELECT parent FROM items WHERE item = ? UNION ALL "
            "SELECT p.parent FROM above JOIN items p ON p.item = above.item) SELECT item FROM above WHERE item > 0",
            (number,),
        )
        numbers = [number for (number,) in found]
        if len(numbers) > _MAX_ANCESTORS:
            numbers = [*numbers[: _MAX_ANCESTORS // 2], *numbers[-_MAX_ANCESTORS // 2 :]]
        return [one for number in reversed(numbers) if (one := self.item(number)) is not None]

    def children(self, number: int) -> dict[State, int]:
        """Return how many children an item has in which state; at most 50,000 are counted."""
        rows = self._connection.execute(
            "SELECT state, count(*) FROM (SELECT state FROM items WHERE parent = ? LIMIT ?) GROUP BY state ORDER BY 2 DESC",
            (number, _MAX_CHILDREN),
        )
        return {STATES[state]: count for state, count in rows}

    def events_of(self, number: int, until: int | None) -> list[Event]:
        """Return the events of an item, without descriptions, and those of the run as a whole since it was announced.

        Parameters:
            number: the item's.
            until: the number of the last event that counts; None for all.
        """
        until = self.seq if until is None else until
        own = [
            seq
            for (seq,) in self._connection.execute(
                "SELECT seq FROM changes WHERE item = ? AND seq <= ?", (number, until)
            )
        ]
        of_run = self._connection.execute(
            "SELECT seq FROM notable WHERE seq BETWEEN ? AND ? AND name NOT LIKE 'item.%' LIMIT ?",
            (own[0] if own else until, until, _MAX_EVENTS),
        )
        if len(own) > _MAX_EVENTS:
            own = [*own[: _MAX_EVENTS // 2], *own[-_MAX_EVENTS // 2 :]]
        return self._same_events({*own, *(seq for (seq,) in of_run)})

    def num_events(self, number: int, until: int | None) -> int:
        """Return how many events an item has up to the number `until`, without descriptions; `events_of` may return fewer."""
        until = self.seq if until is None else until
        found = self._connection.execute("SELECT count(*) FROM changes WHERE item = ? AND seq <= ?", (number, until))
        count: int = found.fetchone()[0]
        return count

    def last_events(self, rows: Sequence[ListedItem]) -> dict[int, Event]:
        """Return, by number, the last events of those of the items that have others since the moment that is shown."""
        return self._history.events_at({row.last_seq for row in rows if row.last_seq})

    def events_of_run(self) -> list[Event]:
        """Return the events of the run as a whole: the last 2,000."""
        rows = self._connection.execute(
            "SELECT seq FROM notable WHERE name NOT LIKE 'item.%' ORDER BY seq DESC LIMIT ?", (_MAX_EVENTS,)
        )
        return self._same_events([seq for (seq,) in rows])

    def changes_of_failures(self, until: int) -> "array[int]":
        """Return the numbers of the events up to `until` that change which items are failed, and of those that bound the run's time."""
        rows = self._connection.execute(
            "SELECT seq, name LIKE 'run.%' FROM notable WHERE seq <= ? AND "
            "name IN ('item.failed', 'item.reopened', 'item.skipped', 'run.started', 'run.resumed', 'run.edited') ORDER BY seq",
            (until,),
        )
        seqs = array("q")
        for seq, is_bound in rows:
            if is_bound and seq > 1 and (not seqs or seqs[-1] < seq - 1):
                seqs.append(seq - 1)  # the run's own time ends with the last event of a process, whatever that is
            seqs.append(seq)
        return seqs

    def events_at(self, seqs: Collection[int]) -> list[Event]:
        """Return the events with these numbers, in order."""
        found = self._history.events_at(seqs)
        return [found[seq] for seq in sorted(found)]

    def _same_events(self, seqs: Collection[int]) -> list[Event]:
        """Return the same as `events_at`, from what is kept: a view asks again at each update, and an item may have megabytes."""
        key = tuple(sorted(seqs))
        kept = self._kept.pop(key, None)
        self._kept[key] = kept if kept is not None else self.events_at(key)  # the last of them was used last
        while len(self._kept) > _MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        return self._kept[key]

    def view_at(self, seq: int) -> RunView:
        """Return the run as it was after the event of this number.

        Raises:
            KeyError, IndexError: the journal holds what no run can have written.
            JournalError: it can't be read.
        """
        view = last_view(self._connection, seq) or RunView()
        self._history.start_after(view.seq)
        while view.seq < seq and (events := self._history.read()) is not None:
            view.apply([event for event in events if event.seq <= seq])
            if self._history.last_read >= seq:
                break
        return view

    def seq_at(self, at: float, last: int) -> int:
        """Return the number of the last event up to `last` that happened by the Unix time `at`; at least 1."""
        first = 1
        while first < last:
            middle = (first + last + 1) // 2
            event = self._history.events_at([middle]).get(middle)
            if event is not None and event.at > at:  # one of a type that this aqueue doesn't know counts as earlier
                last = middle - 1
            else:
                first = middle
        return first

    def close(self) -> None:
        """Close both."""
        self._connection.close()
        self._history.close()
