"""How people steer a run with a journal: its control socket, and what the run says about what they have set."""

import os
import shlex
import time
from functools import partial
from pathlib import Path
from typing import Final

import anyio

from aqueue._control.server import ControlServer, Pending
from aqueue._control.service import HAS_FAILED
from aqueue._delivery.delivery import Delivery
from aqueue._engine.steering import Steering
from aqueue._system.loop import CallSoon
from aqueue._system.notice import say, warn
from aqueue._verbs import Answer, AnyCommand, OnItems, Refusal, RunIsOver
from aqueue.errors import SteeringError
from aqueue.events import RunPaused, RunStarted
from aqueue.figures import limit_words, local_minute, person
from aqueue.text import visible
from aqueue.view import InForce

__all__ = ["Control"]

_NOT_SAVED: Final = Refusal(
    "the command was carried out, but the journal can't be written any more, so the run has stopped"
)

_MAX_SAID: Final = 5
"""How many of the things that people have set are named at the start of a resumed run."""


class Control:
    """Carries out the commands that come through a run's control socket."""

    def __init__(self, journal: Path, steering: Steering, delivery: Delivery, call_soon: CallSoon) -> None:
        """Make the control of the run with this journal; it listens from `open` on.

        Parameters:
            journal: the path of the journal.
            steering: carries out commands.
            delivery: commits the events of commands.
            call_soon: calls a function in the run's loop, from any thread.
        """
        self._journal = journal
        self._steering = steering
        self._delivery = delivery
        self._call_soon = call_soon
        self._server: ControlServer | None = None
        self._said: list[str] = []
        steering.remind = self._say_paused

    def restore(self, in_force: InForce, started: RunStarted) -> None:
        """Obey what people set in earlier processes of the run, which `started` has resumed."""
        before = in_force.copy()
        self._steering.restore(in_force, started)
        now = self._steering.in_force
        for name, one in before.limits.items():
            if name not in now.limits:
                words = limit_words(one.concurrent, one.per_second) or "no limit"
                self._said.append(
                    f"{visible(name, 100)} has the program's limit, which was changed since {_who(one.by)} had set {words}"
                )
        if before.workers is not None and now.workers is None:
            set_by = f"{_who(before.workers.by)} had set {before.workers.num_workers:,}"
            self._said.append(f"{started.num_workers:,} workers, as the program passes now; {set_by} before")

    def say_what_is_in_force(self) -> None:
        """Say what people have set that holds, and what holds no longer; once, at the start of a resumed run."""
        for said in self._said:
            say(f"aqueue: {said}")
        now = self._steering.in_force
        set_by_people = [
            f"{visible(group, 100)} is paused ({_who(one.by)})" for group, one in now.paused_groups.items()
        ]
        if now.workers is not None:
            one = now.workers
            set_by_people.append(f"{one.num_workers:,} workers ({_who(one.by)}; the program passes {one.program:,})")
        for group, limit in now.limits.items():
            words = limit_words(limit.concurrent, limit.per_second) or "no limit"
            set_by_people.append(f"{visible(group, 100)} {words} ({_who(limit.by)})")
        if set_by_people:
            more = len(set_by_people) - _MAX_SAID
            shown = ", ".join(set_by_people[:_MAX_SAID]) + (f" and {more:,} more" if more > 0 else "")
            say(f"aqueue: as set by commands: {shown}")
        if now.paused is not None:
            self._say_paused(now.paused)

    def _say_paused(self, pause: RunPaused) -> None:
        at = local_minute(pause.at, time.time())
        path = visible(shlex.quote(os.fspath(self._journal)), 1_000)
        say(f"aqueue: paused since {at} by {_who(pause.by)}; nothing starts until: aqueue unpause {path}")

    # ---- the socket ---------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Listen for commands from now on."""
        self._server = ControlServer(self._journal, self._take)
        self._server.start()

    async def close(self) -> None:
        """Listen no more; the run has ended, and its journal is still locked."""
        if self._server is not None:
            try:
                await self._server.close()
            except anyio.get_cancelled_exc_class() as error:
                # By asyncio's Task.cancel, which ignores shields. The thread ends anyway.
                self._delivery.cancellation = error

    def _take(self, command: AnyCommand, pending: Pending) -> None:
        """Carry out a command; called on the thread of the socket."""
        self._call_soon(partial(self._apply, command, pending))

    def _apply(self, command: AnyCommand, pending: Pending) -> None:
        try:
            if isinstance(command, OnItems):
                pending.begun()
                self._steering.begin(command, partial(self._end, pending))
            else:
                self._end(pending, self._steering.apply(command))
        except SteeringError as error:
            self._end(pending, error)
        except Exception as error:  # a bug in aqueue: in a callback of trio's loop it would end the whole program
            warn(f"commands to this run may fail: {visible(repr(error), 500)}; the run continues")
            pending.reply(HAS_FAILED)

    def _end(self, pending: Pending, answer: Answer | SteeringError) -> None:
        if isinstance(answer, SteeringError):
            pending.reply(Refusal(str(answer), is_over=isinstance(answer, RunIsOver)))
            return
        pending.applied()
        # Also if nothing has changed: what was so already may have been set a moment ago, and not be saved yet.
        self._delivery.when_saved(lambda is_saved: pending.reply(answer if is_saved else _NOT_SAVED))


def _who(by: str) -> str:
    return visible(person(by), 100)
