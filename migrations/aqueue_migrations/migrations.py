"""The journal's schema. Migrations are only ever appended: a journal of any earlier aqueue must open for ever.

The same file serves aqueue and a person: ``sqlite-utils migrate run.db migrations/``. SQLite keeps the text of each
statement and aqueue compares it, so what a released migration creates must never change, not even a space.
"""

from typing import Final

from sqlite_utils import Database, Migrations

__all__ = ["APPLICATION_ID", "migrations"]

APPLICATION_ID: Final = 0x61717565
"""What marks a SQLite file as a journal: the bytes ``aque``, in the file's header at offset 68."""

migrations = Migrations("aqueue")
"""The steps from an empty file to today's schema, in their order."""


@migrations()
def m001_events(db: Database) -> None:
    """Make the table of events: one row for each, its number and its JSON."""
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY, event TEXT NOT NULL)")


def _is(event: str) -> str:
    """Return the condition that a row is an event of this type; the text begins with it, so nothing is parsed."""
    return f"""event >= '{{"event":"{event}"' AND event < '{{"event":"{event}#'"""


@migrations()
def m002_views(db: Database) -> None:
    """Make the views for people.

    They use what every SQLite since 3.38 has, and no index: on a million items that would make each write twice as
    expensive, and without one they answer in about ten seconds.
    """
    # One pass finds the numbers of each item's telling events; what the events say is then looked up by number. The
    # LIMIT keeps SQLite from merging the innermost query into the one around it: it would sort whole events then,
    # half a gigabyte for a million items, where it now sorts three short columns.
    db.execute(f"""
CREATE VIEW items AS
SELECT
    one.item AS id,
    json_extract(enqueued.event, '$.parent') AS parent,
    json_extract(enqueued.event, '$.type') AS type,
    json_extract(enqueued.event, '$.key') AS key,
    CASE json_extract(changed.event, '$.event')
        WHEN 'item.enqueued' THEN 'queued'
        WHEN 'item.started' THEN 'running'
        WHEN 'item.retry_scheduled' THEN 'queued'
        WHEN 'item.interrupted' THEN 'interrupted'
        WHEN 'item.failed' THEN 'failed'
        WHEN 'item.reopened' THEN iif(one.completed IS NULL, 'queued', 'waiting')
        WHEN 'item.completed' THEN iif(parents.item IS NULL, 'completed', 'waiting')
        ELSE 'completed'
    END AS state,
    one.attempts AS attempts,
    json_extract(enqueued.event, '$.at') AS enqueued_at,
    json_extract(started.event, '$.at') AS started_at,
    json_extract(ended.event, '$.at') AS ended_at,
    json_extract(ended.event, '$.duration_s') AS duration_s,
    json_extract(started.event, '$.worker') AS worker,
    json_extract(described.event, '$.text') AS description,
    json_extract(failed.event, '$.error.type') || ': ' || json_extract(failed.event, '$.error.message') AS error
FROM (
    SELECT
        item,
        min(seq) AS enqueued,
        max(CASE WHEN kind <> 'described' THEN seq END) AS changed,
        max(CASE WHEN kind = 'started' THEN seq END) AS started,
        count(CASE WHEN kind = 'started' THEN seq END) AS attempts,
        max(CASE WHEN kind = 'described' THEN seq END) AS described,
        max(CASE WHEN kind = 'completed' THEN seq END) AS completed,
        max(CASE WHEN kind IN ('failed', 'tried') THEN seq END) AS failed,
        max(CASE WHEN kind IN ('failed', 'completed') THEN seq END) AS ended
    FROM (
        SELECT
            seq,
            json_extract(event, '$.item') AS item,
            CASE
                WHEN {_is("item.described")} THEN 'described'
                WHEN {_is("item.completed")} THEN 'completed'
                WHEN {_is("item.started")} AND json_extract(event, '$.phase') IS NULL THEN 'started'
                WHEN {_is("item.failed")} THEN 'failed'
                WHEN {_is("item.retry_scheduled")} THEN 'tried'
                ELSE ''
            END AS kind
        FROM events
        WHERE event >= '{{"event":"item.' AND event < '{{"event":"item/'
        LIMIT -1
    )
    GROUP BY item
) AS one
JOIN events AS enqueued ON enqueued.seq = one.enqueued
JOIN events AS changed ON changed.seq = one.changed
LEFT JOIN events AS started ON started.seq = one.started
LEFT JOIN events AS described ON described.seq = one.described
LEFT JOIN events AS ended ON ended.seq = one.ended AND one.ended > one.started
LEFT JOIN events AS failed ON failed.seq = one.failed AND one.failed > coalesce(one.completed, 0)
LEFT JOIN (
    SELECT DISTINCT json_extract(event, '$.parent') AS item FROM events WHERE {_is("item.enqueued")}
) AS parents ON parents.item = one.item
""")
    # Failures that a later process took up again are not among them.
    db.execute(f"""
CREATE VIEW failures AS
SELECT
    json_extract(event, '$.item') AS item,
    json_extract(event, '$.type') AS type,
    coalesce(json_extract(event, '$.phase'), 'process') AS phase,
    coalesce(json_extract(event, '$.attempt'), 1) AS attempt,
    json_extract(event, '$.at') AS at,
    json_extract(event, '$.error.type') AS error_type,
    json_extract(event, '$.error.message') AS error_message,
    json_extract(event, '$.error.traceback') AS traceback
FROM events
LEFT JOIN (
    SELECT json_extract(event, '$.item') AS item, max(seq) AS reopened
    FROM events
    WHERE {_is("item.reopened")}
    GROUP BY json_extract(event, '$.item')
) AS later ON later.item = json_extract(events.event, '$.item') AND later.reopened > events.seq
WHERE {_is("item.failed")} AND later.item IS NULL
ORDER BY events.seq
""")
    # An item's result is that of its hook, if that returned one, else that of its process.
    db.execute(f"""
CREATE VIEW results AS
SELECT
    last.item AS item,
    json_extract(enqueued.event, '$.type') AS type,
    ended.event -> '$.result' AS result
FROM (
    SELECT
        json_extract(event, '$.item') AS item,
        min(seq) AS enqueued,
        max(CASE WHEN NOT ({_is("item.enqueued")}) AND json_type(event, '$.result') IS NOT NULL THEN seq END) AS ended
    FROM events
    WHERE {_is("item.enqueued")} OR {_is("item.completed")} OR {_is("item.children_processed")}
    GROUP BY json_extract(event, '$.item')
) AS last
JOIN events AS ended ON ended.seq = last.ended
JOIN events AS enqueued ON enqueued.seq = last.enqueued
""")
    db.execute(f"""
CREATE VIEW workers AS
SELECT
    json_extract(event, '$.worker') AS worker,
    count(CASE WHEN {_is("item.started")} THEN 1 END) AS started,
    count(CASE WHEN {_is("item.completed")} THEN 1 END) AS completed,
    count(CASE WHEN {_is("item.failed")} THEN 1 END) AS failed,
    count(CASE WHEN {_is("item.retry_scheduled")} THEN 1 END) AS retried,
    total(json_extract(event, '$.duration_s')) AS busy_s,
    max(json_extract(event, '$.at')) AS last_at
FROM events
WHERE {_is("item.started")} OR {_is("item.completed")} OR {_is("item.failed")} OR {_is("item.retry_scheduled")}
GROUP BY json_extract(event, '$.worker')
""")
    # A row for each process of the run. One without its last event crashed, or is the one that is running.
    db.execute(f"""
CREATE VIEW runs AS
SELECT
    json_extract(event, '$.run_id') AS run_id,
    seq,
    json_extract(event, '$.at') AS started_at,
    json_extract(finished, '$.at') AS ended_at,
    coalesce(json_extract(finished, '$.status'), iif(next IS NULL, 'unfinished', 'crashed')) AS status,
    json_extract(finished, '$.counts.enqueued') AS enqueued,
    json_extract(finished, '$.counts.completed') AS completed,
    json_extract(finished, '$.counts.failed') AS failed,
    json_extract(event, '$.num_workers') AS num_workers,
    json_extract(event, '$.queue_type_name') AS queue_type_name,
    json_extract(event, '$.pid') AS pid,
    json_extract(event, '$.host') AS host,
    json_extract(event, '$.aqueue_version') AS aqueue_version
FROM (
    SELECT
        seq,
        event,
        lead(seq) OVER (ORDER BY seq) AS next,
        CASE WHEN lead(kind) OVER (ORDER BY seq) = 'run.finished' THEN lead(event) OVER (ORDER BY seq) END AS finished
    FROM (
        SELECT seq, event, json_extract(event, '$.event') AS kind
        FROM events
        WHERE {_is("run.started")} OR {_is("run.resumed")} OR {_is("run.finished")}
    )
)
WHERE {_is("run.started")} OR {_is("run.resumed")}
ORDER BY seq
""")


