"""A small tree of items with simulated I/O, to watch for a few seconds.

    python examples/simple.py

A `Shop` has categories, a `Category` has pages, a `Page` lists products. Each item enqueues those below it. Products
count in the overall progress, and each category adds up the prices of its products.
"""

import random

import anyio

from aqueue import EnqueueFn, Item, SetDescFn, child_results, run_queue

CATEGORIES = ("books", "games", "music", "tools", "toys")


async def download(what: str, set_desc: SetDescFn) -> None:
    """Pretend to wait for a server."""
    set_desc(what)
    await anyio.sleep(random.uniform(0.05, 0.4))


class Shop(Item):
    """The start: one page that names the categories."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        await download("the front page", set_desc)
        for name in CATEGORIES:
            enqueue(Category(name))

    async def after_children_processed(self) -> float:
        totals: list[float] = child_results()
        return round(sum(totals), 2)


class Category(Item):
    """One page that says how many pages of products there are."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        await download(self.name, set_desc)
        for number in range(1, random.randint(3, 7)):
            enqueue(Page(self.name, number))

    async def after_children_processed(self) -> float:
        totals: list[float] = child_results()
        return sum(totals)


class Page(Item):
    """A page that lists products."""

    def __init__(self, category: str, number: int) -> None:
        self.category = category
        self.number = number

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        await download(f"{self.category}, page {self.number}", set_desc)
        for place in range(1, random.randint(6, 12)):
            enqueue(Product(f"{self.category}-{self.number}-{place}"))

    async def after_children_processed(self) -> float:
        prices: list[float] = child_results()
        return sum(prices)


class Product(Item):
    """One product; its result is its price."""

    track_overall = True

    def __init__(self, name: str) -> None:
        self.name = name

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> float:
        await download(self.name, set_desc)
        return random.randint(100, 5000) / 100


def main() -> None:
    """Run the shop and print the total price."""
    result = run_queue(initial_items=[Shop()], num_workers=8, queue_type_name="stack")
    [total] = result.root_results
    products = result.counts_by_type[f"{__name__}:Product"].completed
    print(f"{products} products cost {total:.2f} in total")


if __name__ == "__main__":
    main()
