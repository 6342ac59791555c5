"""``aqueue explain``: shows the history of one item, and what resuming the run would do with it."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import click
import msgspec
from rich.console import RenderableType
from rich.text import Text

from aqueue._codec.item_codec import references
from aqueue._folds.item_table import STATES, State
from aqueue._folds.recording import RecordedItem, Recording
from aqueue._folds.tree_shape import TreeShape
from aqueue._history.history import History
from aqueue._history.opening import open_history
from aqueue._resume.plan import plan_of
from aqueue.cli._app import WholeNumber, app, closed_at_end, examples, file_argument, finish, json_option, run_option
from aqueue.cli._commands.tree import find_row
from aqueue.cli._formats.event_words import STYLES, details, name_of
from aqueue.cli._outlook import outlook
from aqueue.cli._record import ItemTexts, Record
from aqueue.cli._screen import (
    STATE_STYLES,
    Column,
    definition_list,
    heading,
    indented,
    local_time,
    print_json,
    print_lines,
    remark,
    table,
    text,
    time_of_day,
    traceback_lines,
)
from aqueue.cli._story import Chapter, Story
from aqueue.events import Event, ItemAdopted, ItemCompleted, ItemEnqueued
from aqueue.figures import amount, duration
from aqueue.text import visible

__all__ = ["explain"]

_MAX_TEXT_CHARS: Final = 500
_MAX_ANCESTORS: Final = 20
_MAX_TYPES: Final = 20


@app.command(
    short_help="Tell the whole story of one item.",
    epilog=examples(
        "aqueue explain run.db 17",
        "aqueue explain run.db 17 --json | jq -r .outlook",
    ),
)
@file_argument
@click.argument("item", metavar="ITEM", type=WholeNumber(1))
@run_option
@json_option
def explain(file: str, item: int, run: str, as_json: bool) -> None:
    """Tell the whole story of ITEM, a number: who enqueued it, each attempt, each wait, and what it raised.

    And how its children stand, and why it will or won't run when the run is resumed.
    """
    history = closed_at_end(open_history(file, run=run))
    story = Story(item)
    recording = Recording() if history.is_journal else None

    def apply(events: list[Event]) -> None:
        nonlocal recording
        story.apply(events)
        if recording is not None:
            try:
                recording.apply(events)
            except KeyError:  # a stranger's journal, which a resume refuses
                recording = None

    record = Record(history, apply)
    if recording is not None:
        recording.end()
    row = find_row(record, item)
    ancestors = _ancestors(record, row)
    texts = dict(record.texts([*ancestors, row]))
    shape = TreeShape(record.items)
    plan = None if recording is None else plan_of(recording, holds=partial(_held_by, history))
    why = outlook(record, shape, recording, plan, row)
    is_lost = record.state.name == "interrupted" and record.view.state != "finished"
    now = record.now if record.state.name == "running" else None
    chapters = list(story.chapters(record.view.at if is_lost else None, now))
    children = _children(record, shape, row)
    if as_json:
        print_json(_as_json(record, row, ancestors, texts[row], chapters, story, children, why))
    else:
        print_lines(_screen(record, row, ancestors, texts, chapters, story, children, why))
    finish(history)


def _held_by(history: History, live: RecordedItem) -> Iterator[int]:
    """Yield the numbers of the ancestors that a live item holds."""
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


def _children(record: Record, shape: TreeShape, row: int) -> Counter[tuple[int, State]]:
    """Return how many children of each type, by its index, are in each state."""
    items = record.items
    return Counter((items.type_number[child], items.state_of(child)) for child in shape.children(row))


def _screen(
    record: Record,
    row: int,
    ancestors: list[int],
    texts: dict[int, ItemTexts],
    chapters: list[Chapter],
    story: Story,
    children: Counter[tuple[int, State]],
    why: str,
) -> list[RenderableType]:
    items = record.items
    state = items.state_of(row)
    parts: list[RenderableType] = [
        Text.assemble(
            (f"Item {items.item_of(row)}", "bold"), f"  {record.name_of(row)}  ", (state, STATE_STYLES[state] or "dim")
        )
    ]
    if texts[row].label:
        parts.append(indented(text(texts[row].label)))
    if ancestors:
        parts += ["", heading("Where it comes from")]
        left_out = max(len(ancestors) - _MAX_ANCESTORS, 0)
        for ancestor in ancestors[: _MAX_ANCESTORS // 2] + ancestors[_MAX_ANCESTORS // 2 + left_out :]:
            parts.append(_ancestor(record, ancestor, texts[ancestor]))
        if left_out:
            parts.append(remark(f"{amount(left_out)} more between them"))
    parts += ["", heading("What happened"), *_story_parts(chapters, story)]
    if children:
        total = sum(children.values())
        parts += ["", heading("Its children", amount(total)), _children_table(record, children)]
    parts += [
        "",
        heading("When the run is resumed" if record.state.name != "running" else "Now"),
        indented(Text(why)),
    ]
    return parts


def _ancestor(record: Record, row: int, texts: ItemTexts) -> RenderableType:
    items = record.items
    state = items.state_of(row)
    line = Text.assemble(record.name_of(row), (f" {items.item_of(row)} ", "dim"), (state, STATE_STYLES[state] or "dim"))
    if texts.label:
        line.append("  ").append_text(text(texts.label, max_chars=200))
    return indented(line)


def _story_parts(chapters: list[Chapter], story: Story) -> list[RenderableType]:
    rows: list[tuple[str, RenderableType]] = []
    day = ""
    for chapter in chapters:
        today = local_time(chapter.at)[:10]
        if today != day:
            day = today
            rows.append((day, Text()))
        rows.append((time_of_day(chapter.at), _words(chapter)))
        error = getattr(chapter.event, "error", None)
        if error is not None and error.traceback:
            rows.append(("", traceback_lines(error.traceback, "dim")))
    parts = [definition_list(rows)]
    if story.left_out:
        parts.append(remark(f"{amount(story.left_out)} events in the middle are left out"))
    if story.wait_s or story.work_s:
        parts.append(
            remark(f"in all {duration(story.work_s)} of work, and {duration(story.wait_s)} of waiting to be started")
        )
    return parts


def _words(chapter: Chapter) -> Text:
    """Return what happened, as `aqueue tail` says it, and what the rest of the story tells about it."""
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


def _children_table(record: Record, children: Counter[tuple[int, State]]) -> RenderableType:
    states = [state for state in STATES if any(found == state for _, found in children)]
    numbers = sorted({number for number, _ in children})[:_MAX_TYPES]
    columns = [Column("type", may_shrink=True), *(Column(state, is_number=True) for state in states)]
    rows: list[list[Text | str]] = [
        [
            record.names[record.items.types[number]],
            *(
                Text(amount(children[number, s]), style=STATE_STYLES[s] if children[number, s] else "dim")
                for s in states
            ),
        ]
        for number in numbers
    ]
    return table(columns, rows)


def _as_json(
    record: Record,
    row: int,
    ancestors: list[int],
    texts: ItemTexts,
    chapters: list[Chapter],
    story: Story,
    children: Counter[tuple[int, State]],
    why: str,
) -> dict[str, Any]:
    items = record.items
    return {
        "item": items.item_of(row),
        "type": items.type_of(row),
        "key": texts.key,
        "description": texts.description,
        "state": items.state_of(row),
        "ancestors": [items.item_of(ancestor) for ancestor in ancestors],
        "story": [_chapter_as_json(chapter) for chapter in chapters],
        "story_left_out": story.left_out,
        "work_s": story.work_s,
        "wait_s": story.wait_s,
        "children": [
            {"type": items.types[number], "state": state, "count": count} for (number, state), count in children.items()
        ],
        "outlook": why,
    }


def _chapter_as_json(chapter: Chapter) -> dict[str, Any]:
    error = getattr(chapter.event, "error", None)
    return {
        "at": chapter.at,
        "event": chapter.event.event if chapter.event is not None else "",
        "text": _words(chapter).plain,
        "error": msgspec.structs.asdict(error) if error is not None else None,
    }
