"""Reading a journal: the recorded results of a run, one after the other.

SQLite is loaded when a journal is read, not when this module is imported.
"""

import os
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

import msgspec

from aqueue._arguments import is_path, not_allowed
from aqueue._codec.results import decode_result
from aqueue.errors import InvalidArgument
from aqueue.events import NO_DATA

__all__ = ["ItemResult", "iter_results"]


class ItemResult(msgspec.Struct, frozen=True):
    """The result of one item.

    Attributes:
        item: its number, from 1, in the order of enqueue.
        type: its class when it was enqueued, as ``module:qualname``.
        result: the return value of its hook, or else of its `process`, as decoded from JSON: a tuple becomes a list.
            While either runs again, this is what it returned before. Of a skipped item, what it was skipped with.
    """

    item: int
    type: str
    result: Any


def iter_results(path: "str | os.PathLike[str]") -> Iterator[ItemResult]:
    """Yield the results in the journal at `path`, ordered by the items' numbers.

    Items without a result are left out, and so are those that have failed for good. The results are those recorded at the
    first step of the iteration. A run in another process may be writing the journal meanwhile; neither waits for the other.
    Only a few results are in memory at a time: SQLite first sorts their numbers, in a temporary file if necessary.

    The file is opened at the first step, which raises if something is wrong with it. It is opened read-only; SQLite may
    leave an empty ``PATH-wal`` and a ``PATH-shm`` next to it, which do no harm.

    Parameters:
        path: the journal's file.

    Raises:
        InvalidArgument: `path` isn't a path, or is empty, as `RunResult.journal` is without a journal.
        NotAJournal: the file is something else.
        JournalTooNew: a newer aqueue wrote it.
        JournalDamaged: it can't be read; for some events this is raised only when they are reached.
        JournalLocked: a run of this process is writing it.
        JournalError: there is no such file, or no permission to read it.
    """
    if path == "":
        raise InvalidArgument(
            "path is '', which stands for no journal; it must be the path of one, as written by run_queue with journal=… "
            "or resume=…"
        )
    if not is_path(path):
        raise not_allowed("path", path, "the path of a journal")
    import sqlite3

    from aqueue._journal.open_journals import connect_to_read
    from aqueue._journal.reader import damaged

    outcome = msgspec.json.Decoder(_Outcome).decode
    announced_in = msgspec.json.Decoder(_Announced).decode
    with closing(connect_to_read(path)) as connection:
        try:
            connection.execute("BEGIN")  # both queries see one moment
            types = (announced_in(event) for (event,) in connection.execute(_TYPES))
            announced = _Announced(0, "")
            for item, event in connection.execute(_RESULTS):
                # Items are announced in the order of their numbers, so the two queries go forward side by side.
                while announced.item < item:
                    announced = next(types)
                result = decode_result(outcome(event).result)
                yield ItemResult(item, announced.type, result)
        except (sqlite3.Error, msgspec.MsgspecError, TypeError) as error:
            raise damaged(path, error) from error


def _is(event: str) -> str:
    # Rows are selected by how they begin, so that nothing needs to be parsed.
    return f"""event >= '{{"event":"{event}"' AND event < '{{"event":"{event}#'"""


_HAS_RESULT: Final = """instr(event, '"result":') AND json_type(event, '$.result') IS NOT NULL"""

# The result of an item comes from the last round that has ended: from its hook, or, if that returned None, from the
# `process` before it, or from what the item was skipped with; there is none after a failure. One number, `ended`, says which
# event of an item is the last, and by its remainder what that event is: 5 and 7 are an end of `process`, or the item was
# skipped, with and without a result; 1 and 2 the same for the hook; 3 is a failure. First completions without a result are
# left out: no result comes before them, so they change nothing. Later ones have an attempt, which is written out.
# Only numbers are sorted. The first LIMIT keeps SQLite from merging the innermost query into the one around it. The second
# keeps SQLite from sorting after it has read the events, which would then all be in the sorter: 558 MB for 250 results of
# 2 MB, instead of 64 MB. `instr` may find too much (a payload with such a member), never too little.
_RESULTS: Final = f"""
SELECT item, (SELECT event FROM events WHERE events.seq = one.seq)
FROM (
    SELECT item, seq
    FROM (
        SELECT item, CASE WHEN last % 4 = 1 THEN last / 8 WHEN last % 4 = 2 AND first % 8 = 5 THEN first / 8 END AS seq
        FROM (
            SELECT item, max(ended) AS last, max(CASE WHEN ended % 8 > 4 THEN ended END) AS first
            FROM (
                SELECT
                    json_extract(event, '$.item') AS item,
                    seq * 8 + CASE
                        WHEN {_is("item.failed")} THEN 3
                        WHEN {_is("item.children_processed")} THEN iif({_HAS_RESULT}, 1, 2)
                        ELSE iif({_HAS_RESULT}, 5, 7)
                    END AS ended
                FROM events
                WHERE ({_is("item.completed")} AND ({_HAS_RESULT} OR instr(event, '"attempt":')))
                    OR {_is("item.children_processed")} OR {_is("item.failed")} OR {_is("item.skipped")}
                LIMIT -1
            )
            GROUP BY item
        )
    )
    WHERE seq IS NOT NULL
    ORDER BY item
    LIMIT -1
) AS one
"""  # noqa: S608  # the names of events
_TYPES: Final = f"SELECT event FROM events WHERE {_is('item.enqueued')} ORDER BY seq"  # noqa: S608  # the same


class _Outcome(msgspec.Struct):
    result: msgspec.Raw = NO_DATA


class _Announced(msgspec.Struct):
    item: int
    type: str
