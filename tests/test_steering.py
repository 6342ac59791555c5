"""Commands on items, by `aqueue.steering`: which items they name, in how many commands, and what the answers add up to."""

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from anyio import to_thread
from msgspec import Raw

from aqueue import Backend, EnqueueFn, Item, ItemFailures, SetDescFn, run_queue, steering
from aqueue._verbs import (
    CANCELLED_STATES,
    MAX_LINE_BYTES,
    MAX_RESULT_BYTES,
    RETRIED_STATES,
    SKIPPED_STATES,
    Answer,
    AnyCommand,
    Cancel,
    Retry,
    Skip,
    command_of,
    line_of,
)
from aqueue.errors import InvalidArgument, JournalError, MisplacedCall, NotAJournal, SteeringError
from aqueue.events import NO_DATA, ItemSkipped, RunSteered
from aqueue.steering import Selection, Selector
from aqueue.testing._scripted_runs import BOOM, Script
from tests.cli.scripted import write_log
from tests.engine.invariants import check_events
from tests.journal.recorded import events_of
from tests.journal.writing import write

MAX_ITEMS: Final = 10_000
"""Fewer than there are, since the tests need several times as many."""

OnItems = Retry | Skip | Cancel
Commands = list[OnItems]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Return a list of the commands that a run gets, each of which applies to all of its at most 10,000 items but one per state."""
    monkeypatch.setattr(steering, "MAX_ITEMS", MAX_ITEMS)
    commands: Commands = []

    def carry_out(run: object, command: AnyCommand) -> Answer:
        assert command_of(line_of(command)) == command
        assert len(line_of(command)) <= MAX_LINE_BYTES
        assert isinstance(command, OnItems)
        assert 0 < sum(map(len, command.items.values())) <= vars(steering)["MAX_ITEMS"]
        commands.append(command)
        applied = sum(len(numbers) - 1 for numbers in command.items.values())
        return Answer(changed=applied > 0, count=applied, others={"hook": len(command.items)}, running=len(commands))

    monkeypatch.setattr(steering, "_carry_out", carry_out)
    return commands


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return the journal of a run that was killed: its item 1 has completed, and below it each item has another state."""
    script = Script()
    top = script.enqueue("shop:Front", hook=True)
    script.start(top, "shop:Front")
    items = [script.enqueue("shop:Page", parent=top, key=f"page {number}") for number in range(2, 9)]
    script.complete(top)
    failed, again, retried, _, running, interrupted, skipped = items
    for item in (failed, again):
        script.start(item, "shop:Page")
        script.fail(item, BOOM, "shop:Page")
    script.start(retried, "shop:Page")
    script.fail_for_now(retried, due_in_s=60.0)
    script.start(running, "shop:Page", worker=2)
    script.start(interrupted, "shop:Page", worker=3)
    script.interrupt(interrupted)
    script.skip(skipped, "shop:Page")
    write(tmp_path / "run.db", script.events)
    return tmp_path / "run.db"


ALL = {
    "completed": [1],
    "failed": [2, 3],
    "retrying": [4],
    "queued": [5],
    "interrupted": [6, 7],
    "skipped": [8],
}
"""The items of `run` by state."""


def selection(items: dict[Any, Any], words: str = "--all") -> Selection:
    """Return a selection of these items."""
    return Selection(selector=words, items=items, types={}, sample=None, hooks=0, unknown=[], is_live=True)


def test_select_shows_what_a_command_would_be_about(run: Path) -> None:
    """Numbers by state, classes, an example with what is known of it, and the hook that can run afterwards."""
    found = steering.select(run, Selector(subtree=1))
    assert found.items == ALL
    assert (found.count, found.types, found.unknown) == (8, {"shop:Page": 7, "shop:Front": 1}, [])
    assert not found.is_live
    found = steering.select(run, Selector(error="Boom", key="page 3"))
    assert (found.items, found.selector) == ({"failed": [3]}, "--error Boom --key 'page 3'")
    assert found.sample is not None
    assert (found.sample.item, found.sample.type, found.sample.state) == (3, "shop:Page", "failed")
    assert (found.sample.label, found.sample.error) == ("page 3", BOOM)
    assert found.hooks == 0  # since item 2 has failed, too
    assert steering.select(run, Selector(items=[2, 3])).hooks == 1


