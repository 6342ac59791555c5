"""``aqueue explain``: shows the history of one item, and what resuming the run would do with it."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple

import click
import msgspec
from rich.console import RenderableType
from rich.text import Text

from aqueue._codec.item_codec import references
from aqueue._folds.item_table import State
from aqueue._folds.recording import ROOT, RecordedItem, RecordedRun, Recording
from aqueue._folds.tree_shape import TreeShape
from aqueue._history.event_words import Part
from aqueue._history.history import History
from aqueue._history.opening import open_history
from aqueue._history.record import MISFITS, ItemTexts, Record
from aqueue._history.selecting import Selector, rows_of
from aqueue._history.story import Chapter, Story, WaitReason, acts_of, words_of
from aqueue._resume.plan import plan_of
from aqueue.cli import _app, _lists, _screen
from aqueue.cli._commands.tree import find_row
from aqueue.cli._outlook import outlook
from aqueue.events import (
    ErrorInfo,
    Event,
    ItemAdopted,
    ItemCompleted,
    ItemDescribed,
    ItemEnqueued,
    ItemFailed,
    ItemReopened,
    ItemRetryScheduled,
    ItemSkipped,
)
from aqueue.figures import amount, duration, limit_words, local_minute
from aqueue.text import visible
from aqueue.tracebacks import place, user_frames

__all__ = ["explain"]

_MAX_TEXT_CHARS: Final = 500
_MAX_LABEL_CHARS: Final = 40
_MAX_ANCESTORS: Final = 6
"""How many ancestors a path names; of more, the first and the last half."""

_MAX_ACTS: Final = 20
"""How many attempts and acts of people are shown; of more, the first and the last half."""

_UNKNOWN: Final = "…"
_GAP_CELLS: Final = 3
_MAX_FOUND: Final = 5
"""How many items are listed if several match."""

_ITEM_NUMBER: Final = _app.WholeNumber(1)

_MAX_ENDED: Final = 5
"""Of how many items that have ended the events are looked for: for each, all of them are compared with one more pattern."""


@_app.command(
    "Show the history of one item, and whether it will run again.",
    "aqueue explain run.db 17",
    "aqueue explain run.db https://example.org/page/17",
    "aqueue explain run.db 17 --json | jq -r .outlook",
)
@click.argument("item", metavar="ITEM")
@click.option(
    "--history",
    "with_history",
    is_flag=True,
    help="Show every event with its time, and tracebacks, instead of a line per attempt.",
)
@_app.run_option
@_app.json_option
def explain(file: str, item: str, with_history: bool, run: str, as_json: bool) -> None:
    """Show the history of ITEM: where it comes from, each attempt with its error, and how long it waited for what.

    ITEM is a number, or else a key or a description, or a part of these or of an error's message that only one item has.

    Also shows the state of its children, and whether and why it will run when the run is resumed.
    """
    number = _number(file, item, run, as_json=as_json)
    history = _app.closed_at_end(open_history(file, run=run))
    told = _from_snapshot(history, number) or _from_all(history, number)
    record, story, recording = told.record, told.story, told.recording
    row = find_row(record, number)
    ancestors = _ancestors(record, row)
    texts = dict(record.texts([*_shown(ancestors), row]))
    plan = None if recording is None else plan_of(recording, holds=partial(_held_by, record.history))
    is_lost = record.state.name == "interrupted" and record.view.state != "finished"
    now = record.now if record.state.name == "running" else None
    failed_below = TreeShape(record.items).below(row).failed > 0
    explained = _Explained(
        record,
        row,
        ancestors,
        texts,
        story,
        list(story.chapters(record.view.at if is_lost else None, now, record.view.in_force)),
        told.children(),
        outlook(
            record,
            recording,
            plan,
            row,
            num_children=len(told.announced),
            failed_below=failed_below,
            group=story.group,
        ),
    )
    if as_json:
        _screen.print_json(_as_json(explained))
    else:
        _screen.print_lines(_printed(explained, run, with_history=with_history))
    _app.finish(record.history)


def _number(file: str, item: str, run: str, *, as_json: bool) -> int:
    """Return the number of the item that a person named.

    Raises:
        click.UsageError: it is none that an item can have, no item matches, or several do.
    """
    if not item:
        raise click.UsageError("ITEM is empty; name an item by its number, its key or a text that only it has")
    if re.fullmatch("-?[0-9]{1,15}", item):
        return int(_ITEM_NUMBER.convert(item, None, None) or 0)
    history = _app.closed_at_end(open_history(file, run=run))
    if history.path is None:
        raise click.UsageError("standard input and pipes can be read only once, so ITEM must be a number")
    search = _Search(item)
    record = Record(history, search.apply)
    rows = rows_of(record, Selector(items=sorted(search.found), text=item)) if search.found else []
    whole = [row for row, texts in record.texts(rows) if item in (texts.key, texts.description)]
    rows = whole if len(whole) == 1 else rows
    shown = visible(item, 200)
    if not rows:
        raise click.UsageError(
            f"no item has the key or the text {shown!r}; see the items with: {record.command('items')}"
        )
    if len(rows) > 1:
        if not as_json:
            _screen.print_lines([_lists.list_of_items(record, rows[:_MAX_FOUND], ["item", "type", "state", "what"])])
        numbers = ", ".join(str(record.items.item_of(row)) for row in rows[:_MAX_FOUND])
        more = ", …" if len(rows) > _MAX_FOUND else ""
        raise click.UsageError(
            f"{amount(len(rows))} items have the text {shown!r}; name one by its number: {numbers}{more}"
        )
    return record.items.item_of(rows[0])


class _Search:
    """Finds the items that ever had a text: among these are those that have it now.

    Attributes:
        found: their numbers.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self.found: set[int] = set()

    def apply(self, events: Iterable[Event]) -> None:
        """Look at events."""
        for event in events:
            match event:
                case ItemEnqueued(key=str() as said) | ItemDescribed(text=said):
                    pass
                case ItemFailed(error=error) | ItemRetryScheduled(error=error):
                    said = error.message
                case _:
                    continue
            if self._text in said:
                self.found.add(event.item)


