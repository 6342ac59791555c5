"""However a class is edited between two processes of a run: nothing is done twice, and what can't be known is refused."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, ClassVar, Final

import hypothesis.strategies as st
import msgspec
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import Phase, note, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

import aqueue
from aqueue import Backend, EnqueueFn, Item, ItemFailures, Retry, SetDescFn, run_queue
from aqueue.errors import AqueueError
from aqueue.events import Event, ItemCompleted, ItemEnqueued, RunFinished
from tests.journal.edited import EDITS, KINDS, Field, Shape, forget, make
from tests.journal.oracle import Story, told_by
from tests.journal.recorded import cut, events_of

_FIRST: Final = (Field("number", "int", given="n"), Field("site", "str", given="'s'"))
_MEMORY: Final = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where files are in memory: commits to a disk would take most of the time."""

_POLICIES: Final = {"track_overall", "after_children_rule", "previous_names", "retry", "timeout_s"}

Attributes = dict[str, Any]


class Halted(Exception):
    """What the parent raises when the run is stopped."""


class Book(Item):
    """Enqueues what the process is to do."""

    retry = Retry(attempts=2, first_s=0.0)
    now: ClassVar["Process"]

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        now = type(self).now
        for number in now.numbers:
            enqueue(now.new(number))
            for _ in range(now.pace):
                await checkpoint()
        for _ in range(4):
            await checkpoint()
        if now.stop_after is not None:
            raise Halted


@dataclass
class Process:
    """One process of the run.

    Attributes:
        shape: what the class looks like.
        numbers: those of the items that the program has.
        pace: how often the parent lets others run after each child.
        stop_after: after how many items the run is stopped; None for never.
        new: makes the item of a number.
        ran: the numbers that the run gave the items that ran, each with the number that it has by its attributes.
    """

    shape: Shape
    numbers: list[int]
    pace: int
    stop_after: int | None
    new: Any = None
    ran: list[tuple[int, Any]] = field(default_factory=list)

    async def tell(self, item: Any) -> None:
        self.ran.append((aqueue.current().id, getattr(item, self.shape.identifying, None)))
        if len(self.ran) == self.stop_after:
            aqueue.stop("enough")
        await checkpoint()


class Recorded(msgspec.Struct):
    """A recorded child.

    Attributes:
        type: its class, as announced.
        attributes: what it was announced with.
        taken: whether a new one is the same, and by which rule.
    """

    type: str
    attributes: Attributes
    taken: int = 0


def attributes_in(payload: msgspec.Raw | bytes, key: str | None = None) -> Attributes:
    """Return the attributes in a payload, with the key as one more."""
    read = json.loads(bytes(payload))
    found = {name: value for name, value in read.items() if name == "$dump" or not name.startswith("$")}
    for part in ("$extra", "$private"):
        found.update(read.get(part, {}))
    return found | ({} if key is None else {"key": key})


def are_alike(one: Attributes, other: Attributes) -> bool:
    """Tell whether two sets of attributes have some in common, and all of those are equal."""
    common = one.keys() & other.keys()
    return bool(common) and all(map(partial(same, one, other), common))


def same(one: Attributes, other: Attributes, name: str) -> bool:
    """Tell whether both have an equal attribute of that name; 1 and "1" are not equal."""
    return json.dumps(one[name], sort_keys=True) == json.dumps(other[name], sort_keys=True)