def test_select_needs_a_selector_and_a_journal(run: Path, tmp_path: Path) -> None:
    """Nothing given is not everything."""
    with pytest.raises(InvalidArgument, match="select something"):
        steering.select(run, Selector())
    with pytest.raises(InvalidArgument, match=r"selector is .* must be a Selector"):
        steering.select(run, [2])  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="run is None"):
        steering.select(None, Selector(items=[2]))  # type: ignore[arg-type]
    with pytest.raises(JournalError, match="there is no journal at"):
        steering.select(tmp_path / "none.db", Selector(items=[2]))
    with pytest.raises(NotAJournal):
        steering.select(write_log(tmp_path, Script().events), Selector(items=[2]))


@pytest.mark.parametrize(
    ("verb", "states"),
    [
        (steering.retry, RETRIED_STATES),
        (lambda run, items: steering.retry(run, items, completed=True), ("completed", "skipped")),
        (steering.skip, SKIPPED_STATES),
        (steering.cancel, CANCELLED_STATES),
    ],
    ids=["retry", "retry completed", "skip", "cancel"],
)
def test_command_names_items_that_it_applies_to_by_their_states(
    run: Path, sent: Commands, verb: Callable[..., Answer], states: tuple[str, ...]
) -> None:
    """A selector without states means these; numbers in other states are counted, and so are those that no item has."""
    expected = {state: numbers for state, numbers in ALL.items() if state in states}
    others = {state: len(numbers) for state, numbers in ALL.items() if state not in states}
    kept = {"hook": len(expected)}
    assert verb(run, Selector(subtree=1)).others == kept
    assert verb(run, steering.select(run, Selector(subtree=1))).others == others | kept
    assert verb(run, [*range(1, 9), 2, 99]).others == others | kept | {"unknown": 1}
    assert [command.items for command in sent] == [expected] * 3


def test_words_of_the_person_are_in_the_command(run: Path, sent: Commands) -> None:
    """They are recorded with it; what no encoding has is replaced, and what is too long is cut."""
    steering.retry(run, Selector(text="page"), completed=True, via="page")
    steering.cancel(run, [5, 4])
    steering.skip("run.db", selection({"failed": [2]}, "--text \ud800"))
    assert [command.selector for command in sent] == [
        "--state completed --state skipped --text page",
        "5 4",
        "--text \ufffd",
    ]


def test_nothing_is_sent_if_it_applies_to_nothing(run: Path, sent: Commands) -> None:
    """The answer says why, and that nothing has changed."""
    assert steering.retry(run, [1, 5, 99]) == Answer(
        changed=False, is_live=False, others={"completed": 1, "queued": 1, "unknown": 1}
    )
    assert steering.skip(run, []) == Answer(changed=False, is_live=False)
    assert steering.cancel(run, Selector(key="none")) == Answer(changed=False, is_live=False)
    assert not sent


def test_many_items_take_several_commands(sent: Commands) -> None:
    """Each has at most 10,000, whatever their states; the answers are added up, and the last one says the rest."""
    failed, retrying = list(range(1, 25_001)), list(range(30_001, 34_001))
    answer = steering.retry("run.db", selection({"failed": failed, "retrying": retrying, "queued": [9]}))
    assert [{state: len(numbers) for state, numbers in one.items.items()} for one in sent] == [
        {"failed": 10_000},
        {"failed": 10_000},
        {"failed": 5_000, "retrying": 4_000},
    ]
    assert [number for one in sent for number in one.items.get("failed", ())] == failed
    assert answer == Answer(count=29_000 - 4, others={"queued": 1, "hook": 4}, running=3)