class _Told:
    """What is read of a run for one of its items.

    Attributes:
        story: the item's.
        announced: the numbers and types of its children.
        record: the run; all of it, or the live items alone.
        recording: the run as a resume reads it, ended; None if it can't be resumed.
    """

    record: Record

    def __init__(self, item: int, fold: Recording | None) -> None:
        self._item = item
        self._fold = fold
        self.story = Story(item)
        self.announced: list[tuple[int, str]] = []
        self._skipped: set[int] = set()

    def tell(self, events: Iterable[Event]) -> None:
        """Read events that name the item or its children, and those around the ends of processes."""
        self.story.apply(events)
        self.announced += [
            (one.item, one.type) for one in events if isinstance(one, ItemEnqueued) and one.parent == self._item
        ]
        for event in events:
            if isinstance(event, ItemSkipped):
                self._skipped.add(event.item)
            elif isinstance(event, ItemReopened) and event.rerun:
                self._skipped.discard(event.item)

    def apply(self, events: list[Event]) -> None:
        """Fold events, among which these are."""
        self.tell(events)
        if self._fold is not None:
            try:
                self._fold.apply(events)
            except KeyError:  # a journal that no run can have written, and that a resume refuses
                self._fold = None

    @property
    def recording(self) -> RecordedRun | None:
        return self._fold.at_end() if self._fold is not None and self.record.history.is_journal else None

    def children(self) -> Counter[tuple[str, State]]:
        """Return how many of its children are of which type and in which state."""
        return Counter((type, self._state_of(number)) for number, type in self.announced)

    def _state_of(self, item: int) -> State:
        row = self.record.items.row_of(item)
        if row is not None:
            return self.record.items.state_of(row)
        return "skipped" if item in self._skipped else "completed"  # it has ended


def _from_all(history: History, item: int) -> _Told:
    told = _Told(item, Recording())
    told.record = Record(history, told.apply)
    return told


def _from_snapshot(history: History, item: int) -> _Told | None:
    """Return what is read of a run from its last snapshot on.

    Returns None if there is none, or if the item and so many of its ancestors had ended that reading all takes less time.
    """
    folds = history.start_at_snapshot()
    if folds is None:
        return None
    facts = folds.recording.facts
    chain = _announced(history, folds.recording, item)
    if chain is not None:
        told = _Told(item, folds.recording)
        items = [event.item for event in chain]
        found = {event.seq: event for event in history.events_of(items, chain[-1].seq, facts.last_seq)} if items else {}
        # A snapshot doesn't have what had ended, nor all of what runs again.
        again = [event for event in found.values() if getattr(event, "item", 0) in items]
        # The ends of processes, and the events before these.
        found |= history.events_at(
            {*facts.process_seqs, *(seq - 1 for seq in facts.process_seqs), facts.last_seq} - {0}
        )
        told.tell([found[seq] for seq in sorted(found)])
        with suppress(*MISFITS):
            told.record = Record(history, told.apply, folds=folds, again=again)
            if told.record.items.row_of(item) is not None:
                return told
    history.rewind()
    return None


