"""A small shop to scrape: a front page, categories with hooks, products of which one fails and one needs two attempts."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aqueue
from aqueue import EnqueueFn, Item, ItemFailures, Retry, SetDescFn, run_queue

__all__ = ["Category", "Front", "Product", "main", "shop"]

NUM_ITEMS = 1 + 2 + 2 * 4
"""How many items `shop` comes to."""


def main(journal: str) -> None:
    """Scrape the shop, recorded in `journal`."""
    with suppress(ItemFailures):
        run_queue(shop(), num_workers=2, reporter="none", journal=journal, on_error="continue")


def shop() -> list[Item]:
    """Return the initial items: 1 front page, below it 2 categories of 4 products; the last product of all fails."""
    return [Front()]


@dataclass
class Front(Item):
    """Has the categories, and a hook that can't run, since a product fails."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        set_desc("the front page")
        enqueue(Category("books"))
        enqueue(Category("games"))

    async def after_children_processed(self) -> int:
        return sum(aqueue.child_results())


@dataclass
class Category(Item):
    """Has four products; its hook counts them."""

    key: str

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        set_desc(f"category {self.key}")
        for number in range(4):
            enqueue(Product(self.key, number))

    async def after_children_processed(self) -> int:
        return len(aqueue.child_results())


@dataclass
class Product(Item):
    """Returns what it costs. The second book needs two attempts, the last game fails."""

    category: str
    number: int
    retry = Retry(attempts=2, first_s=0.0, on=(ConnectionError,))

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> dict[str, Any]:
        set_desc(f"{self.category} {self.number}")
        if (self.category, self.number) == ("books", 1) and aqueue.current().attempt == 1:
            raise ConnectionError("no answer")
        if (self.category, self.number) == ("games", 3):
            raise ValueError("=no price\x1b[2J")
        return {"name": f"{self.category} {self.number}", "price": -self.number}
