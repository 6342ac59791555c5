"""``aqueue pause``, ``unpause``, ``workers``, ``limit`` and ``stop``: steer a run, live or not."""

import shlex
import time
from typing import Literal

import click
import msgspec

from aqueue import steering
from aqueue._verbs import MAX_WORKERS, Answer
from aqueue.cli import _app, _screen
from aqueue.figures import amount, limit_words, local_minute, person
from aqueue.limits import Limit
from aqueue.text import visible

__all__ = ["limit", "pause", "stop", "unpause", "workers"]


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
@_app.via_option
def pause(file: str, group: str | None, as_json: bool, via: str) -> None:
    """Start no more items and hooks until `aqueue unpause`, also after a resume. Running ones finish.

    Retry timers and stop_after_s continue. A paused run with waiting items doesn't end. If no process runs the run, it is paused
    from its resume on.
    """
    what = _what(group)
    answer = steering.pause(file, group=group, via=via)
    _print(answer, as_json, f"paused{what}", f"already paused{what}", running="will finish")
    _warn_of_unknown(group, answer, f"aqueue unpause {shlex.quote(file)} --group")


@_app.command(
    "Let a paused run, or group, start items again.",
    "aqueue unpause run.db",
    "aqueue unpause run.db --group example.org",
)
@_group_option
@_app.json_option
@_app.via_option
def unpause(file: str, group: str | None, as_json: bool, via: str) -> None:
    """End a pause by `aqueue pause`. The pause of the run and those of its groups are independent of each other."""
    what = _what(group)
    answer = steering.unpause(file, group=group, via=via)
    _print(answer, as_json, f"unpaused{what}", f"not paused{what}", before=f"paused{_since(answer)}")


@_app.command(
    "Change how many workers run items.",
    "aqueue workers run.db 20",
)
@click.argument("number", metavar="N", type=_app.WholeNumber(1, MAX_WORKERS))
@_app.json_option
@_app.via_option
def workers(file: str, number: int, as_json: bool, via: str) -> None:
    """Let N workers run items: more start at once, and those with the highest numbers retire after their item.

    It holds after a resume, unless the program passes another num_workers than it did. A run on a cluster refuses it: start or
    stop worker processes there.
    """
    of_them = f"{amount(number)} worker{'' if number == 1 else 's'}"
    answer = steering.workers(file, number, via=via)
    _print(answer, as_json, of_them, f"already {of_them}", before=f"before: {amount(answer.num_workers)}")


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
@_app.via_option
def limit(
    file: str,
    group: str,
    concurrent: int | None,
    per_second: float | None,
    is_none: bool,
    is_default: bool,
    as_json: bool,
    via: str,
) -> None:
    """Change the limit of GROUP. It holds from the next start, and running items of the group are counted.

    It holds after a resume, unless the program has another limit for the group than it had. Give one or both of --concurrent and
    --per-second, or --none, or --default.
    """
    has_numbers = concurrent is not None or per_second is not None
    if has_numbers + is_none + is_default != 1:
        raise click.UsageError("give --concurrent N, --per-second R or both; or --none; or --default")
    shown = visible(group, 300)
    new = "the limit of the program" if is_default else limit_words(concurrent, per_second) or "no limit"
    asked: Limit | Literal["none", "default"] = Limit(concurrent, per_second)
    if not has_numbers:
        asked = "default" if is_default else "none"
    answer = steering.limit(file, group, asked, via=via)
    # Without a process, the limit of the program isn't known.
    before = limit_words(answer.concurrent, answer.per_second) or (
        "no limit" if answer.is_live else "as in the program"
    )
    _print(answer, as_json, f"{shown}: {new}", f"{shown}: already {new}", before=f"before: {before}")
    if not is_default:
        _warn_of_unknown(group, answer, f"aqueue limit --default {shlex.quote(file)}")


@_app.command(
    "Stop a run; it can be resumed.",
    "aqueue stop run.db",
    "aqueue stop run.db --now",
)
@click.option("--now", is_flag=True, help="Cancel the running items instead of waiting for them.")
@_app.json_option
@_app.via_option
def stop(file: str, now: bool, as_json: bool, via: str) -> None:
    """Stop a run as its own aqueue.stop() does: no more items are taken, and the running ones finish.

    run_queue returns a result with the status interrupted, and raises nothing.
    """
    answer = steering.stop(file, now=now, via=via)
    already = (
        "already stopping" if answer.is_live else f"{visible(file, 1_000)} isn't running: there is nothing to stop"
    )
    _print(answer, as_json, "stopping", already, running="will be cancelled" if now else "will finish")


def _print(answer: Answer, as_json: bool, done: str, already: str, *, running: str = "", before: str = "") -> None:
    """Print what came of a command.

    Parameters:
        answer: the answer.
        as_json: whether to print it as JSON.
        done: what is printed if it changed something.
        already: what is printed if it was so already.
        running: what becomes of the running items; empty if they are not named.
        before: what held before; empty if that isn't named.
    """
    if as_json:
        _screen.print_json(msgspec.structs.asdict(answer))
        return
    if not answer.changed:
        reason = f": {visible(answer.reason, 300)}" if answer.reason else ""
        click.echo(f"{already}{_since(answer)}{reason}")
        return
    details = [before] if before else []
    if answer.running and running:
        details.append(f"{amount(answer.running)} running item{'' if answer.running == 1 else 's'} {running}")
    if not answer.is_live:
        details.append("no process runs it: this holds from its resume on")
    elif answer.is_stopping and not answer.reason:
        details.append("it is stopping: this holds from its resume on")
    click.echo(done + (f" ({'; '.join(details)})" if details else ""))


def _warn_of_unknown(group: str | None, answer: Answer, undo: str) -> None:
    """Say that no item has the group, which is perhaps misspelt, and which groups there are.

    Parameters:
        group: the group that was named.
        answer: what came of the command.
        undo: the command that takes it back, but for the group.
    """
    if group is not None and not answer.is_known:
        waiting = ", ".join(f"{visible(name, 100)} ({amount(count)})" for name, count in answer.groups.items())
        known = f"; items wait in: {waiting}" if waiting else ""
        back = f"; to take it back: {visible(undo, 1_000)} {visible(shlex.quote(group), 300)}" if answer.changed else ""
        _screen.say(f"no item waits or runs in the group {visible(group, 300)}{known}{back}")


def _since(answer: Answer) -> str:
    """Return since when something holds, and who has set it; empty if nobody has."""
    if not answer.since:
        return ""
    return f" since {local_minute(answer.since, time.time())} by {visible(person(answer.by), 200)}"


def _what(group: str | None) -> str:
    return "" if group is None else f" {visible(group, 300)}"
