"""``aqueue tree``: shows the items as a tree with counts, with large parts folded."""

from typing import Any, NamedTuple

import click
import msgspec
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text
from rich.tree import Tree

from aqueue._folds.tree_shape import CountsBelow, TreeShape
from aqueue._history.record import ItemTexts, Record
from aqueue.cli import _app, _lists, _screen
from aqueue.cli._record import TreeCut, cut_tree, read_record
from aqueue.figures import amount

__all__ = ["find_row", "tree"]

_MAX_DEPTH = 50
_MAX_WIDTH = 10_000
_DEPTH = 3
_WIDTH = 10

_MIN_WORDS_CELLS = 16
"""How much of an item's words is shown before the sums behind them."""


@_app.command(
    "Show the items as a tree, with counts.",
    "aqueue tree run.db",
    "aqueue tree run.db 17 --depth 5",
    "aqueue tree run.db --all",
)
@click.argument("item", metavar="[ITEM]", type=_app.WholeNumber(1), required=False)
@click.option(
    "--depth",
    metavar="N",
    type=_app.WholeNumber(0, _MAX_DEPTH),
    help=f"Show N levels below the top, {_MAX_DEPTH} at most.  [default: {_DEPTH}, in about 20 lines]",
)
@click.option(
    "--width",
    metavar="N",
    type=_app.WholeNumber(1, _MAX_WIDTH),
    help=f"Show at most N children of each item; the others are counted by type.  [default: {_WIDTH}]",
)
@click.option("--all", "show_all", is_flag=True, help="Show all levels and all children.")
@_app.run_option
@_app.json_option
def tree(
    file: str, item: int | None, depth: int | None, width: int | None, show_all: bool, run: str, as_json: bool
) -> None:
    """Show the items as a tree, from the initial items down, or from ITEM, a number.

    If an item has many children, those that failed or have a failure below them come first, then those with something
    running, then those with something outstanding. Without options, the tree opens branches in this order, in about 20
    lines, and counts completed items by type where there are others to show.
    """
    record = read_record(file, run)
    shape = TreeShape(record.items)
    top = None if item is None else find_row(record, item)
    brief = depth is None and width is None and not show_all and not as_json
    depth, width = (_MAX_DEPTH, _MAX_WIDTH) if show_all else (depth, width)
    cuts = cut_tree(
        shape,
        top,
        _DEPTH if depth is None else depth,
        _WIDTH if width is None else width,
        brief=brief,
    )
    wanted = {row for cut in cuts.values() for row in cut.children} | ({top} if top is not None else set())
    shown = _Shown(record, shape, cuts, dict(record.texts(sorted(wanted))))
    first = -1 if top is None else top
    if as_json:
        _screen.print_json(shown.node(first))
    else:
        root = Tree(shown.label(first), guide_style="dim")
        shown.draw(root, first)
        _screen.print_lines([root] if len(record.items) else [root, _screen.remark("no items yet")])
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


class _Label:
    """The label of a branch: an item, its description or error, and the sums of what is below it.

    On a narrow terminal the words are cut, never a number: the line is wrapped where it must.
    """

    def __init__(self, head: Text, words: Text | None = None, sums: str = "") -> None:
        self._head = head
        self._words = words or Text()
        self._sums = Text(f"  {sums}" if sums else "", style="dim")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        words = self._words.copy()
        left = options.max_width - self._head.cell_len - self._sums.cell_len
        words.truncate(max(left, _MIN_WORDS_CELLS), overflow="ellipsis")
        yield from (self._head + words + self._sums).wrap(console, options.max_width, overflow="fold")


class _Shown(NamedTuple):
    """The part of a tree that is shown, at most 50 levels deep. The row -1 stands for the run, above its initial items."""

    record: Record
    shape: TreeShape
    cuts: dict[int, TreeCut]
    texts: dict[int, ItemTexts]

    def below(self, row: int) -> CountsBelow:
        """Return how many items are below the one in `row`."""
        if row >= 0:
            return self.shape.below(row)
        counts = self.record.view.counts
        return CountsBelow(counts.enqueued, counts.completed, counts.failed, counts.skipped)

    def draw(self, branch: Tree, row: int) -> None:
        """Add what is below the item in `row` to its branch."""
        if (cut := self.cuts.get(row)) is None:
            return
        for child in cut.children:
            self.draw(branch.add(self.label(child)), child)
        for folded in cut.folded:
            sums = _states(CountsBelow(folded.count, folded.completed, folded.failed, folded.skipped))
            below = f", {amount(folded.below)} below them" if folded.below else ""
            name = Text(f"+{amount(folded.count)} {self.record.names[folded.type]}")
            branch.add(_Label(name, sums=f"{sums}{below}"))

    def label(self, row: int) -> _Label:
        """Return the label of the item in `row`."""
        below = self.below(row)
        sums = _states(below)
        if row < 0:
            total = f"{amount(below.total)} in total: {sums}" if below.total else ""
            return _Label(Text(self.record.history.name, "bold"), sums=total)
        items, texts = self.record.items, self.texts[row]
        state = items.state_of(row)
        head = Text.assemble((self.record.name_of(row), "bold"), (f" {items.item_of(row)} ", "dim"))
        head.append_text(_screen.state_text(state))
        words = Text()
        if state == "failed" and texts.failure is not None:
            error = texts.failure.error
            words.append(f" {_screen.error_summary(error.type, error.message, 200)}", style="red")
        if texts.label:
            words.append("  ").append_text(_screen.text(texts.label, max_chars=200))
        cut = "" if row in self.cuts else "… "
        return _Label(head, words, f"{cut}{amount(below.total)} below: {sums}" if below.total else "")

    def node(self, row: int) -> dict[str, Any]:
        """Return the item in `row` and what is below it as JSON has it."""
        fields = {"item": 0} if row < 0 else _lists.item_fields(self.record, row, self.texts[row])
        node = {**fields, "below": msgspec.structs.asdict(self.below(row))}
        if cut := self.cuts.get(row):
            node["children"] = [self.node(child) for child in cut.children]
            node["folded"] = [msgspec.structs.asdict(folded) for folded in cut.folded]
        return node


def _states(counts: CountsBelow) -> str:
    """Return how many items are in each state, leaving out states without any."""
    states = ("completed", "failed", "skipped", "outstanding")
    return ", ".join(f"{amount(count)} {state}" for state in states if (count := getattr(counts, state)))
