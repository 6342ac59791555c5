"""Somebody who steers runs at random, and checks each answer against a plain model of what people have set."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final, get_args
from unittest import mock

import msgspec

from aqueue import Limit
from aqueue._engine.engine import Engine
from aqueue._engine.stopping import Stage
from aqueue._folds.item_table import ItemTable
from aqueue._resume.editing import edit
from aqueue._verbs import (
    Answer,
    AnyCommand,
    Cancel,
    OnItems,
    Pause,
    Retry,
    SeenState,
    SetLimit,
    SetWorkers,
    Skip,
    Stop,
    Unpause,
)
from aqueue.errors import SteeringError
from aqueue.view import InForce
from tests.journal.recorded import events_of

__all__ = ["ALL_STATES", "BY", "Commander", "states_of"]

BY: Final = "anna@laptop via test"

_MAX_HOPS: Final = 25
"""How many iterations of the event loop there are between two commands, at most: a few items start and end meanwhile."""


ALL_STATES: Final[tuple[SeenState, ...]] = get_args(SeenState)

_ON_ITEMS: Final[list[tuple[Callable[..., Retry | Skip | Cancel], set[SeenState]]]] = [
    (Retry, {"failed", "retrying"}),
    (partial(Retry, completed=True), {"completed", "skipped"}),
    (Skip, {"queued", "retrying", "interrupted", "failed"}),
    (partial(Skip, result=msgspec.Raw(b'"by hand"')), {"queued", "retrying", "interrupted", "failed"}),
    (Cancel, {"queued", "retrying", "interrupted"}),
]
"""Commands on items of a run that no process runs, and the states of items to which they apply."""


class Model(msgspec.Struct):
    """What is in force, in the plainest form.

    Attributes:
        paused: the groups that are paused; None stands for the whole run.
        workers: how many workers there are to be.
        limits: the limits that people have set, by group.
    """

    paused: set[str | None]
    workers: int
    limits: dict[str, tuple[int | None, float | None]]

    def apply(self, command: AnyCommand, program: dict[str, tuple[int | None, float | None]]) -> bool:
        """Change what `command` changes, and return whether that is anything."""
        before = msgspec.structs.replace(self, paused=set(self.paused), limits=dict(self.limits))
        match command:
            case Pause():
                self.paused.add(command.group)
            case Unpause():
                self.paused.discard(command.group)
            case SetWorkers():
                self.workers = command.num_workers
            case SetLimit(is_default=True):
                self.limits.pop(command.group, None)
            case SetLimit():
                asked = command.concurrent, command.per_second
                if self.limits.get(command.group, program.get(command.group)) != asked:
                    self.limits[command.group] = asked
            case _:
                raise AssertionError(command)
        return self != before


class Commander:
    """Gives commands to runs, each some iterations of the loop after the one before.

    It ends by unpausing all that is paused, so that no run waits for ever.

    Attributes:
        given: the commands that changed something.
        answers: the commands on items of live runs, and what came of them.
        num_refused: how many of these came after the end of the run, or at once for items that are spilled, or can't be carried out on a
            cluster.
    """

    def __init__(
        self,
        random: Random,
        groups: Iterable[str] = (),
        limits: dict[str, Limit] | None = None,
        *,
        may_stop: bool = False,
        steers_items: bool = False,
    ) -> None:
        """Choose by `random`, among these groups.

        Parameters:
            random: chooses.
            groups: the groups that are named.
            limits: those of the program.
            may_stop: whether a run may be stopped.
            steers_items: whether items of live runs, which have journals, are retried, skipped and cancelled.
        """
        self.given: list[AnyCommand] = []
        self.answers: list[tuple[OnItems, Answer]] = []
        self.num_refused = 0
        self._steers_items = steers_items
        self._random = random
        self._groups = list(groups)
        self._limits = limits or {}
        self._may_stop = may_stop
        self._error: BaseException | None = None

    def command(self) -> AnyCommand:
        """Return a command."""
        random = self._random
        group = random.choice(self._groups) if self._groups else None
        verbs = ["pause", "unpause", "workers"]
        verbs += ["pause group", "unpause group", "limit", "limit", "default"] if group is not None else []
        verbs += ["stop"] if self._may_stop and random.random() < 0.3 else []
        match random.choice(verbs):
            case "pause":
                return Pause(by=BY)
            case "unpause":
                return Unpause(by=BY)
            case "pause group":
                return Pause(by=BY, group=group)
            case "unpause group":
                return Unpause(by=BY, group=group)
            case "workers":
                return SetWorkers(by=BY, num_workers=random.choice([1, 1, 2, 3, 6]))
            case "limit":
                assert group is not None
                return SetLimit(
                    by=BY,
                    group=group,
                    concurrent=random.choice([None, 1, 2]),
                    per_second=random.choice([None, None, 50.0, 200.0]),
                )
            case "default":
                assert group is not None
                return SetLimit(by=BY, group=group, is_default=True)
            case _:
                return Stop(by=BY, now=random.random() < 0.3)

    def _program(self) -> dict[str, tuple[int | None, float | None]]:
        limits = {group: self._limits.get(group, self._limits.get("*", Limit())) for group in self._groups}
        return {group: (limit.concurrent, limit.per_second) for group, limit in limits.items()}

    # ---- runs that are live -------------------------------------------------------------------------------------

    @contextmanager
    def steering(self, commands: int) -> Iterator[None]:
        """Give so many commands to each run that begins within the ``with`` block; raise what went wrong."""
        add_initial = Engine.add_initial

        async def begin(engine: Engine, *arguments: Any) -> None:
            self._begin(engine, commands)
            await add_initial(engine, *arguments)

        with mock.patch.object(Engine, "add_initial", begin):
            yield
        if self._error is not None:
            raise self._error

    def _begin(self, engine: Engine, commands: int) -> None:
        parts, random = engine.parts, self._random
        call_soon = parts.for_items.call_soon
        model = _model_of(engine.steering.in_force, engine._local.number if engine._local is not None else 0)
        hops, left = random.randint(0, _MAX_HOPS), commands

        def hop() -> None:
            nonlocal hops, left
            if parts.stopping.stage is Stage.ENDED or self._error is not None:
                return
            if hops:
                hops -= 1
                call_soon(hop)
                return
            if not left and not model.paused:
                return
            try:
                last = parts.intake.last_id
                if left and self._steers_items and last and random.random() < 0.6:
                    left -= 1
                    self._give_on_items(engine, self._on_items(last))
                    hops = random.randint(0, _MAX_HOPS)
                    call_soon(hop)
                    return
                if left:
                    left -= 1
                    command = self.command()
                else:
                    command = Unpause(by=BY, group=min(model.paused, key=str))
                self._give(engine, command, model)
            except BaseException as error:  # in a callback of the loop it would end the whole loop
                self._error = error
                return
            hops = random.randint(0, _MAX_HOPS)
            call_soon(hop)

        call_soon(hop)

    def _give(self, engine: Engine, command: AnyCommand, model: Model) -> None:
        steering, stopping = engine.steering, engine.parts.stopping
        if isinstance(command, Stop):
            wanted = Stage.CANCELLING if command.now else Stage.STOPPING
            before = stopping.stage
            answer = steering.apply(command)
            assert answer.changed == (before < wanted), (command, answer)
            assert stopping.stage is max(before, wanted)
            return
        if isinstance(command, SetWorkers) and engine._local is None:
            try:
                steering.apply(command)
            except SteeringError:
                return
            raise AssertionError("a run on a cluster must refuse another number of workers")
        changed = model.apply(command, self._program())
        answer = steering.apply(command)
        self._note(command, answer, changed=changed)
        assert answer.is_live
        assert answer.is_stopping == (stopping.stage is not Stage.RUNNING)
        limits = engine.parts.limits
        assert stopping.is_paused == (None in model.paused)
        assert limits.paused == model.paused - {None}
        assert {name: (one.concurrent, one.per_second) for name, one in limits.changed.items()} == model.limits
        assert engine._local is None or engine._local.number == model.workers
        assert _model_of(steering.in_force, model.workers) == model

    def edit_items(self, journal: Path) -> None:
        """Give a command on some items of the run in `journal`, which no process runs; the answer counts those that it applies to."""
        random = self._random
        states = states_of(journal)
        verb, applies = random.choice(_ON_ITEMS)
        numbers = [item for item, state in states.items() if state in applies or random.random() < 0.1]
        items = {
            item: states[item] for item in random.sample(numbers, min(random.choice([1, 1, 2, 4, 99]), len(numbers)))
        }
        if random.random() < 0.1:
            items = dict.fromkeys(items, random.choice(["failed", "queued", "running", "interrupted"]))
        chosen = sum(
            states[item] in applies and (states[item] == state or {states[item], state} == {"queued", "interrupted"})
            for item, state in items.items()
        )
        by_state: dict[SeenState, list[int]] = {}
        for item, state in items.items():
            by_state.setdefault(state, []).append(item)
        answer = edit(journal, verb(by=BY, selector="these", items=by_state))
        assert (answer.is_live, answer.count, answer.changed) == (False, chosen, chosen > 0), (verb, items, answer)
        assert chosen + sum(answer.others.values()) == len(items)

    def _on_items(self, last: int) -> Retry | Skip | Cancel:
        """Return a command on some of the items up to the number `last`, which are in any state."""
        random = self._random
        numbers = sorted({random.randint(1, last) for _ in range(random.choice([1, 1, 2, 5, 20]))})
        states = ALL_STATES if random.random() < 0.7 else random.sample(ALL_STATES, 2)
        make = random.choice([make for make, _ in _ON_ITEMS])
        return make(by=BY, selector="some", items=dict.fromkeys(states, numbers))

    def _give_on_items(self, engine: Engine, command: Retry | Skip | Cancel) -> None:
        if self._random.random() < 0.7:
            engine.steering.begin(command, partial(self._note_on_items, command))
            return
        try:
            self._note_on_items(command, engine.steering.apply(command))
        except SteeringError as error:
            self._note_on_items(command, error)

    def _note_on_items(self, command: OnItems, answer: Answer | SteeringError) -> None:
        if isinstance(answer, Answer):
            numbers = {number for numbers in command.items.values() for number in numbers}
            if answer.count + sum(answer.others.values()) != len(numbers):
                self._error = AssertionError(f"{answer} is not about all of {numbers}")
            self.answers.append((command, answer))
        else:
            self.num_refused += 1
            if not any(why in str(answer) for why in ("has ended", "in a thread", "another command", "on a cluster")):
                self._error = answer

    def _note(self, command: AnyCommand, answer: Answer, *, changed: bool) -> None:
        assert answer.changed == changed, (command, answer)
        if changed:
            self.given.append(command)

    # ---- runs that are not --------------------------------------------------------------------------------------

    def edit(self, journal: Path, in_force: InForce, num_workers: int, commands: int) -> None:
        """Give so many commands to the run in `journal`, which no process runs.

        Parameters:
            journal: its journal.
            in_force: what people have set so far.
            num_workers: how many workers the program passed to its last process.
            commands: how many.
        """
        model = _model_of(in_force, num_workers)
        for _ in range(commands):
            if self._random.random() < 0.6:
                self.edit_items(journal)
                continue
            command = self.command()
            answer = edit(journal, command)
            assert not answer.is_live
            if isinstance(command, Stop):
                assert not answer.changed
            else:
                # What the program's own limits are isn't known without it.
                self._note(command, answer, changed=model.apply(command, {}))


def states_of(journal: Path) -> dict[int, SeenState]:
    """Return the state of each item of the run in `journal`, which no process runs, as lists show it."""
    items = ItemTable()
    items.apply(events_of(journal))
    items.lose_workers()
    return {items.item_of(row): items.state_of(row) for row in range(len(items))}


def _model_of(in_force: InForce, num_workers: int) -> Model:
    paused: set[str | None] = {*in_force.paused_groups}
    if in_force.paused is not None:
        paused.add(None)
    limits = {name: (one.concurrent, one.per_second) for name, one in in_force.limits.items()}
    return Model(paused, num_workers if in_force.workers is None else in_force.workers.num_workers, limits)
