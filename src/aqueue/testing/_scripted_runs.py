"""Made-up runs, small and large, as their events, for the suite that reporters must pass."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from aqueue import events as ev
from aqueue.view import RunView

BOOM = ev.ErrorInfo("module:Boom", "it broke", "Traceback (most recent call last):\n  …\nBoom: it broke\n")
ANNA = "anna@host via aqueue"
CANCELLED = ev.ErrorInfo("aqueue.errors:CancelledByUser", f"cancelled by {ANNA}")


class EventOfTheFuture(ev.Event, frozen=True, gc=False, tag="item.dreamt"):
    """An event of a type that no version of aqueue has yet."""

    item: int


class Script:
    """Writes the events of a made-up run."""

    def __init__(self, num_workers: int = 3, cluster: str = "") -> None:
        self.events: list[ev.Event] = []
        self._at = 1_700_000_000.0
        self._items = 0
        self._num_workers = num_workers
        self.begin(ev.RunStarted, cluster=cluster)

    def add(self, cls: type[ev.Event], **fields: Any) -> None:
        """Append an event."""
        self._at += 0.01
        self.events.append(cls(seq=len(self.events) + 1, at=self._at, **fields))

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self._at += seconds

    def begin(self, cls: type[ev.RunStarted], host: str = "host", cluster: str = "") -> None:
        """Start or resume the run."""
        fields = {
            "run_id": "3b1f",
            "schema_version": 1,
            "aqueue_version": "1.0",
            "queue_type_name": "queue",
            "pid": 1234,
        }
        self.add(cls, num_workers=self._num_workers, host=host, cluster=cluster, **fields)

    def join(self, first_worker: int = 1, num_workers: int = 3, host: str = "node", pid: int = 4711) -> None:
        """Let a worker process join."""
        self.add(ev.ProcessJoined, first_worker=first_worker, num_workers=num_workers, host=host, pid=pid)

    def lose(self, first_worker: int = 1, *items: int, ignored: int = 0) -> None:
        """Let a worker process die that was running these items."""
        for item in items[:1]:  # the loss of an item may be recorded before that of the process, or after
            self.interrupt(item, "worker_lost")
        self.add(ev.ProcessLeft, first_worker=first_worker, reason="lost", ignored=ignored)
        for item in items[1:]:
            self.interrupt(item, "worker_lost")

    def enqueue(self, type: str = "module:Page", parent: int = 0, **fields: Any) -> int:
        """Announce an item and return its number."""
        self._items += 1
        self.add(ev.ItemEnqueued, item=self._items, parent=parent, type=type, **fields)
        return self._items

    def start(self, item: int, type: str = "module:Page", worker: int = 1, **fields: Any) -> None:
        """Start an item."""
        self.add(ev.ItemStarted, item=item, type=type, worker=worker, **fields)

    def complete(self, item: int, worker: int = 1, **fields: Any) -> None:
        """Complete an item."""
        self.add(ev.ItemCompleted, item=item, worker=worker, duration_s=0.25, **fields)

    def fail(self, item: int, error: ev.ErrorInfo, type: str = "module:Page", worker: int = 1, **fields: Any) -> None:
        """Let an item fail for good."""
        self.add(ev.ItemFailed, item=item, type=type, worker=worker, duration_s=0.25, error=error, **fields)

    def fail_for_now(self, item: int, due_in_s: float, worker: int = 1, **fields: Any) -> None:
        """Let an attempt fail, with a retry in `due_in_s` seconds."""
        due = self._at + due_in_s
        self.add(ev.ItemRetryScheduled, item=item, worker=worker, error=BOOM, due=due, **fields)

    def interrupt(self, item: int, reason: str = "cancelled", **fields: Any) -> None:
        """Interrupt the attempt at an item."""
        self.add(ev.ItemInterrupted, item=item, reason=reason, worker=self._worker_at(item), **fields)

    def end_hook(self, item: int, type: str = "module:Page", **fields: Any) -> None:
        """Let the hook of an item return."""
        self.add(ev.ItemChildrenProcessed, item=item, type=type, worker=self._worker_at(item), **fields)

    def steer(self, verb: str, selector: str, by: str = ANNA, count: int = 1) -> None:
        """Let a person give a command on items."""
        self.add(ev.RunSteered, verb=verb, selector=selector, count=count, by=by)

    def edit(self, by: str = ANNA) -> None:
        """Let a command append to the run, which no process runs."""
        self.add(ev.RunEdited, schema_version=2, aqueue_version="1.0", by=by)

    def cancel(self, item: int, type: str = "module:Page", by: str = ANNA, **fields: Any) -> None:
        """Let a person cancel an item that waits."""
        self.steer("cancel", str(item), by)
        self.add(ev.ItemFailed, item=item, type=type, worker=0, duration_s=0.0, error=CANCELLED, **fields)

    def skip(self, item: int, type: str = "module:Page", by: str = ANNA, **fields: Any) -> None:
        """Let a person skip an item that doesn't run."""
        self.steer("skip", str(item), by)
        self.add(ev.ItemSkipped, item=item, type=type, **fields)

    def open_again(self, item: int, type: str = "module:Page", **fields: Any) -> None:
        """Reopen an item; one that had ended well is described."""
        self.add(ev.ItemReopened, item=item, type=type, **fields)

    def ended(self, item: int) -> ev.EndedItem:
        """Return what describes an item that has ended well."""
        known = [event for event in self.events if getattr(event, "item", 0) == item]
        enqueued, attempts = known[0], [event.phase for event in known if isinstance(event, ev.ItemStarted)]
        assert isinstance(enqueued, ev.ItemEnqueued)
        children = [event for event in self.events if isinstance(event, ev.ItemEnqueued) and event.parent == item]
        return ev.EndedItem(
            enqueued.parent,
            enqueued.seq,
            track_overall=enqueued.track_overall,
            hook=enqueued.hook,
            key=enqueued.key,
            occurrence=enqueued.occurrence,
            has_children=bool(children),
            attempt=attempts.count("process"),
            hook_attempt=attempts.count("after_children"),
        )

    def _worker_at(self, item: int) -> int:
        """Return the worker that started the item last."""
        starts = (event for event in reversed(self.events) if isinstance(event, ev.ItemStarted))
        return next(event.worker for event in starts if event.item == item)

    def finish(self, status: ev.RunStatus) -> list[ev.Event]:
        """End the run and return its events."""
        view = RunView()
        view.apply(self.events)
        self.add(ev.RunFinished, status=status, counts=view.counts)
        return self.events


