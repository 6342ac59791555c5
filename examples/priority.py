"""A priority queue: the item that is least by `<` runs first, even if it was enqueued last.

    python examples/priority.py

A search for the cheapest way through a small map (Dijkstra's algorithm). Each `Visit` enqueues the towns that can be
reached from its own; the cheapest way so far is always followed next, so that the first visit to a town is the cheapest.
"""

from typing import ClassVar

import anyio

from aqueue import EnqueueFn, Item, SetDescFn, run_queue

ROADS = {
    "Ash": {"Birch": 7, "Cedar": 2, "Elm": 20},
    "Birch": {"Fir": 3},
    "Cedar": {"Birch": 3, "Dogwood": 8},
    "Dogwood": {"Elm": 1},
    "Elm": {},
    "Fir": {"Dogwood": 1, "Elm": 6},
}


class Visit(Item):
    """Go to `town`, at a total cost of `cost`, along `path`."""

    visited: ClassVar[set[str]] = set()

    def __init__(self, town: str, cost: int = 0, path: tuple[str, ...] = ()) -> None:
        self.town = town
        self.cost = cost
        self.path = (*path, town)

    def __lt__(self, other: "Visit") -> bool:
        return self.cost < other.cost

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        set_desc(f"{self.town} for {self.cost}")
        if self.town in self.visited:
            return
        self.visited.add(self.town)
        await anyio.sleep(0.3)  # a slow map server
        print(f"{self.cost:3}  {' > '.join(self.path)}")
        for town, cost in ROADS[self.town].items():
            enqueue(Visit(town, self.cost + cost, self.path))


def main() -> None:
    """Print the cheapest way to each town, the nearest first."""
    # One worker: with more, costlier items start while the cheapest one is still running.
    run_queue(initial_items=[Visit("Ash")], num_workers=1, queue_type_name="priority")


if __name__ == "__main__":
    main()
