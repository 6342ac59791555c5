"""``aqueue replay``: plays a recorded run as it went."""

import math
import signal
from contextlib import nullcontext

import click

from aqueue._history.opening import open_history
from aqueue._system.job_control import JobControl
from aqueue._system.notice import say
from aqueue.cli import _app
from aqueue.cli._playing.feeding import Feeding, reporter_option, reporters_named
from aqueue.cli._playing.keyboard import Keyboard
from aqueue.cli._playing.playback import KEYS, Playback
from aqueue.cli._playing.replay_clock import ReplayClock
from aqueue.cli._playing.stop_signals import StopSignals
from aqueue.figures import amount

__all__ = ["replay"]


def _above_zero(ctx: click.Context, param: click.Parameter, value: float) -> float:
    if not value > 0:  # nor is a NaN
        raise click.BadParameter(f"{value:g} is not a number above 0")
    return value


@_app.command(
    "Replay a run as it happened, faster or slower.",
    "aqueue replay run.db --speed 10",
    "aqueue replay run.jsonl --speed 60 --reporter plain",
    "aqueue replay run.db --speed inf --until 5000",
    "ssh host cat run.jsonl | aqueue replay - --speed 100",
)
@click.option(
    "--speed",
    metavar="TIMES",
    type=float,
    callback=_above_zero,
    default=1.0,
    help="How many times as fast as the run: 0.5 for half as fast, inf for as fast as possible.  [default: 1]",
)
@click.option(
    "--until",
    metavar="SEQ",
    type=_app.WholeNumber(1),
    help="Stop after the event with this number, and leave the display as it was then.",
)
@click.option(
    "--max-gap",
    "max_gap_s",
    metavar="SECONDS",
    type=float,
    callback=_above_zero,
    default=math.inf,
    help="Wait at most this long for the next event.  [default: as long as in the run]",
)
@reporter_option
@_app.run_option
def replay(file: str, speed: float, until: int | None, max_gap_s: float, reporters: tuple[str, ...], run: str) -> None:
    """Replay a run as it happened, from its start to the end of the recording.

    The reporters rich and plain show the times and rates of the run. On a terminal, space pauses and resumes, + and -
    double and halve the speed, and q or Ctrl-C quits.

    The time between a crash or a stop and the resume is cut to one second. Other times without events are kept, even a
    night in which the machine slept; --max-gap shortens them.

    The exit code is 0 however the run ended, and 2 if FILE, or a part of it, could not be read or all reporters have failed.
    """
    clock = ReplayClock(speed)
    named = reporters_named(reporters, file, clock=clock)
    history = _app.closed_at_end(open_history(file, run=run))
    feeding = Feeding(named, history)
    keyboard = Keyboard()

    def restore_terminal() -> None:
        keyboard.suspend()
        feeding.release_terminals()

    def suspend() -> None:
        keyboard.suspend()
        feeding.suspend_terminals()

    def resume() -> None:
        keyboard.resume()
        feeding.resume_terminals()
        playback.say_if_paused()

    signals = StopSignals(restore_terminal)
    playback = Playback(
        history,
        feeding,
        clock,
        until=until,
        max_gap_s=max_gap_s,
        wait=keyboard.wait,
        is_stopped=lambda: signals.first() is not None,
    )
    is_interactive = keyboard.is_there or any(reporter.uses_terminal for reporter in named)

    def show() -> int:
        with feeding:
            if keyboard.is_there:
                say(f"aqueue: {KEYS}")
            return _end(playback.play(), feeding, clock)

    with signals, JobControl(suspend, resume) if is_interactive else nullcontext(), keyboard:
        code = signals.run(show)
    stopped_by = signals.first()
    if stopped_by not in (None, signal.SIGINT):
        code = 128 + stopped_by
    _app.finish(history, code)


def _end(end: str, feeding: Feeding, clock: ReplayClock) -> int:
    """Close the reporters, say at which event, and return the exit code."""
    if end == "no_reporters":
        say("aqueue: stopped: all reporters have failed")
        return _app.EXIT_ERROR
    view = feeding.view
    where = f"replayed up to event {amount(view.seq)}"
    if end == "until":
        clock.set(view.at, is_held=True)
        feeding.close_still(where)
        say(f"aqueue: {where}: {feeding.progress}; the recording continues")
    elif end == "quit":
        feeding.leave(where)
        say(f"aqueue: {where}: {feeding.progress}")
    elif view.state == "finished":
        feeding.close()
    else:
        feeding.close("the recording ends here")
    return 0