@migrations()
def m003_adopted_items_and_latest_results(db: Database) -> None:
    """Replace two views: items may be adopted with other attributes, and results no longer hold after a failure."""
    db.execute("DROP VIEW items")
    db.execute("DROP VIEW results")
    # As before, but only the types that are named change the state, so that one that comes later does no harm.
    db.execute(f"""
CREATE VIEW items AS
SELECT
    one.item AS id,
    json_extract(enqueued.event, '$.parent') AS parent,
    json_extract(enqueued.event, '$.type') AS type,
    json_extract(enqueued.event, '$.key') AS key,
    CASE json_extract(changed.event, '$.event')
        WHEN 'item.enqueued' THEN 'queued'
        WHEN 'item.started' THEN 'running'
        WHEN 'item.retry_scheduled' THEN 'queued'
        WHEN 'item.interrupted' THEN 'interrupted'
        WHEN 'item.failed' THEN 'failed'
        WHEN 'item.reopened' THEN iif(one.completed IS NULL, 'queued', 'waiting')
        WHEN 'item.completed' THEN iif(parents.item IS NULL, 'completed', 'waiting')
        WHEN 'item.children_processed' THEN 'completed'
        WHEN 'item.children_failed' THEN 'completed'
    END AS state,
    one.attempts AS attempts,
    json_extract(enqueued.event, '$.at') AS enqueued_at,
    json_extract(started.event, '$.at') AS started_at,
    json_extract(ended.event, '$.at') AS ended_at,
    json_extract(ended.event, '$.duration_s') AS duration_s,
    json_extract(started.event, '$.worker') AS worker,
    json_extract(described.event, '$.text') AS description,
    json_extract(failed.event, '$.error.type') || ': ' || json_extract(failed.event, '$.error.message') AS error
FROM (
    SELECT
        item,
        min(seq) AS enqueued,
        max(CASE WHEN kind NOT IN ('described', 'adopted') THEN seq END) AS changed,
        max(CASE WHEN kind = 'started' THEN seq END) AS started,
        count(CASE WHEN kind = 'started' THEN seq END) AS attempts,
        max(CASE WHEN kind = 'described' THEN seq END) AS described,
        max(CASE WHEN kind = 'completed' THEN seq END) AS completed,
        max(CASE WHEN kind IN ('failed', 'tried') THEN seq END) AS failed,
        max(CASE WHEN kind IN ('failed', 'completed') THEN seq END) AS ended
    FROM (
        SELECT
            seq,
            json_extract(event, '$.item') AS item,
            CASE
                WHEN {_is("item.described")} THEN 'described'
                WHEN {_is("item.completed")} THEN 'completed'
                WHEN {_is("item.started")} THEN iif(json_extract(event, '$.phase') IS NULL, 'started', 'hook')
                WHEN {_is("item.enqueued")} THEN 'enqueued'
                WHEN {_is("item.failed")} THEN 'failed'
                WHEN {_is("item.retry_scheduled")} THEN 'tried'
                WHEN {_is("item.adopted")} THEN 'adopted'
                WHEN {_is("item.interrupted")} OR {_is("item.reopened")} THEN 'open'
                WHEN {_is("item.children_processed")} OR {_is("item.children_failed")} THEN 'closed'
            END AS kind
        FROM events
        WHERE event >= '{{"event":"item.' AND event < '{{"event":"item/'
        LIMIT -1
    )
    GROUP BY item
) AS one
JOIN events AS enqueued ON enqueued.seq = one.enqueued
JOIN events AS changed ON changed.seq = one.changed
LEFT JOIN events AS started ON started.seq = one.started
LEFT JOIN events AS described ON described.seq = one.described
LEFT JOIN events AS ended ON ended.seq = one.ended AND one.ended > one.started
LEFT JOIN events AS failed ON failed.seq = one.failed AND one.failed > coalesce(one.completed, 0)
LEFT JOIN (
    SELECT DISTINCT json_extract(event, '$.parent') AS item FROM events WHERE {_is("item.enqueued")}
) AS parents ON parents.item = one.item
""")
    # An item's result is that of the last round that has ended: of its hook, or, if that returned None, of the process
    # before it; none after a failure. One number says which event is its last and what that is: 0 says nothing of a result,
    # 1 has one, 2 is a hook without one, 3 is an end without one.
    db.execute(f"""
CREATE VIEW results AS
SELECT
    last.item AS item,
    json_extract(enqueued.event, '$.type') AS type,
    ended.event -> '$.result' AS result
FROM (
    SELECT
        item,
        min(seq) AS enqueued,
        CASE max(last) % 4 WHEN 1 THEN max(last) / 4 WHEN 2 THEN max(completed) END AS ended
    FROM (
        SELECT
            json_extract(event, '$.item') AS item,
            seq,
            seq * 4 + CASE
                WHEN {_is("item.enqueued")} THEN 0
                WHEN json_type(event, '$.result') IS NOT NULL THEN 1
                WHEN {_is("item.children_processed")} THEN 2
                ELSE 3
            END AS last,
            CASE WHEN {_is("item.completed")} AND json_type(event, '$.result') IS NOT NULL THEN seq END AS completed
        FROM events
        WHERE {_is("item.enqueued")} OR {_is("item.completed")} OR {_is("item.children_processed")}
            OR {_is("item.failed")}
        LIMIT -1
    )
    GROUP BY item
) AS last
JOIN events AS ended ON ended.seq = last.ended
JOIN events AS enqueued ON enqueued.seq = last.enqueued
""")


