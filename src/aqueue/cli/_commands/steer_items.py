"""``aqueue retry``, ``skip`` and ``cancel``: commands on items of a run, live or not. They show what is selected, and ask."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import click
import msgspec

from aqueue import steering
from aqueue._folds.item_table import State
from aqueue._history.selecting import Selection, Selector, or_in_states
from aqueue._verbs import CANCELLED_STATES, RERUN_STATES, RETRIED_STATES, SKIPPED_STATES, Answer
from aqueue.cli import _app, _screen
from aqueue.cli._selector import selector_options
from aqueue.figures import amount
from aqueue.text import short_names, visible

__all__ = ["cancel", "retry", "skip"]

_MAX_TYPES: Final = 3
_MAX_TEXT_CHARS: Final = 200

_WHY_NOT: Final[Mapping[str, tuple[str, str]]] = {
    "queued": ("is queued", "are queued"),
    "running": ("is running", "are running"),
    "retrying": ("waits to be retried", "wait to be retried"),
    "interrupted": ("was interrupted", "were interrupted"),
    "completed": ("has completed", "have completed"),
    "failed": ("has failed", "have failed"),
    "skipped": ("was skipped", "were skipped"),
    "hook": (
        "is below an item whose hook is running: repeat the command once it has ended",
        "are below items whose hooks are running: repeat the command once they have ended",
    ),
    "cancelled": ("is being cancelled", "are being cancelled"),
    "cluster": ("runs in another process and can't be reached", "run in other processes and can't be reached"),
    "class": (
        "has a class that the program lacks, or that can't restore it",
        "have classes that the program lacks, or that can't restore them",
    ),
    "unknown": ("doesn't exist", "don't exist"),
}
"""Why a command doesn't apply to an item, and to several."""


class _Verb(NamedTuple):
    """What a person may do to items.

    Attributes:
        name: the verb.
        past: its past tense.
        states: the states in which it applies.
        effect: what becomes of an item: what follows "it will".
        runs_again: whether they run because of it, in a live run at once.
        runs_hooks: whether hooks of ancestors run because of it.
    """

    name: str
    past: str
    states: Sequence[State]
    effect: str
    runs_again: bool
    runs_hooks: bool


_Send = Callable[[Selection], Answer]