def completed(items: int) -> list[ev.Event]:
    """Return a run in which `items` items complete."""
    script = Script()
    for item in [script.enqueue(track_overall=True) for _ in range(items)]:
        script.start(item)
        script.add(ev.ItemDescribed, item=item, worker=1, text=f"page {item}")
        script.complete(item)
    return script.finish("completed")


def every_event_type() -> list[ev.Event]:
    """Return a run with every type of event, and every field of each set at least once."""
    script = Script()
    folder, parent, child = "module:Folder", script.enqueue("module:Folder", key="k", payload=Raw(b'{"url":"/"}')), 0
    script.start(parent, folder, worker=2)
    script.add(ev.ItemDescribed, item=parent, worker=2, text="listing")
    child = script.enqueue(parent=parent, track_overall=True, group="example.org")
    failing = script.enqueue(parent=parent)
    script.complete(parent, worker=2, deduplicated=3, result=Raw(b"[1,2]"), payload=Raw(b'{"url":"/","n":1}'))
    script.start(child, group="example.org")
    script.add(ev.GroupSlowedDown, group="example.org", due=1_700_000_001.0, item=child)
    script.add(ev.GroupLimitKnown, group="example.org", concurrent=2, per_second=0.5)
    script.add(ev.LoopBlocked, method="Page.process", where="shop.py:40 in parse", duration_s=0.75)
    script.add(ev.RunHeldUp, by="journal", duration_s=0.25)
    script.add(ev.ItemRetryScheduled, item=child, worker=1, error=BOOM, due=1_700_000_001.0)
    script.add(ev.ItemRegrouped, item=child, type="module:Page", group="example.net", before="example.org")
    script.start(child, attempt=2, group="example.net")
    script.complete(child, attempt=2)
    script.start(child, phase="after_children")
    script.end_hook(child, result=Raw(b'"x"'))
    script.start(failing, worker=3)
    script.fail(failing, BOOM, worker=3, deduplicated=1)
    script.add(ev.ItemChildrenFailed, item=parent, type=folder)
    script.add(ev.ReporterFailed, reporter="module:Other", error=BOOM)
    script.add(ev.RunStopping, reason="SIGINT")
    script.finish("failed")
    script.wait(3_600)
    script.begin(ev.RunResumed)
    script.add(ev.ItemReopened, item=parent, type=folder)
    running = script.enqueue()
    script.start(running, worker=1)
    hook = script.enqueue(folder)
    script.start(hook, folder, worker=2)
    script.complete(hook, worker=2)
    script.start(hook, folder, worker=2, phase="after_children")
    script.add(ev.RunStopping, reason="SIGINT again", cancelling=True)
    script.interrupt(running, "crash")
    script.fail(hook, BOOM, folder, worker=2, phase="after_children")
    script.finish("interrupted")
    _steer(script, hook)
    script.wait(600)
    script.begin(ev.RunResumed, cluster="tcp://scheduler:8786")
    script.join(1, 3)
    script.join(4, 3, host="other", pid=99)
    script.add(ev.ItemReopened, item=failing, type="module:Page", failed="process", group="example.org")
    script.add(ev.ItemAdopted, item=running, type="module:Page", payload=Raw(b'{"url":"/new"}'))
    script.start(running, worker=5, attempt=2)
    script.add(ev.ProcessLeft, first_worker=1)
    script.lose(4, running, ignored=2)
    return script.finish("interrupted")


