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
from aqueue._history.history import History
from aqueue._history.opening import open_history
from aqueue._history.record import MISFITS, ItemTexts, Record
from aqueue._history.selecting import Selector, rows_of
from aqueue._resume.plan import plan_of
from aqueue.cli import _app, _lists, _screen
from aqueue.cli._commands.tree import find_row
from aqueue.cli._formats.event_words import STYLES, details, name_of
from aqueue.cli._outlook import outlook
from aqueue.cli._story import Chapter, Story
from aqueue.events import (
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
from aqueue.figures import amount, duration
from aqueue.text import visible

__all__ = ["explain"]

_MAX_TEXT_CHARS: Final = 500
_MAX_ANCESTORS: Final = 20
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
@_app.run_option
@_app.json_option
def explain(file: str, item: str, run: str, as_json: bool) -> None:
    """Show the history of ITEM: what enqueued it, each attempt, each wait and each error.

    ITEM is a number, or else a key or a description, or a part of these or of an error's message that only one item has.

    Also shows the state of its children, and whether and why it will run when the run is resumed.
    """
    number = _number(file, item, run, as_json=as_json)
    history = _app.closed_at_end(open_history(file, run=run))
    told = _from_snapshot(history, number) or _from_all(history, number)
    record, story, recording = told.record, told.story, told.recording
    row = find_row(record, number)
    ancestors = _ancestors(record, row)
    texts = dict(record.texts([*ancestors, row]))
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
        list(story.chapters(record.view.at if is_lost else None, now)),
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
        _screen.print_lines(_printed(explained))
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
    """An item as it is explained: its row and those of its ancestors, their texts, its story, children and outlook."""

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


def _printed(one: _Explained) -> list[RenderableType]:
    record, items, ancestors = one.record, one.record.items, one.ancestors
    state = _screen.state_text(items.state_of(one.row))
    head = Text.assemble((f"Item {items.item_of(one.row)}", "bold"), f"  {record.name_of(one.row)}  ", state)
    parts: list[RenderableType] = [head]
    if label := one.texts[one.row].label:
        parts.append(_screen.indented(_screen.text(label)))
    if ancestors:
        parts += ["", _screen.heading("Ancestors")]
        left_out = max(len(ancestors) - _MAX_ANCESTORS, 0)
        for ancestor in ancestors[: _MAX_ANCESTORS // 2] + ancestors[_MAX_ANCESTORS // 2 + left_out :]:
            parts.append(_ancestor(record, ancestor, one.texts[ancestor]))
        if left_out:
            parts.append(_screen.remark(f"{amount(left_out)} more in between"))
    parts += ["", _screen.heading("History"), *_story_parts(one.chapters, one.story)]
    if one.children:
        total = amount(sum(one.children.values()))
        parts += ["", _screen.heading("Children", total), _lists.items_by_state(record, one.children)]
    when = "Now" if record.state.name == "running" else "Outlook"
    return [*parts, "", _screen.heading(when), _screen.indented(Text(one.outlook))]


def _ancestor(record: Record, row: int, texts: ItemTexts) -> RenderableType:
    state = _screen.state_text(record.items.state_of(row))
    line = Text.assemble(record.name_of(row), (f" {record.items.item_of(row)} ", "dim"), state)
    if texts.label:
        line.append("  ").append_text(_screen.text(texts.label, max_chars=200))
    return _screen.indented(line)


def _story_parts(chapters: list[Chapter], story: Story) -> list[RenderableType]:
    rows: list[tuple[str, RenderableType]] = []
    day = shown = ""
    for chapter in chapters:
        today = _screen.local_time(chapter.at)[:10]
        if today != day:
            day = today
            rows.append((day, Text()))
        rows.append((_screen.time_of_day(chapter.at), _words(chapter)))
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


def _words(chapter: Chapter) -> Text:
    """Return what happened, in the words of `aqueue tail`, with what the rest of the story adds."""
    if chapter.event is None:
        return Text(", ".join(chapter.facts), style=STYLES["warning"])
    style, name = name_of(chapter.event)
    parts = details(chapter.event)
    said = Text(name, style=STYLES[style])
    said.append(f" {', '.join(chapter.facts)}" if chapter.facts else "")
    said.append(", " if chapter.facts and any(part for _, part in parts) else " ")
    for style, part in parts:
        said.append(visible(part, _MAX_TEXT_CHARS), STYLES[style])
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
        "children": [{"type": type, "state": state, "count": count} for (type, state), count in one.children.items()],
        "outlook": one.outlook,
    }


def _chapter_as_json(chapter: Chapter) -> dict[str, Any]:
    error = getattr(chapter.event, "error", None)
    return {
        "at": chapter.at,
        "event": chapter.event.event if chapter.event is not None else "",
        "text": _words(chapter).plain,
        "error": msgspec.structs.asdict(error) if error is not None else None,
    }
