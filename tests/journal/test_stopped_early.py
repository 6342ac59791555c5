"""A signal that comes before the first item: nothing has run, nothing is lost, and the same call goes on."""

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from aqueue import Backend, EnqueueFn, Item, RunInfo, RunResult, SetDescFn, run_queue
from aqueue.events import Event, RunFinished, RunStarted, RunStopping
from aqueue.view import RunView
from tests.journal.recorded import events_of


class Leaf(Item):
    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        pass


class Interrupts:
    """A reporter that is interrupted while it opens."""

    uses_terminal = False

    def open(self, run: RunInfo) -> None:
        signal.raise_signal(signal.SIGTERM)

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        pass

    def close(self, result: RunResult) -> None:
        pass


@pytest.mark.skipif(not hasattr(signal, "SIGTERM"), reason="needs signals")
def test_a_signal_while_reporters_open_is_told_after_the_start(tmp_path: Path, backend: Backend) -> None:
    """The journal begins with the run's start, whatever comes before it; the run is interrupted, and can be resumed."""
    path = tmp_path / "run.db"
    with pytest.raises(SystemExit) as ended:
        run_queue([Leaf()], reporter=Interrupts(), resume=path, backend=backend)
    assert ended.value.code == 128 + signal.SIGTERM
    events = events_of(path)
    assert [type(event) for event in events] == [RunStarted, RunStopping, RunFinished]
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert last.status == "interrupted"
    assert run_queue([Leaf()], reporter="none", resume=path, backend=backend).counts.completed == 1


def interrupted(count: int) -> Iterator[Item]:
    """Yield items; a signal comes before the last."""
    for number in range(count):
        if number == count - 1:
            signal.raise_signal(signal.SIGTERM)
        yield Leaf()


@pytest.mark.parametrize("count", [1, 3])
def test_a_run_stopped_before_all_its_items_were_known_is_not_completed(
    count: int, tmp_path: Path, backend: Backend
) -> None:
    """Whoever asks for its state is not told that all is done; once it goes on, everything runs."""
    path = tmp_path / "run.db"
    with pytest.raises(SystemExit):
        run_queue(interrupted(count), reporter="none", resume=path, backend=backend)
    last = events_of(path)[-1]
    assert isinstance(last, RunFinished)
    assert last.status == "interrupted"
    resumed = run_queue([Leaf() for _ in range(count)], reporter="none", resume=path, backend=backend)
    assert (resumed.status, resumed.counts.completed) == ("completed", count)
