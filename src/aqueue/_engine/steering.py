"""Steering: what people ask of a whole run or of a group becomes an event, which the engine obeys."""

from collections.abc import Callable
from functools import partial
from typing import Final

from aqueue._engine.group_limits import plain_numbers
from aqueue._engine.item_commands import ItemCommands
from aqueue._engine.local_workers import LocalWorkers
from aqueue._engine.parts import Parts
from aqueue._engine.restored_run import Change
from aqueue._engine.stopping import Stage
from aqueue._engine.tree import Node
from aqueue._engine.workers import Workers
from aqueue._system.notice import warn
from aqueue._verbs import (
    Answer,
    AnyCommand,
    OnItems,
    Pause,
    RunIsOver,
    SetLimit,
    SetWorkers,
    Stop,
    Unpause,
    this_person,
)
from aqueue.errors import SteeringError
from aqueue.events import (
    Event,
    GroupLimit,
    GroupLimitChanged,
    GroupPaused,
    GroupUnpaused,
    RunPaused,
    RunStarted,
    RunUnpaused,
    RunWorkersChanged,
)
from aqueue.figures import person
from aqueue.limits import Limit
from aqueue.text import visible, visible_repr
from aqueue.view import InForce

__all__ = ["ON_A_CLUSTER", "Steering", "change_of", "setting_of"]

ON_A_CLUSTER: Final = "worker processes of a cluster run the items of this run; to change how many run at a time, start or stop worker processes"
"""Why the number of workers of a run on a cluster can't be changed, and what to do instead."""

REMIND_S: Final = 600.0
"""How often a paused run says that it is paused, seconds."""


def setting_of(
    command: AnyCommand, in_force: InForce
) -> RunPaused | GroupPaused | RunWorkersChanged | GroupLimitChanged | None:
    """Return the event by which what `command` is about was set and still holds; None if nobody has set it."""
    match command:
        case Pause(group=None) | Unpause(group=None):
            return in_force.paused
        case Pause(group=str() as group) | Unpause(group=str() as group):
            return in_force.paused_groups.get(group)
        case SetWorkers():
            return in_force.workers
        case SetLimit(group=group):
            return in_force.limits.get(group)
        case _:
            return None


def change_of(command: AnyCommand, in_force: InForce, num_workers: int, program: GroupLimit | None) -> Change | None:
    """Return what makes the event for `command`; None if it was so already.

    Parameters:
        command: any but `Stop`.
        in_force: what people have set so far.
        num_workers: how many workers the program has passed.
        program: the program's own limit of the group that is named; None if it isn't known.
    """
    by, before = command.by, setting_of(command, in_force)
    match command:
        case Pause(group=group):
            if before is not None:
                return None
            return partial(RunPaused, by=by) if group is None else partial(GroupPaused, group=group, by=by)
        case Unpause(group=group):
            if before is None:
                return None
            return partial(RunUnpaused, by=by) if group is None else partial(GroupUnpaused, group=group, by=by)
        case SetWorkers(num_workers=number):
            now = in_force.workers.num_workers if in_force.workers is not None else num_workers
            return None if number == now else partial(RunWorkersChanged, num_workers=number, program=num_workers, by=by)
        case SetLimit(group=group, is_default=True):
            if before is None:
                return None
            return partial(GroupLimitChanged, group=group, by=by, is_default=True, program=program)
        case SetLimit(group=group, concurrent=concurrent, per_second=per_second):
            holds = (
                program
                if not isinstance(before, GroupLimitChanged)
                else GroupLimit(before.concurrent, before.per_second)
            )
            if holds == GroupLimit(concurrent, per_second):
                return None
            return partial(
                GroupLimitChanged, group=group, by=by, concurrent=concurrent, per_second=per_second, program=program
            )
        case _:
            raise AssertionError(command)


