"""Writes a run as indexed tables in a SQLite file, and brings such a file up to date, for Datasette and other readers of SQL.

Each event is a few statements on the rows of its item, so the tables themselves are all that the fold remembers. An update
therefore needs only the events that came since, whatever the number of items, and no more memory than one batch of events.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec

from aqueue import events as ev
from aqueue._folds.item_table import OUTSTANDING
from aqueue._journal.file import as_database
from aqueue._version import __version__
from aqueue.errors import AqueueError
from aqueue.events import Event

__all__ = ["STATE_AFTER", "Mark", "NotTables", "Tables"]

_APPLICATION_ID: Final = 0x61717874
"""What marks a SQLite file as such an export: the bytes ``aqxt``."""

_VERSION: Final = 3
"""The version of the tables, to be raised whenever they or their fold change: an update refuses other versions."""

# In an order in which each refers only to itself and to those before it. The first column is the key.
_COLUMNS: Final = {
    "export": "run_id TEXT, seq INTEGER, at REAL, source TEXT, aqueue_version TEXT",
    "runs": (
        "seq INTEGER, run_id TEXT, started_at REAL, ended_at REAL, last_at REAL, status TEXT, enqueued INTEGER, "
        "completed INTEGER, failed INTEGER, skipped INTEGER, num_workers INTEGER, queue_type_name TEXT, pid INTEGER, host TEXT, "
        "cluster TEXT, aqueue_version TEXT, edited_at REAL"
    ),
    "groups": (
        "name TEXT, items INTEGER, outstanding INTEGER, failed INTEGER, concurrent INTEGER, per_second REAL, limit_by TEXT, "
        "paused_until REAL, paused_by TEXT"
    ),
    "items": (
        "id INTEGER, parent INTEGER, depth INTEGER, children INTEGER, type TEXT, key TEXT, group_name TEXT, state TEXT, "
        "attempts INTEGER, enqueued_at REAL, started_at REAL, ended_at REAL, duration_s REAL, worker INTEGER, "
        "description TEXT, error TEXT, due REAL, hook INTEGER, payload TEXT, process_result TEXT, last_attempt INTEGER"
    ),
    "attempts": (
        "seq INTEGER, item INTEGER, run INTEGER, phase TEXT, attempt INTEGER, worker INTEGER, started_at REAL, ended_at REAL, "
        "duration_s REAL, outcome TEXT, reason TEXT, error_type TEXT, error_message TEXT, due REAL"
    ),
    "failures": (
        "item INTEGER, type TEXT, phase TEXT, attempt INTEGER, at REAL, error_type TEXT, error_message TEXT, traceback TEXT"
    ),
    "results": "item INTEGER, type TEXT, phase TEXT, result TEXT",
}
_FOREIGN_KEYS: Final = {
    "items": [("parent", "items", "id"), ("group_name", "groups", "name")],
    "attempts": [("item", "items", "id"), ("run", "runs", "seq")],
    "failures": [("item", "items", "id")],
    "results": [("item", "items", "id")],
}
_INDEXES: Final = {
    "items": (
        ["state"],
        ["type", "state"],
        ["group_name", "state"],
        ["parent"],
        ["key"],
        ["started_at"],
        ["duration_s"],
    ),
    "attempts": (["item"], ["outcome"]),
    "failures": (["error_type"], ["type"]),
    "results": (["type"],),
}

STATE_AFTER: Final[dict[type[Event], str]] = {
    ev.ItemEnqueued: "'queued'",
    ev.ItemStarted: "'running'",
    ev.ItemCompleted: "iif(children OR hook, 'waiting', 'completed')",
    ev.ItemChildrenProcessed: "iif(state = 'skipped', state, 'completed')",
    ev.ItemChildrenFailed: "iif(state IN ('failed', 'skipped'), state, 'completed')",
    ev.ItemFailed: "'failed'",
    ev.ItemRetryScheduled: "'retrying'",
    ev.ItemInterrupted: "iif(ended_at IS NULL, 'interrupted', 'waiting')",  # the process; the hook
    ev.ItemSkipped: "'skipped'",
    ev.ItemReopened: "coalesce(?2, iif(state IN ('failed', 'skipped'), state, 'waiting'))",
    ev.ItemRescheduled: "state",
    ev.ItemCancelled: "state",
    ev.ItemDescribed: "state",
    ev.ItemAdopted: "state",
    ev.ItemRegrouped: "state",
}
"""The state of an item after each type of event, as SQL on its row. Every type that begins with ``item.`` must be here."""

_Rows = Callable[[Sequence[Any]], Iterable[Sequence[Any]]]
"""Makes the parameters of a statement from events of one type that follow each other."""


def _fields(*names: str, phase: ev.Phase | None = None) -> _Rows:
    """Return what takes two or more fields of each event, or of those of one phase."""
    get = attrgetter(*names)
    if phase is None:
        return lambda events: map(get, events)
    return lambda events: [get(event) for event in events if event.phase == phase]


def _number(events: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return [(event.item,) for event in events]


def _json(raw: msgspec.Raw) -> str | None:
    """Return the JSON of an optional field, None if it is absent. In a log it may be something other than UTF-8."""
    return bytes(raw).decode(errors="replace") if raw else None


def _item(cls: type[Event], *columns: str) -> str:
    """Return the statement that sets the state of an item, and more columns. Its number is the first parameter."""
    return f"UPDATE items SET {', '.join((f'state = {STATE_AFTER[cls]}', *columns))} WHERE id = ?1"  # noqa: S608


def _attempt(outcome: str, duration_s: str, *columns: str, ended_at: str = "?2") -> str:
    """Return the statement that ends an item's running attempt, if there is one. The parameters are item, time and others."""
    columns = (f"outcome = '{outcome}'", f"ended_at = {ended_at}", f"duration_s = {duration_s}", *columns)
    return (
        f"UPDATE attempts SET {', '.join(columns)} "  # noqa: S608
        "WHERE seq = (SELECT last_attempt FROM items WHERE id = ?1) AND outcome = 'running'"
    )