def test_command_never_gets_too_long_for_the_run(sent: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers have 19 digits, the result is the longest that is allowed, and the words need escapes."""
    monkeypatch.setattr(steering, "MAX_ITEMS", 100_000)
    numbers = list(range(sys.maxsize - 120_000, sys.maxsize))
    items = selection({"queued": numbers[:5], "failed": numbers[5:]}, "\x1b" * 100_000)
    steering.skip("run.db", items, result="x" * (MAX_RESULT_BYTES - 2))
    assert len(sent) > 2
    assert [number for one in sent for of_state in one.items.values() for number in of_state] == numbers


def test_without_a_run_the_running_one_looks_at_the_states(sent: Commands) -> None:
    """Each number comes in all states that the command applies to, in one command."""
    steering.skip(None, range(1, 2_501))
    assert [{state: len(numbers) for state, numbers in one.items.items()} for one in sent] == [
        dict.fromkeys(SKIPPED_STATES, 2_000),
        dict.fromkeys(SKIPPED_STATES, 500),
    ]
    for items in (Selector(items=[1]), selection({"failed": [1]})):
        with pytest.raises(InvalidArgument, match="it must be the numbers of items, if run is None"):
            steering.skip(None, items)


def test_outside_an_item_a_run_must_be_named() -> None:
    """As for the other verbs."""
    with pytest.raises(MisplacedCall, match="which run"):
        steering.retry(None, [1])


@pytest.mark.parametrize("items", [5, "17", [0], [1.0], [True], [None]])
def test_what_is_no_number_is_refused(run: Path, items: Any) -> None:
    """Before anything is read or sent."""
    for of in (run, None):
        with pytest.raises(InvalidArgument):
            steering.retry(of, items)


def test_error_in_the_middle_says_what_was_carried_out(sent: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """The person may repeat the command for the others."""
    carry_out = steering._carry_out

    def fail_later(run: Any, command: AnyCommand) -> Answer:
        if len(sent) == 2:
            raise SteeringError("the disk is full")
        return carry_out(run, command)

    monkeypatch.setattr(steering, "_carry_out", fail_later)
    with pytest.raises(SteeringError, match=r"^the disk is full; before that, it was applied to 19,998 items$"):
        steering.retry("run.db", selection({"failed": list(range(1, 30_001))}))
    with pytest.raises(SteeringError, match=r"^the disk is full$"):
        steering.retry("run.db", selection({"failed": [1]}))


@pytest.mark.parametrize(
    ("result", "data"),
    [
        (None, NO_DATA),
        (0, Raw(b"0")),
        ({"price": 1.5, "tags": ("a", None)}, Raw(b'{"price":1.5,"tags":["a",null]}')),
        ("x" * (MAX_RESULT_BYTES - 2), Raw(b'"%s"' % (b"x" * (MAX_RESULT_BYTES - 2)))),
    ],
    ids=["none", "false", "dict", "long"],
)
def test_result_is_recorded_as_items_record_theirs(run: Path, sent: Commands, result: Any, data: Raw) -> None:
    """None is no result."""
    steering.skip(run, [2], result=result)
    [command] = sent
    assert isinstance(command, Skip)
    assert bytes(command.result) == bytes(data)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({1, 2}, "it must be data made of dicts"),
        (float("nan"), "it must be data made of dicts"),
        (b"x", "it must be data made of dicts"),
        ("x" * MAX_RESULT_BYTES, "has 65,538 bytes as JSON; it must have at most 65,536"),
    ],
    ids=["set", "nan", "bytes", "long"],
)
def test_result_that_can_not_be_recorded_is_refused(run: Path, sent: Commands, result: Any, said: str) -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidArgument, match=said):
        steering.skip(run, [2], result=result)
    assert not sent


def test_flag_must_be_one() -> None:
    """`completed` is no number of items."""
    with pytest.raises(InvalidArgument, match="completed"):
        steering.retry("run.db", [1], completed=1)  # type: ignore[arg-type]


# ---- with a run ---------------------------------------------------------------------------------------------------------


@dataclass
class Page(Item):
    """One that fails until it is fixed."""

    number: int
    is_fixed = False

    @property
    def key(self) -> str:
        return f"page {self.number}"

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        if not self.is_fixed:
            raise TimeoutError(self.key)


@dataclass
class Steersman(Item):
    """Steers its run as `STEER` does, once the pages have failed."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        await STEER[0]()


STEER: Final[list[Callable[[], Awaitable[None]]]] = []


def run_and_steer(path: Path, steer: Callable[[], Awaitable[None]], backend: Backend) -> None:
    """Run three pages, which fail, and then an item that steers the run."""
    STEER[:] = [steer]
    pages = [Page(number) for number in range(1, 4)]
    run_queue([*pages, Steersman()], journal=path, num_workers=1, on_error="continue", reporter="none", backend=backend)


def test_selector_steers_a_live_run(tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is selected from its journal is what its process changes."""
    path = tmp_path / "run.db"
    answers: list[Answer] = []

    async def steer() -> None:
        monkeypatch.setattr(Page, "is_fixed", True)
        while not await to_thread.run_sync(lambda: steering.select(path, Selector(states=["failed"])).count == 3):
            await anyio.sleep(0.005)
        selected = await to_thread.run_sync(partial(steering.select, path, Selector(error="TimeoutError", key="*[12]")))
        assert selected.is_live
        answers.append(await to_thread.run_sync(partial(steering.retry, path, selected)))
        answers.append(await to_thread.run_sync(partial(steering.skip, path, Selector(text="page 3"), result=7)))

    run_and_steer(path, steer, backend)
    assert [(answer.count, answer.is_live, answer.others) for answer in answers] == [(2, True, {}), (1, True, {})]
    events = events_of(path)
    check_events(events)
    steered = [(event.verb, event.selector, event.count) for event in events if isinstance(event, RunSteered)]
    assert steered == [
        ("retry", "--error TimeoutError --key '*[12]'", 2),
        ("skip", " ".join([*(f"--state {state}" for state in SKIPPED_STATES), "--text 'page 3'"]), 1),
    ]
    assert [event.result for event in events if isinstance(event, ItemSkipped)] == [Raw(b"7")]
    assert steering.select(path, Selector(types=["Page"])).items == {"completed": [1, 2], "skipped": [3]}


def test_item_steers_its_own_run_by_numbers(tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run looks at the states of the items, and the answer counts each item once."""
    answers: list[Answer] = []

    async def steer() -> None:
        monkeypatch.setattr(Page, "is_fixed", True)
        answers.append(steering.retry(None, [1, 2, 99]))
        answers.append(steering.skip(None, [3, 1]))

    run_and_steer(tmp_path / "run.db", steer, backend)
    assert [(answer.count, answer.others) for answer in answers] == [(2, {"unknown": 1}), (2, {})]
    found = steering.select(tmp_path / "run.db", Selector(types=["Page"]))
    assert found.items == {"skipped": [1, 3], "completed": [2]}


def test_run_that_is_not_live_is_edited(tmp_path: Path, backend: Backend) -> None:
    """The command holds from the resume on, and repeating it finds nothing to do."""
    path = tmp_path / "run.db"

    async def nothing() -> None: ...

    with pytest.raises(ItemFailures):
        run_and_steer(path, nothing, backend)
    answer = steering.skip(path, Selector(states=["failed"], key="page [12]"))
    assert (answer.count, answer.is_live, answer.changed) == (2, False, True)
    assert steering.skip(path, Selector(states=["failed"], key="page [12]")) == Answer(changed=False, is_live=False)
    assert steering.retry(path, [1, 3]).others == {"skipped": 1}
    assert steering.cancel(path, Selector(subtree=3)).count == 1
    assert steering.select(path, Selector(types=["Page"])).items == {"skipped": [1, 2], "failed": [3]}