def _confirm_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of all commands on items; the function gets `is_sure` and `is_dry`."""
    function = click.option("--dry-run", "is_dry", is_flag=True, help="Only show what is selected.")(function)
    return click.option("-y", "--yes", "is_sure", is_flag=True, help="Don't ask.")(function)


@_app.command(
    "Run failed items again, and retrying ones at once.",
    "aqueue retry run.db 17 18",
    "aqueue retry run.db --state failed",
    "aqueue retry run.db --error TimeoutError --type Page --yes",
    "aqueue retry run.db --completed --type Page --subtree 4",
)
@selector_options
@click.option("--completed", is_flag=True, help="Run items again that have completed or were skipped, instead.")
@_confirm_options
@_app.json_option
@_app.via_option
def retry(file: str, selector: Selector, completed: bool, is_sure: bool, is_dry: bool, as_json: bool, via: str) -> None:
    """Run failed items again, with fresh attempts, and items that wait for a retry at once.

    Name the items by their numbers, or by options, all of which must hold. Hooks above them run once everything below has
    succeeded. With --completed, items that have completed run again: their results hold until then, and children that they
    enqueue again stay completed.
    """
    states = RERUN_STATES if completed else RETRIED_STATES
    effect = "run again; the result so far holds until then" if completed else "run again, with fresh attempts"
    verb = _Verb("retry", "retried", states, effect, runs_again=True, runs_hooks=True)
    _steer(
        *(file, selector, verb),
        lambda selection: steering.retry(file, selection, completed=completed, via=via),
        *(is_sure, is_dry, as_json),
    )


@_app.command(
    "Let failed or outstanding items count as successful.",
    "aqueue skip run.db 8112",
    "aqueue skip run.db --state failed --error HTTPStatusError",
    "aqueue skip run.db 8112 --result '{\"price\": 12}'",
)
@selector_options
@click.option("--result", metavar="JSON", help="Their result, for the hooks of their parents.  [default: none]")
@_confirm_options
@_app.json_option
@_app.via_option
def skip(
    file: str, selector: Selector, result: str | None, is_sure: bool, is_dry: bool, as_json: bool, via: str
) -> None:
    """Let items count as successful without running them: those that have failed or are outstanding.

    Name the items by their numbers, or by options, all of which must hold. Running ones are interrupted. Their own hooks don't
    run, and what they have enqueued does. Hooks above them run once everything below has succeeded.
    """
    value = _parsed(result)
    with_result = "without a result" if value is None else f"with the result {visible(str(result), _MAX_TEXT_CHARS)}"
    effect = f"count as successful {with_result}"
    verb = _Verb("skip", "skipped", SKIPPED_STATES, effect, runs_again=False, runs_hooks=True)
    _steer(
        *(file, selector, verb),
        lambda selection: steering.skip(file, selection, result=value, via=via),
        *(is_sure, is_dry, as_json),
    )


@_app.command(
    "Let outstanding items fail without running them.",
    "aqueue cancel run.db 17",
    "aqueue cancel run.db --group example.org --state queued",
    "aqueue cancel run.db --subtree 4 --yes",
)
@selector_options
@_confirm_options
@_app.json_option
@_app.via_option
def cancel(file: str, selector: Selector, is_sure: bool, is_dry: bool, as_json: bool, via: str) -> None:
    """Let items fail that are outstanding; running ones are cancelled. They stay failed until `aqueue retry`.

    Name the items by their numbers, or by options, all of which must hold. A running item that returns all the same has completed.
    """
    verb = _Verb(
        "cancel",
        "cancelled",
        CANCELLED_STATES,
        "fail, and stay failed until aqueue retry",
        runs_again=False,
        runs_hooks=False,
    )
    _steer(
        *(file, selector, verb),
        lambda selection: steering.cancel(file, selection, via=via),
        *(is_sure, is_dry, as_json),
    )


def _parsed(result: str | None) -> Any:
    try:
        return None if result is None else json.loads(result)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(
            f"--result: {visible(str(result), _MAX_TEXT_CHARS)!r} is not JSON ({visible(str(error), _MAX_TEXT_CHARS)}); text "
            "needs double quotes, as in '\"gone\"'"
        ) from error


def _steer(file: str, selector: Selector, verb: _Verb, send: _Send, is_sure: bool, is_dry: bool, as_json: bool) -> None:
    """Show what is selected, ask, send the command, and print what came of it."""
    if selector.is_empty:
        raise click.UsageError(
            "select something: numbers of items, --type, --state, --group, --error, --text, --key or --subtree"
        )
    if not (is_sure or is_dry or (sys.stdin is not None and sys.stdin.isatty())):
        raise click.UsageError(
            "standard input isn't a terminal, so nobody can be asked; add --yes, or --dry-run to see what is selected"
        )
    whole = steering.select(file, or_in_states(selector, verb.states))
    others = Counter[str](unknown=len(whole.unknown))
    others += Counter({str(state): len(numbers) for state, numbers in whole.items.items() if state not in verb.states})
    shown = whole
    if others:  # what is shown is about the others of them alone
        states = [state for state in verb.states if state in whole.items]
        shown = msgspec.structs.replace(whole, items={}, types={}, sample=None, hooks=0)
        shown = steering.select(file, msgspec.structs.replace(selector, states=states)) if states else shown
    if is_dry and as_json:
        _screen.print_json(_as_json(shown) | {"count": shown.count, "others": dict(others)})
        return
    if shown.count and not (is_sure and as_json):
        for line in _preview(shown, others, verb):
            click.echo(line, err=as_json)
    if is_dry and shown.count:
        return
    if shown.count and not is_sure and not _is_confirmed(shown.count, verb, as_json):
        click.echo("nothing was changed", err=as_json)
        return
    answer = Answer(changed=False, others=dict(others)) if is_dry else send(whole)
    if as_json:
        _screen.print_json(msgspec.structs.asdict(answer))
    else:
        click.echo(_outcome(answer, verb))


def _as_json(shown: Selection) -> dict[str, Any]:
    sample = shown.sample
    fields = msgspec.structs.asdict(shown)
    if sample is not None:
        error = None if sample.error is None else msgspec.structs.asdict(sample.error)
        fields["sample"] = msgspec.structs.asdict(sample) | {"error": error}
    return fields


def _preview(shown: Selection, others: Mapping[str, int], verb: _Verb) -> Iterator[str]:
    """Yield how many items are selected, with an example, and what would become of them; safe to show."""
    states = [(state, len(numbers)) for state, numbers in shown.items.items()]
    state = f"{states[0][0]} " if len(states) == 1 else ""
    by_state = f": {', '.join(f'{amount(number)} {state}' for state, number in states)}" if len(states) > 1 else ""
    is_one = shown.count == 1
    sample = shown.sample
    example = ""
    if sample is not None:
        words = [str(sample.item), visible(sample.label, _MAX_TEXT_CHARS)]
        if sample.error is not None:
            words.append(f"({_screen.error_summary(sample.error.type, sample.error.message, _MAX_TEXT_CHARS)})")
        example = f"{': ' if is_one else ', for example '}{' '.join(filter(None, words))}"
    yield f"{amount(shown.count)} {state}{_items(shown.count)}{by_state} ({_types(shown)}){example}"
    also = ["running ones are interrupted" if verb.name == "skip" else "running ones are cancelled"]
    also = also if "running" in shown.items else []
    if verb.runs_hooks and shown.hooks:
        also.append(f"{_hooks(shown.hooks)} will run once everything below has succeeded")
    yield f"{'It' if is_one else 'They'} will {'; '.join([verb.effect, *also])}."
    if others:
        yield f"Not included: {_why_not(others)}."


def _types(shown: Selection) -> str:
    names = short_names(shown.types)
    if len(names) == 1:
        return visible(next(iter(names.values())), 100)
    counts = [f"{amount(count)} {visible(names[type], 100)}" for type, count in shown.types.items()]
    more = len(counts) - _MAX_TYPES
    return ", ".join(counts[:_MAX_TYPES] + ([f"{amount(more)} more types"] if more > 0 else []))


def _is_confirmed(count: int, verb: _Verb, as_json: bool) -> bool:
    question = f"{verb.name.capitalize()} {'it' if count == 1 else 'them'}?"
    return click.confirm(question, prompt_suffix=" ", err=as_json)


def _outcome(answer: Answer, verb: _Verb) -> str:
    """Return what came of a command; safe to show."""
    total = answer.count + sum(answer.others.values())
    if not total:
        return "no items match"
    of = f" of {amount(total)}" if answer.others else ""
    head = f"{verb.past} {amount(answer.count)}{of} {_items(total)}" if answer.count else f"nothing to {verb.name}"
    details = [_why_not(answer.others)] if answer.others else []
    if answer.count and verb.runs_again:
        they = "it runs" if answer.count == 1 else "they run"
        if not answer.is_live:
            details.append(f"no process runs the run: {they} when it is resumed")
        elif answer.is_stopping:
            details.append(f"the run is stopping: {they} when it is resumed")
    return head + (f" ({'; '.join(details)})" if details else "")


def _why_not(others: Mapping[str, int]) -> str:
    """Return why a command doesn't apply to some items; safe to show, whatever a newer aqueue says."""
    words = []
    for why, count in others.items():
        one, several = _WHY_NOT.get(why, (visible(why, 100),) * 2)
        words.append(f"{amount(count)} {one if count == 1 else several}")
    return "; ".join(words)


def _items(count: int) -> str:
    return "item" if count == 1 else "items"


def _hooks(count: int) -> str:
    return "the hook of an ancestor" if count == 1 else f"hooks of {amount(count)} ancestors"
