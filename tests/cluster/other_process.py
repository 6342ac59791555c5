"""A lane's objects in another process, which knows nothing of this one's script, asked over a pipe."""

import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from aqueue._cluster.objects import CoordinatorObjects, LaneObjects

ROOT = Path(__file__).parents[2]


class Outcome(NamedTuple):
    """What an item's process came to in the lane."""

    children: list[bytes]
    state: bytes | None
    error: bytes | None


class OtherProcess:
    """A fresh process with a `LaneObjects`. It is given what a coordinator defines before each item."""

    def __init__(self) -> None:
        program = "from tests.cluster.other_process import serve; serve()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        self._given: dict[int, tuple[CoordinatorObjects, int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, cls: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def run(self, coordinator: CoordinatorObjects, item: Any, *above: Any) -> Outcome:
        """Run the process of `item` in the lane.

        Parameters:
            above: its ancestors, the nearest first; their numbers are 2, 3 and so on, the item's own is 1.
        """
        family = [item, *above]
        data = [
            coordinator.dump_item(one, numbers_of(family[index:], index + 1)) for index, one in enumerate(family, 1)
        ]
        _, given = self._given.get(id(coordinator), (coordinator, 0))
        self._given[id(coordinator)] = coordinator, len(coordinator.definitions)
        outcome: Outcome = self._ask("run", id(coordinator), coordinator.definitions[given:], data)
        return outcome

    def call_lifespan(self, coordinator: CoordinatorObjects) -> Any:
        """Return what the lifespan returns in the lane."""
        _, given = self._given.get(id(coordinator), (coordinator, 0))
        self._given[id(coordinator)] = coordinator, len(coordinator.definitions)
        return self._ask("call_lifespan", id(coordinator), coordinator.definitions[given:])

    def _ask(self, *question: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        pickle.dump(question, self._process.stdin)
        self._process.stdin.flush()
        has_answered, answer = pickle.load(self._process.stdout)
        assert has_answered, answer
        return answer


def no_number(value: object) -> None:
    """Say that `value` is no ancestor."""


def no_ancestor(number: int) -> object:
    """Raise: there is no ancestor."""
    raise LookupError(number)


def numbers_of(family: Sequence[object], first: int) -> Callable[[object], int | None]:
    """Return what tells the numbers of the objects in `family`, from `first`."""

    def number(value: object) -> int | None:
        return next((index for index, one in enumerate(family, first) if one is value), None)

    return number


def _run(objects: LaneObjects, data: Sequence[bytes]) -> Outcome:
    family: dict[int, Any] = {}

    def ancestor(number: int) -> Any:
        if number not in family:
            family[number] = objects.load_item(data[number - 1], ancestor)
        return family[number]

    item = objects.load_item(data[0], ancestor)

    def number(value: object) -> int | None:
        if value is item:
            return 1
        return next((number for number, one in family.items() if one is value), None)

    before = objects.dump_state(item, number)
    children: list[bytes] = []
    try:
        item.process(lambda child: children.append(objects.dump_item(child, number)), str).send(None)
    except StopIteration:
        return Outcome(children, objects.changed_state(item, before, number), None)
    except Exception as error:
        return Outcome(children, None, objects.dump_error(error))
    raise AssertionError("it has awaited something")


def _call_lifespan(objects: LaneObjects) -> Any:
    assert objects.definitions.lifespan is not None
    return objects.definitions.lifespan()


def serve() -> None:
    """Answer what is asked on standard input."""
    methods: dict[str, Callable[..., Any]] = {"run": _run, "call_lifespan": _call_lifespan}
    lanes: dict[int, LaneObjects] = {}
    while True:
        try:
            method, coordinator, definitions, *args = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            objects = lanes.setdefault(coordinator, LaneObjects())
            for pickled in definitions:
                objects.definitions.define(pickled)
            answer = True, methods[method](objects, *args)
        except Exception as error:
            answer = False, repr(error)
        pickle.dump(answer, sys.stdout.buffer)
        sys.stdout.buffer.flush()
