"""``aqueue tree``: shows the items as a tree with counts, with large parts folded."""

from typing import Any

import click
import msgspec
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text
from rich.tree import Tree

from aqueue._folds.tree_shape import CountsBelow, FoldedSiblings, TreeShape
from aqueue.cli import _app, _lists, _screen
from aqueue.cli._record import ItemTexts, Record, TreeCut, cut_tree, read_record
from aqueue.figures import amount

__all__ = ["find_row", "tree"]

_MAX_DEPTH = 50
_MIN_WORDS_CELLS = 16
"""How much of an item's words is shown before the sums behind them."""


@_app.command(
    "Show the items as a tree, with counts.",
    "aqueue tree run.db",
    "aqueue tree run.db 17 --depth 5",
    "aqueue tree run.db --width 30",
)
@click.argument("item", metavar="[ITEM]", type=_app.WholeNumber(1), required=False)
@click.option(
    "--depth",
    metavar="N",
    type=_app.WholeNumber(0, _MAX_DEPTH),
    default=3,
    show_default=True,
    help=f"How many levels below the top, {_MAX_DEPTH} at most.",
)
@click.option(
    "--width",
    metavar="N",
    type=_app.WholeNumber(1, 10_000),
    default=10,
    show_default=True,
    help="How many children of an item are shown one by one; the others are counted by type.",
)
@_app.run_option
@_app.json_option
def tree(file: str, item: int | None, depth: int, width: int, run: str, as_json: bool) -> None:
    """Show the items as a tree, from the initial items or from ITEM, a number.

    Of many siblings those are shown first that have failed or have a failure below them, then those that are running.
    """
    record = read_record(file, run)
    shape = TreeShape(record.items)
    top = None if item is None else find_row(record, item)
    cuts = cut_tree(shape, top, depth, width)
    wanted = {row for cut in cuts.values() for row in cut.children} | ({top} if top is not None else set())
    texts = dict(record.texts(sorted(wanted)))
    if as_json:
        _screen.print_json(_as_json(record, shape, cuts, texts, top))
    else:
        _screen.print_lines(_drawn(record, shape, cuts, texts, top))
    _app.finish(record.history)


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


def _drawn(
    record: Record,
    shape: TreeShape,
    cuts: dict[int, TreeCut],
    texts: dict[int, ItemTexts],
    top: int | None,
) -> list[RenderableType]:
    if top is None:
        label = _Label(
            Text(record.history.name, "bold"), sums=_sums(_of_run(record), "in all") if len(record.items) else ""
        )
    else:
        label = _label(record, shape, texts[top], top, is_cut=top not in cuts)
    root = Tree(label, guide_style="dim")
    pending: list[tuple[Tree, int]] = [(root, -1 if top is None else top)]
    while pending:
        branch, row = pending.pop()
        cut = cuts.get(row)
        if cut is None:
            continue
        for child in cut.children:
            is_cut = child not in cuts and shape.below(child).total > 0
            pending.append((branch.add(_label(record, shape, texts[child], child, is_cut=is_cut)), child))
        for folded in cut.folded:
            branch.add(_folded_label(record, folded))
    parts: list[RenderableType] = [root]
    if not len(record.items):
        parts.append(_screen.remark("no items yet"))
    return parts


class _Label:
    """What stands at a branch: an item, what is known of it in words, and the sums of what is below it.

    On a narrow terminal the words are cut, never a number: the sums get a line of their own where they must.
    """

    def __init__(self, head: Text, words: Text | None = None, sums: str = "") -> None:
        self._head = head
        self._words = words or Text()
        self._sums = Text(f"  {sums}" if sums else "", style="dim")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.max_width
        left = room - self._head.cell_len - self._sums.cell_len
        is_split = left < min(self._words.cell_len, _MIN_WORDS_CELLS)
        if is_split:
            left = room - self._head.cell_len
        words = self._words.copy()
        words.truncate(max(left, 0), overflow="ellipsis")
        line = self._head + words
        if is_split:
            yield from line.wrap(console, room, overflow="fold")
            if self._sums:
                yield from self._sums[2:].wrap(console, room)
        else:
            line.append_text(self._sums)
            yield from line.wrap(console, room, overflow="fold")


def _label(record: Record, shape: TreeShape, texts: ItemTexts, row: int, *, is_cut: bool) -> _Label:
    items = record.items
    state = items.state_of(row)
    head = Text.assemble((record.name_of(row), "bold"), (f" {items.item_of(row)} ", "dim"), _screen.state_text(state))
    words = Text()
    if state == "failed" and texts.failure is not None:
        words.append(
            f" {_screen.error_summary(texts.failure.error.type, texts.failure.error.message, 200)}", style="red"
        )
    if texts.label:
        words.append("  ").append_text(_screen.text(texts.label, max_chars=200))
    below = shape.below(row)
    return _Label(head, words, f"{'… ' if is_cut else ''}{_sums(below)}" if below.total else "")


def _folded_label(record: Record, folded: FoldedSiblings) -> _Label:
    name = record.names[folded.type]
    sums = _states(folded.count, folded.completed, folded.failed)
    if folded.below:
        sums += f", {amount(folded.below)} below them"
    return _Label(Text(f"+{amount(folded.count)} {name}"), sums=sums)


def _sums(below: CountsBelow, where: str = "below") -> str:
    return f"{amount(below.total)} {where}: {_states(below.total, below.completed, below.failed)}"


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
    record: Record, shape: TreeShape, cuts: dict[int, TreeCut], texts: dict[int, ItemTexts], top: int | None
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


def _of_run(record: Record) -> CountsBelow:
    counts = record.view.counts
    return CountsBelow(counts.enqueued, counts.completed, counts.failed)


def _node(record: Record, shape: TreeShape, texts: ItemTexts, row: int) -> dict[str, Any]:
    return {**_lists.item_fields(record, row, texts), "below": msgspec.structs.asdict(shape.below(row))}
