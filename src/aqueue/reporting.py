"""The Reporter protocol, and reporters by name: "rich", "jsonl:run.jsonl", an object, or several of these."""

import os
import sys
from collections.abc import Callable, Collection, Sequence
from inspect import signature
from typing import Any, Protocol, TextIO, cast, runtime_checkable

import msgspec

from aqueue._arguments import not_one_of
from aqueue._codec.class_names import type_name
from aqueue._stream.error_info import name_and_message
from aqueue.errors import InvalidArgument, ReporterError
from aqueue.events import Event
from aqueue.result import RunResult
from aqueue.text import visible, visible_repr
from aqueue.view import RunView

__all__ = [
    "ENTRY_POINT_GROUP",
    "Reporter",
    "ReporterSpec",
    "RunInfo",
    "SkippingReporter",
    "StillReporter",
    "SuspendableReporter",
    "TerminalReporter",
    "can_redraw",
    "resolve_reporters",
]

ENTRY_POINT_GROUP = "aqueue.reporters"
"""The entry-point group in which reporters are found by name."""

ENVIRONMENT_VARIABLE = "AQUEUE_REPORTER"


class RunInfo(msgspec.Struct, frozen=True):
    """What is known about a run when a reporter is opened.

    Attributes:
        run_id: the id of the run.
        num_workers: the number of workers.
        queue_type_name: ``queue``, ``stack`` or ``priority``.
        started_at: when the run began, Unix time in seconds.
        watched: whether it is a run of another process, or a replayed one; Ctrl-C then stops watching it, and doesn't stop
            the run. Default False.
        journal: the absolute path of the file that records it; empty if none does.
    """

    run_id: str
    num_workers: int
    queue_type_name: str
    started_at: float
    watched: bool = False
    journal: str = ""


@runtime_checkable
class Reporter(Protocol):
    """Shows or records a run. All calls come from one thread, which is this reporter's own.

    A reporter that raises from `handle` or `close` is detached and the run continues; one that raises from `open` ends the
    call before any item has run.

    A reporter may block its thread (a slow pipe); the other reporters and the journal don't wait for it. A reporter that
    gets every event makes the run wait once 40,000 events, or 64 MB of large values, are waiting for it, rather than fill
    the memory. After 5 s in one call a warning names it; with a journal it is detached after 60 s, since the journal has
    everything that it would have written. Make a display a `SkippingReporter`: no run waits for one.
    """

    @property
    def uses_terminal(self) -> bool:
        """Whether it redraws parts of a terminal; a run has at most one such reporter."""
        ...

    def open(self, run: RunInfo) -> None:
        """Begin: called once, before any event.

        Parameters:
            run: what is known about the run.
        """
        ...

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        """Handle the next events, in order and each exactly once (but see `SkippingReporter`).

        Called at most about every 50 ms while something happens, and otherwise about ten times a second with no events, so
        that a clock can tick.

        Parameters:
            events: the next events, in a tuple; none if nothing has happened.
            view: the run as it is after these events; it changes after the call returns.
        """
        ...

    def close(self, result: RunResult) -> None:
        """End: called once, after the last event. Restore everything and flush.

        Parameters:
            result: the result of the run.
        """
        ...


@runtime_checkable
class SkippingReporter(Reporter, Protocol):
    """A display that can miss some of the events, since it shows the view.

    Once it is 40,000 events or 64 MB of large values behind, the waiting events are dropped: in its next call `view` has
    everything that has happened, and `events` has only those since. So a run never waits for it; at the end of a run all
    but the last 10,000 waiting events are dropped.
    """

    @property
    def can_skip(self) -> bool:
        """Whether it can skip events; a reporter without this attribute can't."""
        ...


@runtime_checkable
class TerminalReporter(Reporter, Protocol):
    """A reporter that changes a terminal and can restore it in an emergency."""

    def release_terminal(self) -> None:
        """Restore the terminal at once.

        Called when the reporter is detached, and from a signal handler in the main thread just before the process
        ends: it must not wait for a lock without a short time-out, and touch nothing but the terminal (`os.write`).
        """
        ...


@runtime_checkable
class SuspendableReporter(TerminalReporter, Protocol):
    """A terminal reporter that can release the terminal for a while: Ctrl-Z, and later ``fg``."""

    def suspend_terminal(self) -> None:
        """Restore the terminal and change nothing on it until `resume_terminal`.

        Called from a signal handler in the main thread just before the process is stopped; it is limited in the same way
        as `release_terminal`.
        """
        ...

    def resume_terminal(self) -> None:
        """Continue where the cursor is now. Called from the same signal handler once the process continues."""
        ...


@runtime_checkable
class StillReporter(Reporter, Protocol):
    """A reporter that can leave the run as it was at some moment on the screen, as `aqueue replay --until` does.

    With reporters that use no terminal, `aqueue watch` or a replay that is left early does so, too.
    """

    def close_still(self, result: RunResult, view: RunView) -> None:
        """End as `close` does, but leave the run on the screen as it was at this moment, instead of a summary.

        Parameters:
            result: the result of the run until this moment.
            view: the run at this moment.
        """
        ...


