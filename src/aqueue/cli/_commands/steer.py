"""``aqueue pause``, ``unpause``, ``workers``, ``limit`` and ``stop``: steer a run, live or not."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import click
import msgspec

from aqueue import steering
from aqueue._verbs import MAX_WORKERS, Answer, AnyCommand, Pause, SetLimit, SetWorkers, Stop, Unpause, this_person
from aqueue.cli import _app, _screen
from aqueue.figures import amount, limit_words, person
from aqueue.limits import Limit
from aqueue.text import visible, without_surrogates

__all__ = ["limit", "pause", "stop", "unpause", "workers"]

_VIA = "command"

_group_option = click.option(
    "--group", metavar="GROUP", help="Only the items of this group; their hooks continue.  [default: the whole run]"
)


@_app.command(
    "Start no more items of a run, or of a group.",
    "aqueue pause run.db",
    "aqueue pause run.db --group example.org",
)
@_group_option
@_app.json_option
def pause(file: str, group: str | None, as_json: bool) -> None:
    """Start no more items and hooks until `aqueue unpause`, also after a resume. Running ones finish.

    Retry timers and stop_after_s continue. A paused run with waiting items doesn't end. If no process runs the run, it is paused
    from its resume on.
    """
    what = _what(group)
    _steer(
        file,
        Pause(by=this_person(_VIA), group=_name(group)),
        _Words(f"paused{what}", f"already paused{what}", "{} will finish"),
        as_json=as_json,
    )


@_app.command(
    "Let a paused run, or group, start items again.",
    "aqueue unpause run.db",
    "aqueue unpause run.db --group example.org",
)
@_group_option
@_app.json_option
def unpause(file: str, group: str | None, as_json: bool) -> None:
    """End a pause by `aqueue pause`. The pause of the run and those of its groups are independent of each other."""
    what = _what(group)
    _steer(
        file,
        Unpause(by=this_person(_VIA), group=_name(group)),
        _Words(f"unpaused{what}", f"not paused{what}", before=lambda answer: f"paused{_since(answer)}"),
        as_json=as_json,
    )


@_app.command(
    "Change how many workers run items.",
    "aqueue workers run.db 20",
)
@click.argument("number", metavar="N", type=_app.WholeNumber(1, MAX_WORKERS))
@_app.json_option
def workers(file: str, number: int, as_json: bool) -> None:
    """Let N workers run items: more start at once, and those with the highest numbers retire after their item.

    It holds after a resume, unless the program passes another num_workers than it did. A run on a cluster refuses it: start or
    stop worker processes there.
    """
    of_them = f"{amount(number)} worker{'' if number == 1 else 's'}"

    def before(answer: Answer) -> str:
        return f"before: {amount(answer.num_workers)}"

    _steer(
        file,
        SetWorkers(by=this_person(_VIA), num_workers=number),
        _Words(of_them, f"already {of_them}", before=before),
        as_json=as_json,
    )


@_app.command(
    "Change the limit of a group.",
    "aqueue limit run.db example.org --per-second 2",
    "aqueue limit run.db example.org --concurrent 4 --per-second 10",
    "aqueue limit run.db example.org --default",
)
@click.argument("group", metavar="GROUP")
@click.option(
    "--concurrent",
    metavar="N",
    type=_app.WholeNumber(1),
    help="How many of its items may run at once.  [default: any number]",
)
@click.option(
    "--per-second",
    metavar="R",
    type=click.FloatRange(0, min_open=True),
    help="How many of its items may start per second; 0.2 is one in 5 s.  [default: any number]",
)
@click.option("--none", "is_none", is_flag=True, help="No limit.")
@click.option("--default", "is_default", is_flag=True, help="The program's own limit.")
@_app.json_option
def limit(
    file: str,
    group: str,
    concurrent: int | None,
    per_second: float | None,
    is_none: bool,
    is_default: bool,
    as_json: bool,
) -> None:
    """Change the limit of GROUP. It holds from the next start, and running items of the group are counted.

    It holds after a resume, unless the program has another limit for the group than it had. Give one or both of --concurrent and
    --per-second, or --none, or --default.
    """
    has_numbers = concurrent is not None or per_second is not None
    if has_numbers + is_none + is_default != 1:
        raise click.UsageError("give --concurrent N, --per-second R or both; or --none; or --default")
    Limit(concurrent, per_second)  # raises what is wrong with a number
    shown = visible(group, 300)
    new = f"{shown}: {'the limit of the program' if is_default else limit_words(concurrent, per_second) or 'no limit'}"

    def before(answer: Answer) -> str:
        return f"before: {limit_words(answer.concurrent, answer.per_second) or ('no limit' if answer.is_live else 'as in the program')}"

    _steer(
        file,
        SetLimit(
            by=this_person(_VIA),
            group=without_surrogates(group),
            concurrent=concurrent,
            per_second=per_second,
            is_default=is_default,
        ),
        _Words(new, f"already so: {new}", before=before),
        as_json=as_json,
    )


@_app.command(
    "Stop a run; it can be resumed.",
    "aqueue stop run.db",
    "aqueue stop run.db --now",
)
@click.option("--now", is_flag=True, help="Cancel the running items instead of waiting for them.")
@_app.json_option
def stop(file: str, now: bool, as_json: bool) -> None:
    """Stop a run as its own aqueue.stop() does: no more items are taken, and the running ones finish.

    run_queue returns a result with the status interrupted, and raises nothing.
    """
    _steer(
        file,
        Stop(by=this_person(_VIA), now=now),
        _Words("stopping", "already stopping", "{} will be cancelled" if now else "{} will finish"),
        as_json=as_json,
    )


@dataclass(frozen=True)
class _Words:
    """What is printed about an answer.

    Attributes:
        done: if something has changed.
        already: if it was so already.
        running: what becomes of the running items, which stand for ``{}``; empty if they are not named.
        before: returns what held before; None if that isn't named.
    """

    done: str
    already: str
    running: str = ""
    before: Callable[[Answer], str] | None = None


def _steer(file: str, command: AnyCommand, words: _Words, *, as_json: bool) -> None:
    answer = steering.carry_out(file, command)
    if as_json:
        _screen.print_json({"verb": command.__struct_config__.tag} | msgspec.structs.asdict(answer))
    else:
        click.echo(_said(file, command, answer, words))
    if not answer.is_known and (
        isinstance(command, Pause) or (isinstance(command, SetLimit) and not command.is_default)
    ):
        waiting = ", ".join(f"{visible(group, 100)} ({amount(count)})" for group, count in answer.groups.items())
        known = f"; items wait in: {waiting}" if waiting else ""
        _screen.say(f"no item waits or runs in the group {visible(str(getattr(command, 'group', '')), 300)}{known}")


def _said(file: str, command: AnyCommand, answer: Answer, words: _Words) -> str:
    if isinstance(command, Stop) and not answer.is_live:
        return f"{visible(file, 1_000)} isn't running: there is nothing to stop"
    if not answer.changed:
        reason = f": {visible(answer.reason, 300)}" if answer.reason else ""
        return f"{words.already}{_since(answer)}{reason}"
    details = [words.before(answer)] if words.before is not None else []
    if answer.running and words.running:
        running = f"{amount(answer.running)} running item{'' if answer.running == 1 else 's'}"
        details.append(words.running.format(running))
    if not answer.is_live:
        details.append("no process runs it: this holds from its resume on")
    elif answer.is_stopping and not isinstance(command, Stop):
        details.append("it is stopping: this holds from its resume on")
    return words.done + (f" ({'; '.join(details)})" if details else "")


def _since(answer: Answer) -> str:
    """Return since when something holds, and who has set it; empty if nobody has."""
    if not answer.since:
        return ""
    return f" since {_screen.short_time(answer.since, time.time())} by {visible(person(answer.by), 200)}"


def _what(group: str | None) -> str:
    return "" if group is None else f" {visible(group, 300)}"


def _name(group: str | None) -> str | None:
    return None if group is None else without_surrogates(group)
