"""A run with a journal, new or resumed, and how to resume it later."""

import os
import shlex
import sys
from collections.abc import Iterator

import msgspec

from aqueue._folds.outcome import num_cancelled
from aqueue._resume.past import read_past
from aqueue._run.session import Outcome, Session
from aqueue._run.settings import Settings
from aqueue._system.notice import say, stderr_is_terminal
from aqueue._system.signals import HeldInterrupts
from aqueue.errors import ItemFailures
from aqueue.item import ItemLike
from aqueue.reporting import Reporter
from aqueue.text import visible

__all__ = ["run_recorded"]


async def run_recorded(settings: Settings, reporters: list[Reporter], held: HeldInterrupts) -> Outcome:
    """Run with a journal: a new one, or one with a recorded run, which goes on."""
    from aqueue._journal.writer import Journal  # SQLite is for those who have a journal

    if settings.resume is not None:
        journal = Journal.open(settings.resume)
    else:
        assert settings.journal is not None
        journal = Journal.create(settings.journal)
    try:
        past = None if journal.is_new else read_past(journal, held.check, settings.runs_again, settings.spill_after)
        if past is not None:
            assert settings.resume is not None
            name = visible(os.fsdecode(settings.resume), 1_000)
            if past.is_completed:
                with held.let_through():
                    items = iter(settings.initial_items)
                    new = past.first_new(items)
                if not new:
                    result = msgspec.structs.replace(past.result(), journal=str(journal.path))
                    counts = result.counts
                    skipped = f", {counts.skipped:,} skipped" if counts.skipped else ""
                    say(f"aqueue: {name} is complete: {counts.completed:,} completed{skipped}; nothing is left to do")
                    return Outcome(result, None)
                settings = msgspec.structs.replace(settings, initial_items=_consumed(new, items))
                del new, items
        outcome = await Session(settings, reporters, journal, past, held).run()
    finally:
        journal.abandon()
    if outcome.result.status == "interrupted":
        say(f"\n  Resume:         {_how_to_resume(settings, str(journal.path))}")
    elif isinstance(outcome.error, ItemFailures):
        counts, cancelled = outcome.result.counts, num_cancelled(outcome.result.failure_groups)
        failed, outstanding = counts.failed - cancelled, counts.outstanding
        if failed or outstanding:
            say(f"  {_what_is_left(settings, failed, outstanding):15} {_how_to_resume(settings, str(journal.path))}")
        else:
            retry = f"Retry {'it' if cancelled == 1 else 'them'}:"
            say(f"  {retry:15} {visible(f'aqueue retry {shlex.quote(str(journal.path))} --state failed', 2_000)}")
    return outcome


def _consumed(first: list[ItemLike], others: Iterator[ItemLike]) -> Iterator[ItemLike]:
    """Yield the `first` items, removing them from the list so that they can be freed, and then the `others`."""
    while first:
        yield first.pop()
    yield from others


def _what_is_left(settings: Settings, failed: int, outstanding: int) -> str:
    """Return what a resume does with so many failed items, without cancelled ones, which it leaves alone, and outstanding ones."""
    them = "some of them" if settings.only is not None else "it" if failed == 1 else "them"
    retried = f"Retry {them}" if settings.retry_failed and failed else ""
    if not outstanding:
        return f"{retried}:" if retried else f"Retry {them} (with retry_failed=True):"
    rest = f"run the {outstanding:,} outstanding"
    return f"{retried} and {rest}:" if retried else f"{rest.capitalize()}:"


def _how_to_resume(settings: Settings, path: str) -> str:
    if settings.resume is not None:
        return _same_again()
    return f"pass resume={path!r} instead of journal={os.fspath(settings.journal or path)!r}, and run it again"


def _same_again() -> str:
    """Return the advice that runs this program, or this call, again, safe to show.

    The arguments may include a password, so they are shown on a terminal alone, to the person who typed them: CI logs and
    journald keep what is printed for others to read.
    """
    if "ipykernel" in sys.modules:
        return "run this cell again"
    if hasattr(sys, "ps1"):  # the prompt of Python or IPython
        return "make the same call again"
    if stderr_is_terminal():
        return visible(shlex.join(sys.orig_argv), 2_000)
    program = sys.argv[0] if sys.argv else ""
    if program in ("", "-c"):
        return "run the same command again"
    return f"run {visible(program, 1_000)} again, with the same arguments"
