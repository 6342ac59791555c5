"""``aqueue tree``: the items as a tree with counts, in which what is large is folded."""

from typing import Any

import click
import msgspec
from rich.console import RenderableType
from rich.text import Text
from rich.tree import Tree

from aqueue.cli._app import app, as_json, examples, file_argument, finish, of_run
from aqueue.cli._folds.record import ItemTexts, Record
from aqueue.cli._folds.tree_shape import Below, Folded, TreeShape
from aqueue.cli._reading.opening import open_history
from aqueue.cli._screen import STATE_STYLES, note, print_json, print_lines, raised, text
from aqueue.figures import amount

__all__ = ["find_row", "tree"]

_MAX_DEPTH = 50
_MAX_SHOWN = 20_000


class _Cut(msgspec.Struct):
    """What is shown of one item's children: some of them, and sums of the others."""

    children: list[int]
    folded: list[Folded]


@app.command(
    short_help="Show the items as a tree, with counts.",
    epilog=examples("aqueue tree run.db", "aqueue tree run.db 17 --depth 5", "aqueue tree run.db --width 30"),
)
@file_argument
@click.argument("item", type=click.IntRange(min=1), required=False)
@click.option(
    "--depth",
    metavar="N",
    type=click.IntRange(0, _MAX_DEPTH),
    default=3,
    show_default=True,
    help="How many levels below the top.",
)
@click.option(
    "--width",
    metavar="N",
    type=click.IntRange(1, 10_000),
    default=10,
    show_default=True,
    help="How many children of an item are shown one by one; the others are counted by type.",
)
@of_run
@as_json
def tree(file: str, item: int | None, depth: int, width: int, run: str, as_json: bool) -> None:
    """Show the items as a tree, from the initial items or from ITEM, a number.

    Of many siblings those are shown first that have failed or have a failure below them, then those that are running.
    """
    record = Record(open_history(file, run=run))
    shape = TreeShape(record.items)
    top = None if item is None else find_row(record, item)
    cuts = _cut(shape, top, depth, width)
    wanted = {row for cut in cuts.values() for row in cut.children} | ({top} if top is not None else set())
    texts = dict(record.texts(sorted(wanted)))
    if as_json:
        print_json(_as_json(record, shape, cuts, texts, top))
    else:
        print_lines(_drawn(record, shape, cuts, texts, top))
    finish(record.history)


def find_row(record: Record, item: int) -> int:
    """Return the row of an item that a person named.

    Raises:
        click.UsageError: there is none of that number.
    """
    row = record.items.row_of(item)
    if row is None:
        size = len(record.items)
        what = (
            f"its items are {record.items.item_of(0)} to {record.items.item_of(size - 1)}"
            if size
            else "it has no items"
        )
        raise click.UsageError(f"ITEM: {record.history.name} has no item {item}; {what}")
    return row


def _cut(shape: TreeShape, top: int | None, depth: int, width: int) -> dict[int, _Cut]:
    """Return what to show below each shown item, level by level; -1 stands for what is above the initial items."""
    first = -1 if top is None else top
    cuts: dict[int, _Cut] = {}
    level = [first]
    shown = 0
    for _ in range(depth + (top is None)):
        deeper: list[int] = []
        for row in level:
            siblings = shape.roots if row < 0 else list(shape.children(row))
            if siblings and shown < _MAX_SHOWN:
                cuts[row] = _Cut(*shape.folded(siblings, width))
                deeper += cuts[row].children
                shown += len(cuts[row].children)
        level = deeper
    return cuts


