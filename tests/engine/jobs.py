"""Items that many tests need: one that does what a function says, and one that does nothing."""

from collections.abc import Awaitable, Callable
from typing import Any

from aqueue import EnqueueFn, Item, SetDescFn

__all__ = ["Do", "Noop", "WithHook"]


class Do(Item):
    """Does what the function that it is made with does."""

    def __init__(self, function: Callable[[EnqueueFn, SetDescFn], Awaitable[Any]]) -> None:
        self.function = function

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> Any:
        return await self.function(enqueue, set_desc)


class WithHook(Do):
    """One with a hook, which does what a second function does."""

    def __init__(
        self, function: Callable[[EnqueueFn, SetDescFn], Awaitable[Any]], hook: Callable[[], Awaitable[Any]]
    ) -> None:
        super().__init__(function)
        self.hook = hook

    async def after_children_processed(self) -> Any:
        return await self.hook()


class Noop(Item):
    """Does nothing."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        pass