class Steering:
    """Carries out the commands of people, between two steps of the event loop.

    Attributes:
        in_force: what people have set and still holds.
        remind: called with the pause of a run when it has lasted another 10 minutes.
    """

    def __init__(self, parts: Parts, workers: Workers, local: LocalWorkers | None, item_commands: ItemCommands) -> None:
        """Begin with nothing in force.

        Parameters:
            parts: what is steered.
            workers: runs the items.
            local: the workers of this process, whose number can be changed; None if items run elsewhere.
            item_commands: carries out commands on items.
        """
        self.in_force = InForce()
        self.remind: Callable[[RunPaused], None] = lambda _: None
        self._stream = parts.stream
        self._stopping = parts.stopping
        self._dispatcher = parts.dispatcher
        self._limits = parts.limits
        self._timers = parts.timers
        self._workers = workers
        self._local = local
        self._item_commands = item_commands
        self._program_workers = 0 if local is None else local.number

    def restore(self, in_force: InForce, started: RunStarted) -> None:
        """Obey what people set in earlier processes, unless the program has changed it since.

        Parameters:
            in_force: what was in force when the last process ended; from now on this object keeps it.
            started: the event with which this process resumed the run.
        """
        self.in_force = in_force
        in_force.apply(started)
        for name, limit in list(in_force.limits.items()):
            program = self._program_limit(name)
            if program is None or limit.program == program:
                continue
            if limit.program is None:  # a command has set it while no process was there
                numbers = limit.concurrent, limit.per_second
                in_force.apply(self._stream.emit(GroupLimitChanged, name, limit.by, *numbers, program=program))
            else:  # by the user of the changed program, not by the one who had set the limit
                by = this_person("program")
                in_force.apply(self._stream.emit(GroupLimitChanged, name, by, is_default=True, program=program))
        for event in in_force.events:
            self._obey(event)

    def apply(self, command: AnyCommand) -> Answer:
        """Carry out `command`, and return what came of it; what it has changed isn't committed yet.

        Raises:
            SteeringError: it can't be carried out; nothing has changed.
        """
        if isinstance(command, OnItems):
            return self._item_commands.at_once(command)
        if self._stopping.stage is Stage.ENDED:
            raise RunIsOver
        if isinstance(command, Stop):
            return self._stop(command)
        if isinstance(command, SetWorkers) and self._local is None:
            raise SteeringError(ON_A_CLUSTER)
        group: str | None = getattr(command, "group", None)
        program = self._program_limit(group) if isinstance(command, SetLimit) else None
        before = setting_of(command, self.in_force)
        limit = before if isinstance(before, GroupLimitChanged) else program or GroupLimit()
        num_workers = 0 if self._local is None else self._local.number
        # Before the command is carried out: a pause wakes idle workers.
        running = self._running if group is None else len(self._running_of(group))
        groups = self._dispatcher.groups
        is_known = group is None or running > 0 or (groups is not None and groups.has(group))
        change = change_of(command, self.in_force, self._program_workers, program)
        if change is not None:
            event = self._stream.emit(change)
            self.in_force.apply(event)
            self._obey(event)
        return Answer(
            changed=change is not None,
            is_stopping=self._stopping.stage is not Stage.RUNNING,
            running=running,
            since=0.0 if before is None else before.at,
            by="" if before is None else before.by,
            num_workers=num_workers,
            concurrent=limit.concurrent,
            per_second=limit.per_second,
            is_known=is_known,
            groups={} if is_known or groups is None else groups.largest(),
        )

    def begin(self, command: OnItems, on_done: Callable[[Answer | SteeringError], None]) -> None:
        """Carry out a command on items, so that the event loop isn't blocked for long.

        Parameters:
            command: the command.
            on_done: called in the loop with what came of it, which isn't committed yet, or with why it can't be carried out.
        """
        self._item_commands.begin(command, on_done)

    def _stop(self, command: Stop) -> Answer:
        stopping = self._stopping
        wanted = Stage.CANCELLING if command.now else Stage.STOPPING
        changed, running = stopping.stage < wanted, self._running  # a stop wakes idle workers
        if changed:
            stopping.stop(f"stopped by {visible(person(command.by), 300)}", cancel=command.now, by=command.by)
        number = 0 if self._local is None else self._local.number
        return Answer(changed=changed, is_stopping=True, running=running, num_workers=number, reason=stopping.reason)

    def _obey(self, event: Event) -> None:
        match event:
            case RunPaused():
                self._stopping.pause()
                self._timers.after(REMIND_S, partial(self._remind, event))
            case RunUnpaused():
                self._stopping.unpause()
            case RunWorkersChanged() if self._local is not None:
                self._local.change(event.num_workers)
            case GroupPaused():
                self._limits.paused.add(event.group)
            case GroupUnpaused():
                self._limits.paused.discard(event.group)
                self._dispatcher.wake_all()  # also what waits to run an item of the group alone
            case GroupLimitChanged() if event.is_default:
                self._limits.changed.pop(event.group, None)
            case GroupLimitChanged():
                self._limits.changed[event.group] = Limit(event.concurrent, event.per_second)
            case _:
                pass
        if isinstance(event, GroupPaused | GroupUnpaused | GroupLimitChanged):
            self._dispatcher.reconsider(event.group, self._running_of(event.group))

    @property
    def _running(self) -> int:
        """How many workers run something."""
        return max(len(self._workers.present) - len(self._dispatcher.idle), 0)

    def _running_of(self, group: str) -> list[Node]:
        """Return the nodes of `group` whose `process` runs."""
        return [node for node, worker in self._workers.running("process") if node.group == group]

    def _program_limit(self, group: str | None) -> GroupLimit | None:
        """Return the program's own limit of a group; None if `limits` is a function that raises for it."""
        if group is None:
            return None
        try:
            limit = self._limits.program(group)
        except Exception as error:  # the user's code
            warn(f"limits raised {visible_repr(error)} for the group {visible_repr(group)}, which a command has named")
            return None
        return GroupLimit(*plain_numbers(limit))

    def _remind(self, pause: RunPaused) -> None:
        if self.in_force.paused is pause and self._stopping.stage is Stage.RUNNING:
            self.remind(pause)
            self._timers.after(REMIND_S, partial(self._remind, pause))