_SINCE_START: Final = "max(?2 - started_at, 0.0)"
_LAST_RUN: Final = "(SELECT max(seq) FROM runs)"
# For a crash the event comes with the resume, or with a command on the run, which may be a week later.
_CUT_SHORT_AT: Final = f"""
    iif(?3 = 'crash', coalesce(
        (SELECT last_at FROM runs WHERE seq < {_LAST_RUN} OR edited_at NOT NULL ORDER BY seq DESC LIMIT 1), ?2
    ), ?2)
"""  # noqa: S608
_ERROR: Final = ("error_type = ?4", "error_message = ?5")

_Steps = tuple[tuple[str, _Rows], ...]

_BEGIN_RUN: Final[_Steps] = (
    ("UPDATE runs SET status = 'crashed' WHERE status = 'unfinished' AND seq < ?", lambda events: [(events[-1].seq,)]),
    (
        """
        INSERT OR REPLACE INTO runs (seq, run_id, started_at, num_workers, queue_type_name, pid, host, aqueue_version, cluster,
            status)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, nullif(?9, ''), 'unfinished')
        """,
        _fields("seq", "run_id", "at", "num_workers", "queue_type_name", "pid", "host", "aqueue_version", "cluster"),
    ),
)
_ADD_GROUPS: Final[tuple[str, _Rows]] = (
    "INSERT OR IGNORE INTO groups (name) VALUES (?)",
    lambda events: {(event.group,) for event in events if event.group is not None},
)
_RESULT_OF_PROCESS: Final = "(SELECT result FROM results WHERE item = ?1 AND phase = 'process')"
_SET_RESULT: Final = "INSERT OR REPLACE INTO results SELECT id, type, ?2, ?3 FROM items WHERE id = ?1"


def _results(phase: str) -> _Rows:
    return lambda events: [(event.item, phase, _json(event.result)) for event in events if event.result]