def _announced(history: History, recording: Recording, item: int) -> list[ItemEnqueued] | None:
    """Return the announcements of an item and of those ancestors of it that have ended, from the item upwards.

    Returns none if it was announced later, and None if they are too many or not found.
    """
    chain: list[ItemEnqueued] = []
    while ROOT < item <= recording.facts.last_id and not (chain and recording.is_live(item)):
        found = history.announcement_of(item, recording.facts.last_seq)
        if found is None or len(chain) == _MAX_ENDED:
            return None
        chain.append(found)
        item = found.parent
    return chain


class _Explained(NamedTuple):
    """An item as it is explained: its row and those of its ancestors, texts that are shown, its story, children and outlook."""

    record: Record
    row: int
    ancestors: list[int]
    texts: dict[int, ItemTexts]
    story: Story
    chapters: list[Chapter]
    children: Counter[tuple[str, State]]
    outlook: str


def _held_by(history: History, live: RecordedItem) -> Iterator[int]:
    """Yield the numbers of the ancestors that a live item has references to."""
    for event in history.events_at([live.state_seq or live.enqueued_seq]).values():
        if isinstance(event, ItemEnqueued | ItemAdopted | ItemCompleted):
            yield from references(bytes(event.payload))


def _ancestors(record: Record, row: int) -> list[int]:
    """Return the rows of its ancestors, the initial item first."""
    rows: list[int] = []
    parent = record.items.parent_row[row]
    while parent >= 0:
        rows.append(parent)
        parent = record.items.parent_row[parent]
    rows.reverse()
    return rows


def _printed(one: _Explained, run: str, *, with_history: bool) -> list[RenderableType]:
    record, items = one.record, one.record.items
    item = items.item_of(one.row)
    state = _screen.state_text(items.state_of(one.row))
    parts: list[RenderableType] = [
        Text.assemble((f"item {item}", "bold"), f"   {record.name_of(one.row)}   ", state),
    ]
    if label := one.texts[one.row].label:
        parts.append(_screen.indented(_screen.text(label)))
    if with_history:
        parts += ["", _screen.heading("History"), *_story_parts(one.chapters, one.story)]
    rows: list[tuple[str, RenderableType]] = [("Path", _path(one))]
    if not with_history:
        history = record.command("explain", str(item), "--history", *(["--run", run] if run else []))
        rows.append(("Attempts", _attempts(one, history)))
    if waited := _waited(one):
        rows.append(("Waited", Text(waited)))
    if one.children:
        rows.append(("Children", Text(_children(one))))
    is_running = record.state.name == "running"
    said = one.outlook if is_running else one.outlook.removeprefix("On resume ")
    rows.append(("Now" if is_running else "On resume", Text(f"{said[0].lower()}{said[1:]}")))
    return [*parts, "", _screen.definition_list(rows)]