def _steer(script: Script, failed: int) -> None:
    """Let a person steer another process of a run, and then the run without a process; an item's hook has `failed`."""
    folder = "module:Folder"
    script.wait(60)
    script.begin(ev.RunResumed)
    of_group = {"group": "example.org", "by": ANNA}
    limit = ev.GroupLimit(2, 0.5)
    script.add(ev.RunWorkersChanged, num_workers=2, program=3, by=ANNA)
    script.add(ev.GroupLimitChanged, concurrent=1, per_second=0.25, program=limit, **of_group)
    script.add(ev.GroupPaused, **of_group)
    script.add(ev.GroupUnpaused, **of_group)
    script.add(ev.RunPaused, by=ANNA)
    script.add(ev.RunUnpaused, by=ANNA)
    top = script.enqueue(folder, hook=True)
    script.start(top, folder)
    below, retried, skipped = (
        script.enqueue(parent=top, key="below"),
        script.enqueue(parent=top),
        script.enqueue(parent=top),
    )
    script.complete(top, result=Raw(b"2"))
    script.start(below)
    script.complete(below)
    script.start(retried)
    script.fail_for_now(retried, due_in_s=600.0)
    script.steer("retry", "--state retrying")
    script.add(ev.ItemRescheduled, item=retried, type="module:Page", due=script.events[-1].at + 5.0)
    script.wait(5)
    script.start(retried, attempt=2)
    script.complete(retried, attempt=2)
    script.start(skipped)
    script.steer("skip", f"{skipped}")
    script.interrupt(skipped, "skipped")
    script.add(ev.ItemSkipped, item=skipped, type="module:Page", result=Raw(b'"by hand"'))
    script.start(top, folder, phase="after_children")
    script.end_hook(top, folder)
    given_up, cancelled, waiting = (
        script.enqueue(group="example.org"),
        script.enqueue(),
        script.enqueue(group="example.org"),
    )
    script.cancel(given_up, group="example.org")
    script.start(cancelled, worker=2)
    script.steer("cancel", f"{cancelled}")
    script.add(ev.ItemCancelled, item=cancelled)
    script.fail(cancelled, CANCELLED, worker=2)
    script.skip(waiting, group="example.org")
    script.add(ev.RunStopping, reason="stop", by=ANNA)
    script.finish("interrupted")
    script.wait(60)
    script.edit()
    script.add(ev.GroupLimitChanged, is_default=True, **of_group)
    script.skip(failed, folder, phase="after_children", had_failed=True)
    script.steer("retry", f"{below} {skipped} --completed", count=2)
    script.open_again(top, folder, ended=script.ended(top), result=Raw(b"2"))
    state_seq = script.events[-1].seq  # as if it had changed
    ended = [msgspec.structs.replace(script.ended(item), state_seq=state_seq) for item in (below, skipped)]
    script.open_again(below, rerun=True, ended=ended[0], group="example.org")
    script.open_again(skipped, rerun=True, skipped=True, ended=ended[1])