def _changed_limit(events: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Return what a person set; where the program's own limit holds again, that, if it was known."""
    for event in events:
        limit = (event.program or ev.GroupLimit()) if event.is_default else event
        yield event.group, limit.concurrent, limit.per_second, None if event.is_default else event.by


def _reopened_as(event: ev.ItemReopened) -> str | None:
    """Return the state of an item that was reopened; None if its own row tells it, since only its subtree runs again.

    The row and not `skipped` or `ended`: in a log that lacks events, an item of which they speak may have failed.
    """
    if event.rerun or event.failed == "process":
        return "queued"
    return None if event.failed is None else "waiting"


def _without_result(events: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return [(event.item,) for event in events if not event.result]


_STEPS: Final[dict[type[Event], _Steps]] = {
    # Some of these do more than to change the state: their steps are below.
    **{cls: ((_item(cls), _number),) for cls, state in STATE_AFTER.items() if state != "state"},
    ev.RunStarted: _BEGIN_RUN,
    ev.RunResumed: _BEGIN_RUN,
    ev.RunFinished: (
        (
            f"""
            UPDATE runs SET status = ?, ended_at = ?, enqueued = ?, completed = ?, failed = ?, skipped = ? WHERE seq = {_LAST_RUN}
            """,  # noqa: S608
            _fields("status", "at", "counts.enqueued", "counts.completed", "counts.failed", "counts.skipped"),
        ),
    ),
    ev.RunEdited: (
        (
            f"UPDATE runs SET edited_at = ? WHERE seq = {_LAST_RUN}",  # noqa: S608
            lambda events: [(event.at,) for event in events],
        ),
    ),
    ev.GroupLimitKnown: (
        _ADD_GROUPS,
        (
            "UPDATE groups SET concurrent = ?2, per_second = ?3 WHERE name = ?1",
            _fields("group", "concurrent", "per_second"),
        ),
    ),
    ev.GroupSlowedDown: (
        _ADD_GROUPS,
        ("UPDATE groups SET paused_until = ?2 WHERE name = ?1", _fields("group", "due")),
    ),
    ev.GroupLimitChanged: (
        _ADD_GROUPS,
        ("UPDATE groups SET (concurrent, per_second, limit_by) = (?2, ?3, ?4) WHERE name = ?1", _changed_limit),
    ),
    ev.GroupPaused: (_ADD_GROUPS, ("UPDATE groups SET paused_by = ?2 WHERE name = ?1", _fields("group", "by"))),
    ev.GroupUnpaused: (
        (
            "UPDATE groups SET paused_by = NULL WHERE name = ?",
            lambda events: [(event.group,) for event in events],
        ),
    ),
    ev.ItemEnqueued: (
        (
            f"""
            INSERT OR IGNORE INTO items (id, parent, depth, children, type, key, group_name, state, attempts, enqueued_at,
                hook, payload)
            VALUES (?1, nullif(?2, 0), coalesce((SELECT depth + 1 FROM items WHERE id = ?2), 0), 0, ?3, ?4, ?5,
                {STATE_AFTER[ev.ItemEnqueued]}, 0, ?6, ?7, ?8)
            """,  # noqa: S608
            lambda events: [(e.item, e.parent, e.type, e.key, e.group, e.at, e.hook, _json(e.payload)) for e in events],
        ),
        (
            "UPDATE items SET children = children + ?2 WHERE id = ?1",
            lambda events: Counter(event.parent for event in events if event.parent).items(),
        ),
        _ADD_GROUPS,
    ),
    ev.ItemStarted: (
        (
            _item(
                ev.ItemStarted,
                *("last_attempt = ?2", "attempts = ?3", "worker = ?4", "started_at = ?5"),
                *("ended_at = NULL", "duration_s = NULL", "due = NULL"),
            ),
            _fields("item", "seq", "attempt", "worker", "at", phase="process"),
        ),
        (
            # It is the item's result again if this hook returns None, and an earlier one has not.
            _item(
                ev.ItemStarted,
                *(
                    "last_attempt = ?2",
                    "due = NULL",
                    f"process_result = coalesce(process_result, {_RESULT_OF_PROCESS})",
                ),
            ),
            _fields("item", "seq", phase="after_children"),
        ),
        (
            f"""
            INSERT OR REPLACE INTO attempts (seq, item, run, phase, attempt, worker, started_at, outcome)
            VALUES (?, ?, {_LAST_RUN}, ?, ?, nullif(?, 0), ?, 'running')
            """,  # noqa: S608
            _fields("seq", "item", "phase", "attempt", "worker", "at"),
        ),
    ),
    ev.ItemDescribed: (("UPDATE items SET description = ?2 WHERE id = ?1", _fields("item", "text")),),
    ev.ItemAdopted: (
        (
            "UPDATE items SET payload = coalesce(?2, payload) WHERE id = ?1",
            lambda events: [(event.item, _json(event.payload)) for event in events],
        ),
    ),
    ev.ItemRegrouped: (_ADD_GROUPS, ("UPDATE items SET group_name = ?2 WHERE id = ?1", _fields("item", "group"))),
    ev.ItemCompleted: (
        (
            _item(
                ev.ItemCompleted,
                *("ended_at = ?2", "duration_s = ?3", "error = NULL"),
                *("payload = coalesce(?4, payload)", "process_result = NULL"),
            ),
            lambda events: [(e.item, e.at, e.duration_s, _json(e.payload)) for e in events],
        ),
        (_attempt("completed", "?3"), _fields("item", "at", "duration_s")),
        ("DELETE FROM results WHERE item = ?", _without_result),
        (_SET_RESULT, _results("process")),
    ),
    ev.ItemChildrenProcessed: (
        # A log may lack that its hook was skipped while that waited for a retry.
        (_item(ev.ItemChildrenProcessed, "due = NULL"), _number),
        # Without a hook an item keeps what it has; a hook that returns None leaves what the process returned.
        (
            """
            DELETE FROM results WHERE item = ?1
            AND (SELECT outcome FROM attempts JOIN items ON seq = last_attempt WHERE id = ?1) = 'running'
            """,
            _without_result,
        ),
        (
            """
            INSERT OR IGNORE INTO results
            SELECT id, type, 'process', process_result FROM items WHERE id = ?1 AND process_result IS NOT NULL
            """,
            _without_result,
        ),
        (_SET_RESULT, _results("after_children")),
        (_attempt("completed", _SINCE_START), _fields("item", "at")),
    ),
    ev.ItemChildrenFailed: (
        (_item(ev.ItemChildrenFailed, "due = NULL"), _number),
        (_attempt("interrupted", _SINCE_START), _fields("item", "at")),
    ),
    ev.ItemFailed: (
        (
            _item(
                ev.ItemFailed,
                *("ended_at = ?2", "duration_s = ?3", "error = ?4 || ': ' || ?5", "due = NULL"),
                # A hook that was cancelled before it began has not kept it.
                f"process_result = iif(?6 = 'process', NULL, coalesce(process_result, {_RESULT_OF_PROCESS}))",
            ),
            _fields("item", "at", "duration_s", "error.type", "error.message", "phase"),
        ),
        (_attempt("failed", "?3", *_ERROR), _fields("item", "at", "duration_s", "error.type", "error.message")),
        (
            "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?, ?, ?, nullif(?, ''))",
            _fields("item", "type", "phase", "attempt", "at", "error.type", "error.message", "error.traceback"),
        ),
        ("DELETE FROM results WHERE item = ?", _number),
    ),
    ev.ItemRetryScheduled: (
        (
            _item(ev.ItemRetryScheduled, "due = ?2", "error = ?3 || ': ' || ?4"),
            _fields("item", "due", "error.type", "error.message"),
        ),
        (
            _attempt("retried", _SINCE_START, "due = ?3", *_ERROR),
            _fields("item", "at", "due", "error.type", "error.message"),
        ),
    ),
    ev.ItemInterrupted: (
        (_item(ev.ItemInterrupted), _number),
        (
            _attempt("interrupted", f"max({_CUT_SHORT_AT} - started_at, 0.0)", "reason = ?3", ended_at=_CUT_SHORT_AT),
            _fields("item", "at", "reason"),
        ),
    ),
    ev.ItemRescheduled: (("UPDATE items SET due = ?2 WHERE id = ?1 AND state = 'retrying'", _fields("item", "due")),),
    ev.ItemSkipped: (
        (_item(ev.ItemSkipped, "due = NULL", "error = NULL", "process_result = NULL"), _number),
        ("DELETE FROM failures WHERE item = ?", _number),
        ("DELETE FROM results WHERE item = ?", _without_result),
        (_SET_RESULT, _results("skipped")),
    ),
    ev.ItemReopened: (
        (_item(ev.ItemReopened, "due = NULL"), lambda events: [(event.item, _reopened_as(event)) for event in events]),
        (_attempt("interrupted", _SINCE_START), _fields("item", "at")),
        (
            "DELETE FROM failures WHERE item = ?",
            lambda events: [(event.item,) for event in events if event.failed is not None],
        ),
    ),
}
"""The statements of each type of event, in order, and what makes their parameters."""

_OUTSTANDING: Final = ", ".join(f"'{state}'" for state in sorted(OUTSTANDING))
_COUNT_GROUPS: Final = (
    "UPDATE groups SET (items, outstanding, failed) = (SELECT count(*), "  # noqa: S608
    f"coalesce(sum(state IN ({_OUTSTANDING})), 0), coalesce(sum(state = 'failed'), 0) FROM items WHERE group_name = name)"
)


class NotTables(AqueueError):
    """A file has no tables that can be brought up to date; the message says why, and what to do."""


class Mark(NamedTuple):
    """Up to where tables were made.

    Attributes:
        run_id: of the run.
        seq: the number of the last event that is in them; 0 for none.
        at: the time of that event, Unix time in seconds.
    """

    run_id: str = ""
    seq: int = 0
    at: float = 0.0


class Tables:
    """The tables of a run in a SQLite file. The caller begins and ends the transaction in which they are made or changed.

    Attributes:
        mark: up to where they are made.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Use the tables in the file of `connection`, or create them if it is empty.

        Raises:
            NotTables: the file is something else, or has tables of another version.
            sqlite3.Error: it can't be read or written.
        """
        self._database = as_database(connection)
        self._connection = connection
        self.mark = Mark()
        self._at = 0.0  # the time of the last event
        if not self._database.table_names():
            self._create()
            return
        ours, version = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if ours != _APPLICATION_ID:
            raise NotTables("it wasn't made by 'aqueue export --format sqlite'; name another file")
        found = connection.execute("SELECT run_id, seq, at FROM export").fetchone() if version == _VERSION else None
        if found is None:
            raise NotTables("another version of aqueue made it; leave out --update to make it again")
        self.mark = Mark(*found)
        self._at = self.mark.at

    def _create(self) -> None:
        self._connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        self._connection.execute(f"PRAGMA user_version = {_VERSION}")
        for name, listed in _COLUMNS.items():
            columns = dict(column.split() for column in listed.split(", "))
            self._database.create_table(name, columns, pk=next(iter(columns)), foreign_keys=_FOREIGN_KEYS.get(name, ()))

    def apply(self, events: Iterable[Event]) -> None:
        """Fold `events`, which must follow those so far and be consistent (see `aqueue._history.repair`).

        Raises:
            OverflowError: one has a number that SQLite can't hold, and that no run has.
            sqlite3.Error: the file can't be written.
        """
        # Events of different items can change places, so the first event of each item is folded first, then the second, and
        # so on: then most have the same statements as hundreds of others. One by one they take twice the time.
        rounds: list[dict[type[Event], list[Event]]] = []
        places: dict[int, int] = {}
        event = None
        for event in events:
            cls = type(event)
            if cls in STATE_AFTER:
                item = event.item  # type: ignore[attr-defined]  # all of these have one
                place = places[item] = places.get(item, -1) + 1
                if place == len(rounds):
                    # Before all else, since whether an item has children counts when it completes.
                    rounds.append({ev.ItemEnqueued: []})
                rounds[place].setdefault(cls, []).append(event)
            elif cls in _STEPS:
                self._fold(rounds)
                rounds, places = [], {}
                if issubclass(cls, ev.RunStarted | ev.RunEdited):
                    self._note_last()
                self._fold([{cls: [event]}])
            self._at = event.at
        self._fold(rounds)
        if event is not None:
            self.mark = self.mark._replace(seq=event.seq, at=event.at)

    def _fold(self, rounds: Iterable[dict[type[Event], list[Event]]]) -> None:
        run = self._connection.executemany
        for by_type in rounds:
            for cls, same in by_type.items():
                for statement, parameters in _STEPS.get(cls, ()):
                    run(statement, parameters(same))

    def _note_last(self) -> None:
        """Note the last event of the last process. Those after `run.edited` aren't of any process."""
        self._connection.execute(
            f"UPDATE runs SET last_at = ? WHERE seq = {_LAST_RUN} AND edited_at IS NULL",  # noqa: S608
            (self._at,),
        )

    def finish(self, source: str) -> None:
        """Make the indexes and what sums up the rows.

        Parameters:
            source: the name of the file from which the events come.

        Raises:
            sqlite3.Error: the file can't be written.
        """
        self._note_last()
        for table, indexes in _INDEXES.items():
            for columns in indexes:
                self._database.table(table).create_index(columns, if_not_exists=True)
        self._connection.execute(_COUNT_GROUPS)
        (run_id,) = self._connection.execute("SELECT run_id FROM runs ORDER BY seq LIMIT 1").fetchone() or ("",)
        self.mark = self.mark._replace(run_id=run_id)
        self._connection.execute("DELETE FROM export")
        self._database.table("export").insert({**self.mark._asdict(), "source": source, "aqueue_version": __version__})