def _path(one: _Explained) -> Text:
    """Return from which initial item it comes, and how."""
    if not one.ancestors:
        return Text("an initial item")
    steps: list[Text] = []
    for row in _shown(one.ancestors):
        step = Text.assemble(one.record.name_of(row), f" {one.record.items.item_of(row)}")
        if label := one.texts[row].label:
            step.append(f" ({visible(label, _MAX_LABEL_CHARS)})", "dim")
        steps.append(step)
    if left_out := len(one.ancestors) - len(steps):
        steps.insert(_MAX_ANCESTORS // 2, Text(f"… {amount(left_out)} more", "dim"))
    return Text(" › ").join(  # noqa: RUF001  # a path, as people know it from web pages
        [*steps, Text("this")]
    )


def _shown(ancestors: list[int]) -> list[int]:
    """Return those that are named: of a long chain its two ends."""
    half = _MAX_ANCESTORS // 2
    return ancestors if len(ancestors) <= _MAX_ANCESTORS else [*ancestors[:half], *ancestors[-half:]]


def _attempts(one: _Explained, history: str) -> RenderableType:
    """Return a line for each attempt and what else was done to the item; `history` is the command that shows all of it."""
    acts = acts_of(one.chapters, one.record.until)
    if not acts:
        enqueued_at = one.record.items.enqueued_at[one.row]
        return Text(f"none yet, enqueued at {local_minute(enqueued_at, one.record.now)}")
    half = _MAX_ACTS // 2
    parts = [acts] if len(acts) <= _MAX_ACTS else [acts[:half], acts[-half:]]
    shown = [act for part in parts for act in part]
    is_of_today = {_screen.local_time(at)[:10] for at in [one.record.now, *(act.at for act in shown)]}
    begin = 11 if len(is_of_today) == 1 else 5
    numbers = max(len(act.number) for act in shown)
    outcomes = max((_styled(act.what).cell_len for act in shown if act.error is not None), default=0)
    rows: list[tuple[str, RenderableType]] = []
    for part in parts:
        if rows:
            more = len(acts) - len(shown)
            left_out = f", and {amount(one.story.left_out)} events" if one.story.left_out else ""
            rows.append(("", Text(f"… {amount(more)} more{left_out}", "dim")))
        before = ""
        for act in part:
            line, at = _styled(act.what), _screen.local_time(act.at)[begin:]
            if act.error is not None:
                said, where = _screen.error_summary(act.error.type, act.error.message), _place(act.error)
                line.pad_right(outcomes - line.cell_len + _GAP_CELLS)
                line.append("the same error" if said + where == before else said)
                line.append(f"{' ' * _GAP_CELLS}{where}" if where and said + where != before else "", "dim")
                before = said + where
            rows.append((f"{act.number:{numbers}}  {at}" if numbers else at, line))
    if len(parts) > 1 or any(act.error is not None and act.error.traceback for act in shown):
        rows.append(("", Text(f"every event, with tracebacks: {history}", "dim")))
    return _screen.definition_list(rows, 0)


def _place(error: ErrorInfo) -> str:
    """Return where in the user's code it was raised, safe to show; empty if that isn't known."""
    frames = user_frames(error.traceback)
    return visible(place(frames[-1]), _MAX_TEXT_CHARS) if frames else ""


def _waited(one: _Explained) -> str:
    group = one.story.group
    limit = one.record.view.limits.get(group) if group is not None else None
    of_limit = f" ({visible(limit.group, 200)}: {limit_words(limit.concurrent, limit.per_second)})" if limit else ""
    words: dict[WaitReason, str] = {
        "queue": f"in the queue{of_limit}",
        "retry": "to retry",
        "paused": "paused",
        "no_process": "while no process ran",
    }
    waits_s = one.story.waits_s
    return ", ".join(f"{duration(waits_s[reason])} {said}" for reason, said in words.items() if waits_s[reason])


def _children(one: _Explained) -> str:
    counts: Counter[State] = Counter()
    for (_, state), count in one.children.items():
        counts[state] += count
    return ", ".join(f"{amount(count)} {_lists.title_of(state)}" for state, count in counts.most_common())


def _story_parts(chapters: list[Chapter], story: Story) -> list[RenderableType]:
    rows: list[tuple[str, RenderableType]] = []
    day = shown = ""
    for chapter in chapters:
        today = _screen.local_time(chapter.at)[:10]
        if today != day:
            day = today
            rows.append((day, Text()))
        rows.append((_screen.time_of_day(chapter.at), _styled(words_of(chapter))))
        error = getattr(chapter.event, "error", None)
        if error is not None and error.traceback:
            is_new = error.traceback != shown
            rows.append(
                (
                    "",
                    _screen.traceback_lines(error.traceback, "dim") if is_new else _screen.remark("the same traceback"),
                )
            )
            shown = error.traceback
    parts = [_screen.definition_list(rows)]
    if story.left_out:
        parts.append(_screen.remark(f"{amount(story.left_out)} events in the middle left out"))
    if story.wait_s or story.work_s:
        parts.append(
            _screen.remark(f"in total {duration(story.work_s)} running, {duration(story.wait_s)} waiting to start")
        )
    return parts


def _styled(parts: Iterable[Part]) -> Text:
    """Return parts of what an event says, safe to show."""
    said = Text()
    for style, part in parts:
        said.append(visible(part, _MAX_TEXT_CHARS), _screen.STYLES[style])
    said.rstrip()
    return said


def _as_json(one: _Explained) -> dict[str, Any]:
    items = one.record.items
    return {
        **_lists.item_fields(one.record, one.row, one.texts[one.row]),
        "ancestors": [items.item_of(ancestor) for ancestor in one.ancestors],
        "story": [_chapter_as_json(chapter) for chapter in one.chapters],
        "story_left_out": one.story.left_out,
        "work_s": one.story.work_s,
        "wait_s": one.story.wait_s,
        "waits_s": dict(one.story.waits_s),
        "children": [{"type": type, "state": state, "count": count} for (type, state), count in one.children.items()],
        "outlook": one.outlook,
    }


def _chapter_as_json(chapter: Chapter) -> dict[str, Any]:
    error = getattr(chapter.event, "error", None)
    return {
        "at": chapter.at,
        "event": chapter.event.event if chapter.event is not None else "",
        "text": _styled(words_of(chapter)).plain,
        "error": msgspec.structs.asdict(error) if error is not None else None,
    }
