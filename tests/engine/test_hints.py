"""Advice for errors whose own messages don't say what to change in an item: a wrong backend, an await of what isn't async."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import pytest
import trio

from aqueue import Backend, EnqueueFn, ItemFailures, SetDescFn, run_queue
from tests.engine.jobs import Do, Noop


async def _await_enqueue(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    await enqueue(Noop())  # type: ignore[func-returns-value, misc]


async def _await_set_desc(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    await set_desc("half way")  # type: ignore[func-returns-value, misc]


async def _sleep_asyncio(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    await asyncio.sleep(1)


async def _gather(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    loop = asyncio.new_event_loop()
    try:
        await asyncio.gather(loop.create_future())
    finally:
        loop.close()


async def _sleep_trio(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    await trio.sleep(1)


async def _checkpoint_trio(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
    await trio.lowlevel.checkpoint()


_ASYNCIO_ON_TRIO = "this is asyncio code in a run on Trio; pass backend='asyncio' to run_queue"
_TRIO_ON_ASYNCIO = "this is Trio code in a run on asyncio; leave out backend='asyncio', or use AnyIO's functions"
_AWAITED_NONE = "it awaited a function that returned None; enqueue, set_desc and aqueue.stop are called without await"


class _Unspeakable(TypeError):
    """Can't even be shown."""

    def __str__(self) -> str:
        raise KeyError("no message")


@pytest.mark.parametrize(
    ("process", "backend", "advice"),
    [
        (_await_enqueue, "trio", _AWAITED_NONE),
        (_await_enqueue, "asyncio", _AWAITED_NONE),
        (_await_set_desc, "trio", _AWAITED_NONE),
        (_sleep_asyncio, "trio", _ASYNCIO_ON_TRIO),
        (_gather, "trio", _ASYNCIO_ON_TRIO),
        (_sleep_trio, "asyncio", _TRIO_ON_ASYNCIO),
        (_checkpoint_trio, "asyncio", _TRIO_ON_ASYNCIO),
    ],
)
def test_an_item_that_fails_for_a_known_mistake_gets_advice(
    process: Callable[[EnqueueFn, SetDescFn], Awaitable[Any]],
    backend: Backend,
    advice: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """It is a warning at once, one per mistake and not one per item, and in the note of the exception."""
    with pytest.raises(ItemFailures) as caught:
        run_queue([Do(process), Do(process)], num_workers=1, reporter="none", on_error="continue", backend=backend)
    warned = [line for line in capfd.readouterr().err.splitlines() if "warning" in line]
    assert warned == [f"aqueue: warning: item 1 (tests.engine.jobs:Do) failed: {advice}"]
    for error in caught.value.exceptions:
        [note] = error.__notes__
        assert note.endswith(f"in process; {advice}")


def test_other_errors_get_no_advice(backend: Backend, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither an item's own error, nor one that has the same words in a run where they mean something else."""

    async def fail(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        raise RuntimeError("no running event loop" if backend == "asyncio" else "must be called from async context")

    with pytest.raises(ItemFailures) as caught:
        run_queue([Do(fail)], reporter="none", backend=backend)
    assert capfd.readouterr().err == ""
    assert caught.value.exceptions[0].__notes__ == ["aqueue: raised by item 1 (tests.engine.jobs:Do) in process"]


def test_an_error_whose_message_raises_is_an_ordinary_failure(backend: Backend) -> None:
    """Of an item, and of the lifespan: to look for advice calls the user's code."""

    async def fail(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        raise _Unspeakable

    def open_client() -> AbstractAsyncContextManager[None]:
        raise _Unspeakable

    with pytest.raises(ItemFailures) as caught:
        run_queue([Do(fail), Noop(), Noop()], num_workers=1, reporter="none", on_error="continue", backend=backend)
    assert caught.value.result.counts.completed == 2
    with pytest.raises(_Unspeakable):
        run_queue([Noop()], reporter="none", lifespan=open_client, backend=backend)


def test_a_lifespan_for_the_other_backend_gets_advice(backend: Backend) -> None:
    """As a client that is created on the wrong loop: nothing has run, and the note says what to change."""

    def open_client() -> AbstractAsyncContextManager[None]:
        if backend == "trio":
            asyncio.get_running_loop()
        trio.current_time()
        raise NotImplementedError

    with pytest.raises(RuntimeError) as caught:
        run_queue([Noop()], reporter="none", lifespan=open_client, backend=backend)
    advice = _ASYNCIO_ON_TRIO if backend == "trio" else _TRIO_ON_ASYNCIO
    assert caught.value.__notes__ == [f"aqueue: raised by lifespan; {advice}"]


def test_a_lifespan_that_closes_badly_gets_no_advice_about_its_opening(backend: Backend) -> None:
    """What is raised after the first item has begun is not said to be raised by the lifespan."""

    class Client(AbstractAsyncContextManager[None]):
        async def __aexit__(self, *_: object) -> None:
            await anyio.lowlevel.checkpoint()
            raise RuntimeError("no running event loop")

    with pytest.raises(RuntimeError, match="no running event loop") as caught:
        run_queue([Noop()], reporter="none", lifespan=Client, backend=backend)
    assert not hasattr(caught.value, "__notes__")