class Verdicts:
    """What may become of each child that a parent enqueues: ``same``, ``new`` or ``refused``.

    That is what the documentation says of adoption, by the plainest means.
    """

    def __init__(self, recorded: Sequence[Recorded], shape: Shape) -> None:
        self._shape = shape
        self._mine = [
            Recorded(child.type, self._loaded(child.attributes)) for child in recorded if child.type in shape.names
        ]
        self._others = len(self._mine) < len(recorded)

    def of(self, number: int) -> set[str]:
        """Return what may become of the item of this number, which is enqueued after those asked for before."""
        wanted = self._shape.attributes(number)
        if not self._mine:
            return {"refused"} if self._others else {"new"}
        for child in self._mine:
            if not child.taken and self._is_same(child.attributes, wanted):
                child.taken = 1
                return {"same"}
        changed = [child for child in self._mine if child.attributes.keys() != wanted.keys()]
        alike = [child for child in changed if are_alike(child.attributes, wanted)]
        if len(alike) == 1 and not alike[0].taken:
            alike[0].taken = 2
            return {"same"}
        if alike:
            # One that was the same by all that it has is not in doubt, and another one like it may be new.
            return {"refused", "new"} if all(child.taken == 1 for child in alike) else {"refused"}
        apart = [child for child in changed if not child.attributes.keys() & wanted.keys()]
        if apart and len(changed) == len(self._mine):
            return {"refused"} if len(apart) == len(changed) else {"refused", "new"}
        return {"new"}

    @property
    def _defaults(self) -> Attributes:
        return {one.name: eval(one.default) for one in self._shape.fields if one.default}

    def _loaded(self, recorded: Attributes) -> Attributes:
        """Return recorded attributes as dump() gives them of what load() makes of them, if the class has both and it can."""
        found = recorded.get("$dump", recorded)
        taken = {one.name: found[one.name] for one in self._shape.fields if one.given and one.name in found}
        filled = self._defaults | taken
        if not self._shape.dumps or len(filled) < len(self._shape.fields):
            return recorded
        return {"$dump": filled} | {name: value for name, value in recorded.items() if name == "key"}

    def _is_same(self, recorded: Attributes, wanted: Attributes) -> bool:
        if "key" in recorded and "key" in wanted:
            return bool(recorded["key"] == wanted["key"])
        filled = {**({} if self._shape.dumps else self._defaults), **recorded}
        return filled.keys() == wanted.keys() and all(map(partial(same, filled, wanted), wanted))


