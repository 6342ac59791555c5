"""``aqueue watch``: shows a run live, in another terminal or on another machine."""

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Final, Literal

import click

from aqueue._history.history import History
from aqueue._history.opening import STANDARD_INPUT, open_history
from aqueue._history.process import liveness
from aqueue._history.record import RunState, assess, resume_hint
from aqueue._system.job_control import JobControl
from aqueue._system.notice import say
from aqueue.cli import _app
from aqueue.cli._commands.status import EXIT_CODES
from aqueue.cli._commands.tail import wait_for
from aqueue.cli._playing.feeding import BATCH_INTERVAL_S, TICK_INTERVAL_S, Feeding, reporter_option, reporters_named
from aqueue.cli._playing.stop_signals import StopSignals

__all__ = ["watch"]

_EXIT_DETACHED_EARLY: Final = 130
_LOOK_INTERVAL_S: Final = 1.0
"""How often to check whether the run's process is still there while no events come."""

_End = Literal["finished", "gone", "over", "detached", "detached early", "no_reporters"]
"""Why there is nothing more to show.

``finished``: the run said that it ended; ``gone``: its process is not there any more; ``over``: standard input has
ended, or another run begins in the log; ``detached``: a signal; ``detached early``: one that came before all that is recorded had been read; ``no_reporters``: all reporters have raised.
"""


@_app.command(
    "Watch a run live from another terminal.",
    "aqueue watch run.db",
    "aqueue watch run.jsonl --reporter plain",
    "aqueue watch run.db --reporter rich --reporter jsonl:copy.jsonl",
    "ssh -t host aqueue watch run.db",
    "ssh host tail -f -n +1 run.jsonl | aqueue watch -",
)
@reporter_option
@_app.run_option
def watch(file: str, reporters: tuple[str, ...], run: str) -> None:
    """Watch a run live, from its start to its end. If FILE doesn't exist yet, wait for it.

    Ctrl-C detaches, and the run continues. The run is neither changed nor locked: it can end, be resumed or be killed
    meanwhile. If it has already ended, its end is shown. If a log on standard input has several runs, the first is shown.

    The exit code is 0 if the run has completed, 1 if items have failed, 3 if it was interrupted or has crashed, 4 if it is
    running, and 2 if FILE could not be read or all reporters have failed. Ctrl-C while it waits for FILE exits with 130.
    """
    named = reporters_named(reporters, file)
    if file != STANDARD_INPUT and not os.path.exists(file):
        wait_for(file)
    history = _app.closed_at_end(open_history(file, run=run, follows=True))
    if run and history.path is None:
        raise click.UsageError("--run doesn't work with a pipe; leave it out, or name a file")
    feeding = Feeding(named, history)
    signals = StopSignals(feeding.release_terminals)
    draws = any(reporter.uses_terminal for reporter in named)

    def show() -> int:
        with feeding:
            end = follow(history, feeding, lambda: signals.first() is not None)
            return _end(end, history, feeding)

    with signals, JobControl(feeding.suspend_terminals, feeding.resume_terminals) if draws else nullcontext():
        code = signals.run(show)
    _app.finish(history, code)


def follow(
    history: History,
    feeding: Feeding,
    is_detached: Callable[[], bool],
    *,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> _End:
    """Feed recorded and new events until there is nothing more to show; return why.

    Parameters:
        history: from which to read.
        feeding: what gets the events.
        is_detached: returns whether a person has detached.
        monotonic: the real time, seconds.
        sleep: waits so many seconds.
    """
    looked_at = monotonic()
    fed_at = 0.0
    is_gone = False
    has_caught_up = has_said = False
    while not is_detached():
        events = history.read()
        has_caught_up = has_caught_up or events is None
        for notice in history.take_notices():
            say(f"aqueue: {notice}")
        if events is not None:
            is_gone = False
            if events:
                feeding.feed(events)
                fed_at = monotonic()
        elif feeding.view.state == "finished":
            return "finished"
        elif history.is_over:
            return "over"
        elif is_gone:  # and what it had written before has been read since
            return "gone"
        else:
            now = monotonic()
            if now - fed_at >= TICK_INTERVAL_S:
                feeding.tick()
                fed_at = now
            if now - looked_at >= _LOOK_INTERVAL_S:
                looked_at = now
                is_gone = _is_process_gone(history, feeding)
            if feeding.started is None and not has_said:
                has_said = True
                say(f"aqueue: {history.name} has no events of a run yet; waiting for them")
            if not is_gone:
                sleep(BATCH_INTERVAL_S)
        if feeding.has_lost_reporters:
            return "detached" if is_detached() else "no_reporters"  # a terminal that is lost does both
    return "detached" if has_caught_up else "detached early"


def _is_process_gone(history: History, feeding: Feeding) -> bool:
    started = feeding.started
    if started is None or not started.run_id:  # a log that lacks its beginning doesn't name the process
        return False
    return liveness(started, history.path if history.is_journal else None) == "gone"


def _end(end: _End, history: History, feeding: Feeding) -> int:
    """Close the reporters, say what state the run is in, and return the exit code."""
    now = time.time()
    state = assess(feeding.view, feeding.started, history, now)
    if end == "no_reporters":
        say("aqueue: stopped: all reporters have failed")
        return _app.EXIT_ERROR
    if end == "detached early":
        feeding.leave("detached")
        say("Detached before the whole recording had been read.")
        return _EXIT_DETACHED_EARLY
    if feeding.view.state == "finished":
        feeding.close()
        if state.name == "interrupted":
            say(f"aqueue: {resume_hint(history, feeding.view.counts)}")
    elif end == "detached":
        _detach(feeding, state, now)
    elif end == "over" and history.path is None:
        feeding.close("the log ends here")
        if state.why:
            say(f"aqueue: the log ends here; {state.name}: {state.why}")
    else:
        pid = feeding.started.pid if feeding.started is not None else 0
        after = "; the log continues with another run" if end == "over" else ""
        feeding.close(f"its process, pid {pid}, is gone{after}")
        say(f"aqueue: {resume_hint(history, feeding.view.counts)}")
        return EXIT_CODES["interrupted"]
    return EXIT_CODES[state.name]


def _detach(feeding: Feeding, state: RunState, now: float) -> None:
    if state.name == "running":
        feeding.leave("detached: the run continues", now)
        say(f"Detached; the run continues: {feeding.progress}.")
    elif feeding.started is None:
        say("Detached; no events of a run have come yet.")
    else:
        feeding.leave(f"detached: {state.why}")
        say(f"Detached: {feeding.progress}; {state.why}.")