def interrupted() -> list[ev.Event]:
    """Return a run that is stopped, then cancelled."""
    script = Script()
    items = [script.enqueue() for _ in range(10)]
    for worker in (1, 2, 3):
        script.start(items[worker], worker=worker)
    script.add(ev.RunStopping, reason="SIGINT")
    script.complete(items[1], worker=1)
    script.wait(5)
    script.add(ev.RunStopping, reason="SIGINT again", cancelling=True)
    for worker in (2, 3):
        script.interrupt(items[worker])
    return script.finish("interrupted")


def with_failures(count: int) -> list[ev.Event]:
    """Return a run of items that all fail, each with a type of error of its own."""
    script = Script()
    for number in range(count):
        item = script.enqueue()
        script.start(item)
        script.fail(item, ev.ErrorInfo(f"module:Error{number}", f"number {number}", "Traceback …"))
    return script.finish("failed")


def resumed() -> list[ev.Event]:
    """Return a run that a second process continues two hours after the first one was killed."""
    script = Script()
    items = [script.enqueue() for _ in range(5)]
    script.start(items[0])
    script.complete(items[0])
    script.start(items[1])
    script.wait(7_200)
    script.begin(ev.RunResumed)
    script.interrupt(items[1], "crash")
    for item in items[1:]:
        script.start(item)
        script.complete(item)
    return script.finish("completed")


def with_retries(count: int) -> list[ev.Event]:
    """Return a run in which `count` items and a hook fail, wait for a retry over a resume, and then succeed."""
    script = Script()
    folder = "module:Folder"
    hook = script.enqueue(folder)
    script.start(hook, folder)
    script.complete(hook)
    items = [script.enqueue() for _ in range(count)]
    for item in items:
        script.start(item)
        script.fail_for_now(item, due_in_s=item * 0.5)
    script.start(hook, folder, phase="after_children")
    script.fail_for_now(hook, due_in_s=90_000, phase="after_children")
    script.add(ev.RunStopping, reason="SIGINT")
    script.finish("interrupted")
    script.wait(60)
    script.begin(ev.RunResumed)
    for item in items:
        script.wait(1)
        script.start(item, attempt=2)
        script.complete(item, attempt=2)
    script.start(hook, folder, phase="after_children", attempt=2)
    script.end_hook(hook, folder)
    return script.finish("completed")


def with_workers(count: int) -> list[ev.Event]:
    """Return a run in which `count` workers run items at once."""
    script = Script(num_workers=count)
    workers = range(1, count + 1)
    items = [script.enqueue() for _ in workers]
    for worker, item in zip(workers, items, strict=True):
        script.start(item, worker=worker)
        script.add(ev.ItemDescribed, item=item, worker=worker, text=f"page {item}")
    for worker, item in zip(workers, items, strict=True):
        script.complete(item, worker=worker)
    return script.finish("completed")


def on_a_cluster(processes: int, workers: int) -> list[ev.Event]:
    """Return a run on a cluster of `processes` with `workers` each, in which the first process dies and another joins.

    At the end all but the last leave, while a hook that one of their workers began is still running.
    """
    script = Script(workers, cluster="tcp://scheduler:8786")
    items = [script.enqueue(track_overall=True) for _ in range(processes * workers)]
    script.wait(5)
    firsts = range(1, processes * workers + 1, workers)
    for number, first in enumerate(firsts):
        script.join(first, workers, host=f"node-{number % 7}.example.org", pid=4_000 + number)
    for item in items:
        script.start(item, worker=item)
        script.add(ev.ItemDescribed, item=item, worker=item, text=f"page {item}")
    script.wait(60)
    script.lose(1, *items[:workers], ignored=1)
    script.wait(60)
    script.join(1, workers, host="late.example.org", pid=3)
    for item in items[:workers]:
        script.start(item, worker=item, attempt=2)
    script.wait(60)
    for item in items:
        script.complete(item, worker=item, attempt=2 if item <= workers else 1)
    hook = items[0]
    script.start(hook, worker=1, phase="after_children")
    for first in firsts[:-1]:
        script.add(ev.ProcessLeft, first_worker=first)
    script.wait(60)
    script.add(ev.ItemDescribed, item=hook, worker=1, text="adding up")
    script.end_hook(hook)
    return script.finish("completed")