@migrations()
def m004_groups(db: Database) -> None:
    """Replace three views: items have groups, and may be skipped, cancelled, or run again though they had completed."""
    db.execute("DROP VIEW items")
    db.execute("DROP VIEW failures")
    db.execute("DROP VIEW results")
    # As before; an item's group is that of the latest event that says so. What a person skipped stays so until it runs again.
    db.execute(f"""
CREATE VIEW items AS
SELECT
    one.item AS id,
    json_extract(enqueued.event, '$.parent') AS parent,
    json_extract(enqueued.event, '$.type') AS type,
    json_extract(enqueued.event, '$.key') AS key,
    json_extract(coalesce(regrouped.event, enqueued.event), '$.group') AS group_name,
    CASE iif(one.skipped > coalesce(one.rerun, 0), 'item.skipped', json_extract(changed.event, '$.event'))
        WHEN 'item.enqueued' THEN 'queued'
        WHEN 'item.started' THEN 'running'
        WHEN 'item.retry_scheduled' THEN 'queued'
        WHEN 'item.interrupted' THEN 'interrupted'
        WHEN 'item.skipped' THEN 'skipped'
        WHEN 'item.failed' THEN 'failed'
        WHEN 'item.reopened' THEN iif(
            one.completed IS NULL
            OR json_extract(changed.event, '$.rerun')
            OR json_extract(changed.event, '$.failed') = 'process',
            'queued',
            'waiting'
        )
        WHEN 'item.completed' THEN iif(parents.item IS NULL, 'completed', 'waiting')
        WHEN 'item.children_processed' THEN 'completed'
        WHEN 'item.children_failed' THEN 'completed'
    END AS state,
    one.attempts AS attempts,
    json_extract(enqueued.event, '$.at') AS enqueued_at,
    json_extract(started.event, '$.at') AS started_at,
    json_extract(ended.event, '$.at') AS ended_at,
    json_extract(ended.event, '$.duration_s') AS duration_s,
    json_extract(started.event, '$.worker') AS worker,
    json_extract(described.event, '$.text') AS description,
    json_extract(failed.event, '$.error.type') || ': ' || json_extract(failed.event, '$.error.message') AS error
FROM (
    SELECT
        item,
        min(seq) AS enqueued,
        max(CASE WHEN kind NOT IN ('described', 'adopted', 'regrouped', 'steered') THEN seq END) AS changed,
        max(CASE WHEN kind = 'skipped' THEN seq END) AS skipped,
        max(CASE WHEN kind = 'rerun' THEN seq END) AS rerun,
        max(CASE WHEN kind = 'regrouped' THEN seq END) AS regrouped,
        max(CASE WHEN kind = 'started' THEN seq END) AS started,
        count(CASE WHEN kind = 'started' THEN seq END) AS attempts,
        max(CASE WHEN kind = 'described' THEN seq END) AS described,
        max(CASE WHEN kind = 'completed' THEN seq END) AS completed,
        max(CASE WHEN kind IN ('failed', 'tried') THEN seq END) AS failed,
        max(CASE WHEN kind IN ('failed', 'completed') THEN seq END) AS ended
    FROM (
        SELECT
            seq,
            json_extract(event, '$.item') AS item,
            CASE
                WHEN {_is("item.described")} THEN 'described'
                WHEN {_is("item.completed")} THEN 'completed'
                WHEN {_is("item.started")} THEN iif(json_extract(event, '$.phase') IS NULL, 'started', 'hook')
                WHEN {_is("item.enqueued")} THEN 'enqueued'
                WHEN {_is("item.failed")} THEN 'failed'
                WHEN {_is("item.retry_scheduled")} THEN 'tried'
                WHEN {_is("item.adopted")} THEN 'adopted'
                WHEN {_is("item.regrouped")} THEN 'regrouped'
                WHEN {_is("item.cancelled")} OR {_is("item.rescheduled")} THEN 'steered'
                WHEN {_is("item.skipped")} THEN 'skipped'
                WHEN {_is("item.interrupted")} THEN 'open'
                WHEN {_is("item.reopened")} THEN iif(json_extract(event, '$.rerun'), 'rerun', 'open')
                WHEN {_is("item.children_processed")} OR {_is("item.children_failed")} THEN 'closed'
            END AS kind
        FROM events
        WHERE event >= '{{"event":"item.' AND event < '{{"event":"item/'
        LIMIT -1
    )
    GROUP BY item
) AS one
JOIN events AS enqueued ON enqueued.seq = one.enqueued
JOIN events AS changed ON changed.seq = one.changed
LEFT JOIN events AS regrouped ON regrouped.seq = one.regrouped
LEFT JOIN events AS started ON started.seq = one.started
LEFT JOIN events AS described ON described.seq = one.described
LEFT JOIN events AS ended ON ended.seq = one.ended AND one.ended > coalesce(one.started, 0)
LEFT JOIN events AS failed
    ON failed.seq = one.failed AND one.failed > max(coalesce(one.completed, 0), coalesce(one.skipped, 0))
LEFT JOIN (
    SELECT DISTINCT json_extract(event, '$.parent') AS item FROM events WHERE {_is("item.enqueued")}
) AS parents ON parents.item = one.item
""")
    # Failures that were taken up again, or skipped, are not among them.
    db.execute(f"""
CREATE VIEW failures AS
SELECT
    json_extract(event, '$.item') AS item,
    json_extract(event, '$.type') AS type,
    coalesce(json_extract(event, '$.phase'), 'process') AS phase,
    coalesce(json_extract(event, '$.attempt'), 1) AS attempt,
    json_extract(event, '$.at') AS at,
    json_extract(event, '$.error.type') AS error_type,
    json_extract(event, '$.error.message') AS error_message,
    json_extract(event, '$.error.traceback') AS traceback
FROM events
LEFT JOIN (
    SELECT json_extract(event, '$.item') AS item, max(seq) AS seq
    FROM events
    WHERE {_is("item.reopened")} OR {_is("item.skipped")}
    GROUP BY json_extract(event, '$.item')
) AS later ON later.item = json_extract(events.event, '$.item') AND later.seq > events.seq
WHERE {_is("item.failed")} AND later.item IS NULL
ORDER BY events.seq
""")
    # As before, but `process` may return twice, and an item may be skipped with a result. One number says which event of an
    # item is the last and what that is: 5 and 7 are an end of `process`, or the item was skipped, with and without a result;
    # 1 and 2 the same for the hook, which counts as an end without one if it didn't run; 3 is a failure, 0 says nothing.
    db.execute(f"""
CREATE VIEW results AS
SELECT
    last.item AS item,
    json_extract(enqueued.event, '$.type') AS type,
    ended.event -> '$.result' AS result
FROM (
    SELECT
        item,
        enqueued,
        CASE WHEN last % 4 = 1 THEN last / 8 WHEN last % 4 = 2 AND first % 8 = 5 THEN first / 8 END AS ended
    FROM (
        SELECT item, min(seq) AS enqueued, max(last) AS last, max(CASE WHEN last % 8 > 4 THEN last END) AS first
        FROM (
            SELECT
                json_extract(event, '$.item') AS item,
                seq,
                seq * 8 + CASE
                    WHEN {_is("item.enqueued")} THEN 0
                    WHEN {_is("item.failed")} THEN 3
                    WHEN {_is("item.children_processed")} THEN iif(json_type(event, '$.result') IS NOT NULL, 1, 2)
                    ELSE iif(json_type(event, '$.result') IS NOT NULL, 5, 7)
                END AS last
            FROM events
            WHERE {_is("item.enqueued")} OR {_is("item.completed")} OR {_is("item.children_processed")}
                OR {_is("item.failed")} OR {_is("item.skipped")}
            LIMIT -1
        )
        GROUP BY item
    )
) AS last
JOIN events AS ended ON ended.seq = last.ended
JOIN events AS enqueued ON enqueued.seq = last.enqueued
""")


@migrations()
def m005_snapshots(db: Database) -> None:
    """Make the table of snapshots: what aqueue knows of a run at some event, so that it needn't read all events before it.

    It may be emptied at any time: then the next resume takes longer.
    """
    db.execute(
        "CREATE TABLE snapshots "
        "(seq INTEGER NOT NULL, part INTEGER NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (seq, part))"
    )