class ClassChanges(RuleBasedStateMachine):
    """A run whose processes are stopped or killed, and whose class is edited in between.

    Attributes:
        good: what the class looked like when it was not refused last, and the numbers of the items that the program had.
    """

    def __init__(self, kind: str, backend: Backend) -> None:
        super().__init__()
        self.folder = Path(mkdtemp(dir=_MEMORY))
        self.path = self.folder / "0.db"
        self.backend = backend
        self.shape = Shape(kind, _FIRST)
        self.good: tuple[Shape, list[int]] = self.shape, []
        self.cuts = 0
        self.kills_in_a_row = 0
        self.is_sound = False  # also while a check fails

    @initialize(
        are_initial=st.booleans(),
        numbers=st.sampled_from([[0, 1, 2], [0, 1, 2, 3, 4], [0], [0, 0, 1]]),
        pace=st.integers(0, 2),
        num_workers=st.integers(1, 3),
        kill_at=st.integers(20, 100),
    )
    def begin(self, are_initial: bool, numbers: list[int], pace: int, num_workers: int, kill_at: int) -> None:
        """Run the program for the first time."""
        self.are_initial = are_initial
        self.numbers = list(numbers)
        self.pace = pace
        self.num_workers = num_workers
        self.run_and_cut(kill_at)

    @rule(data=st.data())
    def edit(self, data: st.DataObject) -> None:
        """Edit the class."""
        edits = [name for name, edit in EDITS.items() if self.may_be(edit(self.shape))]
        self.shape = EDITS[data.draw(st.sampled_from(edits), label="edit")](self.shape)

    def may_be(self, shape: Shape) -> bool:
        """Tell whether the class may look like this now."""
        has_equal = len(set(self.numbers)) < len(self.numbers)  # two items of one key would be one
        return shape != self.shape and not (has_equal and shape.key)

    @rule()
    def find_more(self) -> None:
        """Let the program have an item more."""
        if max(self.numbers) < 6:
            self.numbers.append(max(self.numbers) + 1)

    @rule()
    def find_fewer(self) -> None:
        """Let the program not have one of its items any more."""
        if len(self.numbers) > 1:
            del self.numbers[0]

    @rule(kill_at=st.integers(0, 100))
    def kill(self, kill_at: int) -> None:
        """Run the program, and leave of the journal what it had after so many percent of its new events."""
        if self.kills_in_a_row == 2:  # after three in a row aqueue looks for an item that ends the process
            self.run(kill_at % 4)
        else:
            self.run_and_cut(kill_at)

    def run_and_cut(self, kill_at: int) -> None:
        """Do what `kill` does."""
        begun, kills = len(self.events), self.kills_in_a_row
        self.run(None)
        after = self.events
        end = next((one.seq for one in after[begun:] if isinstance(one, ItemCompleted) and self.is_book(one.item)), 0)
        last = end - 1 if end else len(after)
        self.cuts += 1
        self.path = cut(self.path, begun + (last - begun) * kill_at // 100, self.folder / f"{self.cuts}.db")
        self.kills_in_a_row = kills + 1

    @rule(after=st.integers(0, 3))
    def stop(self, after: int) -> None:
        """Run the program until it is stopped: after so many items, or when its parent has failed."""
        self.run(after)

    def teardown(self) -> None:
        """Let the program go on to its end; everything has been done, and once."""
        try:
            if self.is_sound:
                self.run(None)
                story = told_by(self.events)
                assert set(story.state.values()) == {"closed"}, story.state
        finally:
            forget()
            shutil.rmtree(self.folder)

    @property
    def events(self) -> list[Event]:
        """The events in the journal."""
        return events_of(self.path) if self.path.exists() else []

    def is_book(self, item: int) -> bool:
        """Tell whether an item is the parent."""
        return not self.are_initial and item == 1

    def run(self, stop_after: int | None) -> None:
        """Run the program as it is edited; if it is refused, put it back as it was and run that."""
        if not self.go(self.shape, stop_after):
            self.shape, self.numbers = self.good[0], list(self.good[1])
            assert self.go(self.shape, stop_after), "it was put back, and is refused all the same"
        self.good = self.shape, list(self.numbers)

    def go(self, shape: Shape, stop_after: int | None) -> bool:
        """Run the program once, and check what was recorded; return whether it was not refused."""
        self.is_sound = False
        before = self.events
        process = Process(shape, self.numbers, self.pace, stop_after)
        process.new = make(shape, process.tell)
        note(shape.source().partition("import Item, Retry")[2])
        Book.now = process
        refusal = ""
        try:
            run_queue(
                map(process.new, self.numbers) if self.are_initial else [Book()],
                resume=self.path,
                reporter="none",
                num_workers=self.num_workers,
                backend=self.backend,
                on_error="stop",
            )
        except ItemFailures as failures:
            refusal = self.refusal_in(failures)
        except AqueueError as error:
            refusal = type(error).__name__
        events = self.events
        note(f"{refusal or 'not refused'}; events {len(before) + 1} to {len(events)}, ran: {process.ran}")
        self.kills_in_a_row *= not isinstance(events[-1], RunFinished)  # one that ends by itself is no crash
        story = told_by(events)
        self.check_runs(before, process, story)
        if not any(isinstance(one, ItemCompleted) and self.is_book(one.item) for one in before):
            self.check_announced(before, events, process, refusal)
        self.is_sound = True
        return not refusal

    def refusal_in(self, failures: ItemFailures) -> str:
        """Return the name of what the parent was refused with."""
        names = {type(error).__name__ for error in failures.exceptions}
        assert names <= {"AdoptionMismatch", "Halted"}, failures.exceptions
        return "AdoptionMismatch" if "AdoptionMismatch" in names else ""

    def check_runs(self, before: list[Event], process: Process, story: Story) -> None:
        """Check that nothing ran twice, or after it had been recorded as completed, and that each ran as what it is."""
        completed = {event.item for event in before if isinstance(event, ItemCompleted)}
        times = Counter(item for item, _ in process.ran)
        assert not completed & times.keys(), "an item that was recorded as completed ran again"
        assert all(count == 1 for count in times.values()), "an item ran twice"
        for item, number in process.ran:
            announced = attributes_in(story.enqueued[item].payload).get(process.shape.identifying)
            assert None in (announced, number) or str(announced) == str(number), "an item ran as another one"

    def check_announced(self, before: list[Event], events: list[Event], process: Process, refusal: str) -> None:
        """Check that what was announced is new, that nothing was refused without need, and nothing let pass."""
        old = [one for one in before if isinstance(one, ItemEnqueued) and not self.is_book(one.item)]
        announced = [
            attributes_in(one.payload, one.key)
            for one in events[len(before) :]
            if isinstance(one, ItemEnqueued) and not self.is_book(one.item)
        ]
        shape = process.shape
        wanted = [shape.attributes(number) for number in self.numbers]
        known = [attributes_in(one.payload, one.key) for one in old if one.type in shape.names]
        for attributes in announced:
            assert not _POLICIES & attributes.keys()
            known.append(attributes)
            times = sum(are_alike(one, attributes) for one in known)
            assert times <= wanted.count(attributes), f"announced twice: {attributes}, recorded: {known}"
        if refusal in ("UnknownItemType", "PayloadMismatch"):
            assert self.cannot_be_restored(before, shape, refusal), "it could be restored"
            assert events == before
            return
        assert self.cannot_be_restored(before, shape, "") != "surely", "it was restored"
        verdicts = Verdicts([Recorded(one.type, attributes_in(one.payload, one.key)) for one in old], shape)
        left = iter(announced)
        following = next(left, None)
        keys = {key for one in before if (key := getattr(one, "key", None)) is not None}
        for number, attributes in zip(self.numbers, wanted, strict=True):
            allowed = verdicts.of(number)
            if "new" in allowed and attributes == following:
                following = next(left, None)
            elif allowed != {"same"} and attributes.get("key") in keys:  # a duplicate, also where it would be refused
                continue
            elif "same" not in allowed:
                assert "refused" in allowed, f"{attributes} was not announced"
                assert refusal, f"not refused: {attributes}"
                break
        else:
            assert not refusal, "refused without need"
        assert following is None, f"announced, though it is not new: {following}"

    def cannot_be_restored(self, before: list[Event], shape: Shape, refusal: str) -> str:
        """Tell whether the items that are left can't be restored, ``surely`` or ``maybe``."""
        story = Story(before)
        found = ""
        for item, event in story.enqueued.items():
            if self.is_book(item) or story.state[item] == "closed":
                continue
            if event.type not in shape.names:
                return "surely" if refusal in ("", "UnknownItemType") else ""
            if refusal == "UnknownItemType":
                continue
            found = found or self.is_mismatch(bytes(story.payloads[item]), shape)
        return found

    def is_mismatch(self, payload: bytes, shape: Shape) -> str:
        """Tell whether today's class takes what was recorded."""
        recorded = attributes_in(payload)
        names = recorded.keys()
        if "$dump" in names and shape.dumps:  # load() makes the item of what dump() returned, which may lack a field
            return "maybe" if {one.name for one in shape.fields} - recorded["$dump"].keys() else ""
        if "$dump" in names or shape.dumps:
            return "maybe"
        if b"$unset" in payload and shape.kind != "pydantic":
            return "maybe"
        if shape.kind == "plain":
            return ""
        declared = {one.name for one in shape.fields}
        if names - declared and declared - names:
            return "maybe" if b"$extra" in payload else "surely"
        return "surely" if any(one.name not in names and not one.default for one in shape.fields) else ""


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_done_twice_however_its_class_is_edited(kind: str, backend: Backend) -> None:
    """No completed item runs again, no outstanding one twice; what is refused is announced only once, and goes on later.

    What fails is not made smaller: it is short, and each try takes so long that it would take minutes.
    """

    class Changes(ClassChanges):
        def __init__(self) -> None:
            super().__init__(kind, backend)

    run_state_machine_as_test(
        Changes,
        settings=settings(
            max_examples=20, stateful_step_count=10, report_multiple_bugs=False, phases=[Phase.explicit, Phase.generate]
        ),
    )