def can_redraw(stream: TextIO | None) -> bool:
    """Return whether `stream` leads to a terminal on which text can be overwritten.

    That is a terminal with a ``TERM`` that isn't ``dumb`` or ``unknown``.

    Parameters:
        stream: the stream. None, a closed stream, and a stand-in without a file don't lead to a terminal.
    """
    if stream is None or os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        return False
    try:
        return stream.isatty() and stream.fileno() >= 0
    except (AttributeError, OSError, ValueError):
        return False


ReporterSpec = str | Reporter | Sequence[str | Reporter]
"""What `run_queue` takes as its reporter."""


def resolve_reporters(spec: ReporterSpec, *, clock: Callable[[], float] | None = None) -> list[Reporter]:
    """Return the reporters that `spec` names; only those are imported.

    The object of an entry point is called with the argument after the colon, if there is one, and returns a reporter.

    Parameters:
        spec: ``"auto"`` (``"rich"`` on a terminal, ``"plain"`` otherwise; the environment variable ``AQUEUE_REPORTER`` overrides
            it), ``"none"``, a name from the entry-point group ``aqueue.reporters`` with an argument after a colon where
            it takes one (``"jsonl:run.jsonl"``), a `Reporter`, or a sequence of these.
        clock: returns the Unix time, seconds, in the run that `aqueue replay` replays. Reporters with a parameter `clock`
            use it instead of their own clock, so that elapsed times and rates are those of the run. None, the default,
            leaves each reporter its own clock.

    Raises:
        InvalidArgument: a name is unknown, an argument is missing or not accepted, an object isn't a reporter or is named
            twice, or two reporters would redraw the terminal.
        ReporterError: the object of an entry point can't be imported.
        Exception: the reporter's class raised it.
    """
    # Bytes are a sequence, too, but are refused as bytes, not number by number.
    is_one = isinstance(spec, str | bytes | bytearray) or not isinstance(spec, Sequence)
    specs = cast(Sequence[str | Reporter], [spec] if is_one else spec)
    reporters = [reporter for one in specs for reporter in _resolve_one(one, clock)]
    if len({id(reporter) for reporter in reporters}) < len(reporters):
        raise InvalidArgument("reporter has the same object twice, and two threads would call it at once; pass it once")
    owners = [type_name(type(reporter)) for reporter in reporters if reporter.uses_terminal]
    if len(owners) > 1:
        raise InvalidArgument(
            f"reporter has {' and '.join(owners)}, which would each redraw the terminal; keep only one"
        )
    return reporters


def _resolve_one(spec: str | Reporter, clock: Callable[[], float] | None) -> list[Reporter]:
    if not isinstance(spec, str):
        hint = _why_no_reporter(spec)
        if hint:
            raise InvalidArgument(f"reporter is {visible_repr(spec)}, which isn't a reporter: {hint}")
        return [spec]
    name, colon, argument = spec.partition(":")
    if spec == "auto":
        name = os.environ.get(ENVIRONMENT_VARIABLE, "")
        if name and name != "auto":
            try:
                return _resolve_one(name, clock)
            except InvalidArgument as error:
                raise InvalidArgument(
                    f"{error} (the name is from the environment variable {ENVIRONMENT_VARIABLE})"
                ) from None
        name = "rich" if can_redraw(sys.stderr) else "plain"
    if spec == "none":
        return []
    if colon and name in ("auto", "none"):
        raise InvalidArgument(f"reporter is {visible_repr(spec)}, but {name!r} takes no argument; write {name!r}")
    from importlib.metadata import entry_points  # slow to load, and only needed here

    factories = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    if name not in factories:
        raise not_one_of("reporter", spec, ["auto", "none", *sorted(factories)])
    try:
        factory = cast(Callable[..., Any], factories[name].load())
        parameters = signature(factory)
    except Exception as error:  # importing a plugin may raise anything
        kind, message = name_and_message(error)
        raise ReporterError(
            f"reporter {name!r} ({factories[name].value}) can't be loaded: {kind}: {visible(message, 1_000)}; "
            "nothing has been run"
        ) from error
    arguments = (argument,) if colon else ()
    if colon and not argument:
        raise InvalidArgument(
            f"reporter is {visible_repr(spec)}, which has nothing after the colon; add an argument, or remove the colon"
        )
    options = {} if clock is None or "clock" not in parameters.parameters else {"clock": clock}
    try:
        parameters.bind(*arguments, **options)
    except TypeError:
        hint = f"takes no argument; write {name!r}" if colon else f"needs an argument; write '{name}:…'"
        raise InvalidArgument(f"reporter is {visible_repr(spec)}, but {name!r} {hint}") from None
    return _resolve_one(factory(*arguments, **options), clock)


def _why_no_reporter(reporter: Reporter) -> str:
    if isinstance(reporter, bytes | bytearray):
        return "it is bytes; pass a str, such as 'plain'"
    if isinstance(reporter, type):
        return "it is a class; pass an instance"
    if isinstance(reporter, Collection):
        return "it is a collection; pass several reporters as one list of names and reporters"
    missing = [name for name in ("open", "handle", "close") if not callable(getattr(reporter, name, None))]
    if not hasattr(reporter, "uses_terminal"):
        missing.append("uses_terminal")
    return f"it lacks {', '.join(missing)}" if missing else ""