def _drawn(
    record: Record,
    shape: TreeShape,
    cuts: dict[int, _Cut],
    texts: dict[int, ItemTexts],
    top: int | None,
) -> list[RenderableType]:
    if top is None:
        label = Text.assemble((record.history.name, "bold"), (f"  {_sums(_of_run(record))}", "dim"))
    else:
        label = _label(record, shape, texts[top], top, is_cut=top not in cuts)
    root = Tree(_on_one_line(label), guide_style="dim")
    pending: list[tuple[Tree, int]] = [(root, -1 if top is None else top)]
    while pending:
        branch, row = pending.pop()
        cut = cuts.get(row)
        if cut is None:
            continue
        for child in cut.children:
            is_cut = child not in cuts and shape.below(child).total > 0
            pending.append((branch.add(_on_one_line(_label(record, shape, texts[child], child, is_cut=is_cut))), child))
        for folded in cut.folded:
            branch.add(_on_one_line(_folded_label(record, folded)))
    parts: list[RenderableType] = [root]
    if not len(record.items):
        parts.append(note("no items yet"))
    return parts


def _on_one_line(label: Text) -> Text:
    """Let a narrow terminal cut a label rather than break the tree."""
    label.no_wrap = True
    label.overflow = "ellipsis"
    return label


def _label(record: Record, shape: TreeShape, texts: ItemTexts, row: int, *, is_cut: bool) -> Text:
    items = record.items
    state = items.state_of(row)
    label = Text.assemble(
        (record.name_of(row), "bold"), (f" {items.item_of(row)} ", "dim"), (state, STATE_STYLES[state] or "dim")
    )
    if state == "failed" and texts.failure is not None:
        label.append(f" {raised(texts.failure.error.type, texts.failure.error.message, 200)}", style="red")
    if texts.label:
        label.append("  ").append_text(text(texts.label, max_chars=200))
    below = shape.below(row)
    if below.total:
        label.append(f"  {'… ' if is_cut else ''}{_sums(below)}", style="dim")
    return label


def _folded_label(record: Record, folded: Folded) -> Text:
    name = record.names[folded.type]
    sums = _states(folded.count, folded.completed, folded.failed)
    label = Text.assemble((f"+{amount(folded.count)} {name}", ""), (f"  {sums}", "dim"))
    if folded.below:
        label.append(f", {amount(folded.below)} below them", style="dim")
    return label


def _sums(below: Below) -> str:
    return f"{amount(below.total)} below: {_states(below.total, below.completed, below.failed)}"


def _states(total: int, completed: int, failed: int) -> str:
    outstanding = total - completed - failed
    parts = [f"{amount(completed)} completed"] if completed == total else []
    if not parts:
        parts = [
            f"{amount(count)} {word}"
            for count, word in ((completed, "completed"), (failed, "failed"), (outstanding, "outstanding"))
            if count
        ]
    return ", ".join(parts)


def _as_json(
    record: Record, shape: TreeShape, cuts: dict[int, _Cut], texts: dict[int, ItemTexts], top: int | None
) -> dict[str, Any]:
    first: dict[str, Any] = (
        {"item": 0, "below": msgspec.structs.asdict(_of_run(record))}
        if top is None
        else _node(record, shape, texts[top], top)
    )
    pending: list[tuple[dict[str, Any], int]] = [(first, -1 if top is None else top)]
    while pending:
        node, row = pending.pop()
        cut = cuts.get(row)
        if cut is None:
            continue
        node["children"] = [_node(record, shape, texts[child], child) for child in cut.children]
        node["folded"] = [msgspec.structs.asdict(folded) for folded in cut.folded]
        pending += zip(node["children"], cut.children, strict=True)
    return first


def _of_run(record: Record) -> Below:
    counts = record.view.counts
    return Below(counts.enqueued, counts.completed, counts.failed)


def _node(record: Record, shape: TreeShape, texts: ItemTexts, row: int) -> dict[str, Any]:
    return {
        "item": record.items.item_of(row),
        "type": record.items.type_of(row),
        "state": record.items.state_of(row),
        "key": texts.key,
        "description": texts.description,
        "error": msgspec.structs.asdict(texts.failure.error)
        if texts.failure is not None and record.items.state_of(row) == "failed"
        else None,
        "below": msgspec.structs.asdict(shape.below(row)),
    }