def with_an_event_of_the_future() -> list[ev.Event]:
    """Return a run with an event of a type that readers don't know."""
    script = Script()
    script.add(EventOfTheFuture, item=1)
    return script.finish("completed")


def with_types(names: Sequence[str]) -> list[ev.Event]:
    """Return a run with one item of each of these types."""
    script = Script()
    for number, name in enumerate(names):
        item = script.enqueue(name, track_overall=number % 2 == 0)
        script.start(item, name)
        script.complete(item)
    return script.finish("completed")


def saying(text: str) -> list[ev.Event]:
    """Return a run in which every field for text from outside of aqueue holds `text`."""
    script = Script()
    frame = f'  File "{text}.py", line 7, in {text}\n    {text}\n'
    error = ev.ErrorInfo(text, text, f"Traceback (most recent call last):\n{frame}{text}: {text}\n")
    script.wait(60)
    for item in [script.enqueue(text, key=text, track_overall=True) for _ in range(3)]:
        script.start(item, text)
        script.add(ev.ItemDescribed, item=item, worker=1, text=text)
        # A display draws the running item only if time passes.
        script.wait(60)
        script.add(ev.GroupSlowedDown, group=text, due=1_700_000_001.0, item=item)
        script.add(ev.GroupLimitKnown, group=text, concurrent=2)
        script.add(ev.LoopBlocked, method=text, where=text, duration_s=1.0)
        script.add(ev.RunHeldUp, by=text, duration_s=1.0)
        script.add(ev.GroupLimitChanged, group=text, by=text)
        for pause, unpause in ((ev.GroupPaused, ev.GroupUnpaused), (ev.RunPaused, ev.RunUnpaused)):
            of = {"group": text} if pause is ev.GroupPaused else {}
            script.add(pause, by=text, **of)
            script.wait(60)
            script.add(unpause, by=text, **of)
        script.add(ev.RunWorkersChanged, num_workers=3, program=3, by=text)
        script.add(ev.ItemCancelled, item=item)
        script.add(ev.ItemRetryScheduled, item=item, worker=1, error=error, due=1_700_000_001.0)
        script.add(ev.ItemRegrouped, item=item, type=text, group=text, before=text)
        script.start(item, text, attempt=2)
        script.fail(item, error, text)
        script.add(ev.ItemChildrenFailed, item=item, type=text)
    skipped, given_up = script.enqueue(text, group=text), script.enqueue(text, group=text)
    script.skip(skipped, text, text, group=text)
    script.cancel(given_up, text, text, group=text)
    script.add(ev.ReporterFailed, reporter=text, error=error)
    script.add(ev.RunStopping, reason=text, by=text)
    script.finish("failed")
    script.edit(text)
    script.steer("retry", text, text)
    script.open_again(skipped, text, rerun=True, skipped=True, ended=ev.EndedItem(0, 1, key=text, attempt=0))
    script.wait(60)
    script.begin(ev.RunResumed, host=text, cluster=text or "tcp://scheduler:8786")
    script.join(host=text)
    script.join(4, host=f"{text}.example")
    items = [script.enqueue(text), script.enqueue(text)]
    for item, worker in zip(items, (1, 4), strict=True):
        script.start(item, text, worker=worker)
    script.wait(60)
    script.lose(4, items[1])
    script.wait(60)
    script.interrupt(items[0], "worker_lost")
    script.add(ev.ProcessLeft, first_worker=1)
    script.add(ev.RunStopping, reason=text)
    return script.finish("interrupted")
