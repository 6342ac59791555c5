"""Work for many cores: words are counted by worker processes, on this machine or on a cluster.

    python examples/cluster.py
    python examples/cluster.py --cluster tls://scheduler.example:8786

A `Library` has shelves, a `Shelf` has books. Reading a `Book` is pure computation (its text is made up, so nothing is
downloaded), for which one process can only use one core. Here `process` runs in two processes; each shelf adds up its
books in this one.
"""

import argparse
import os
import random
from collections import Counter

from aqueue import EnqueueFn, Item, SetDescFn, child_results, run_queue

WORDS = ("ash", "birch", "cedar", "dogwood", "elm", "fir", "hazel", "larch", "maple", "oak")
SHELVES = 4
BOOKS_ON_A_SHELF = 10
WORDS_IN_A_BOOK = 20_000


def made_up_text(number: int) -> str:
    """Return the text of a book: always the same for a number."""
    return " ".join(random.Random(number).choices(WORDS, weights=range(1, len(WORDS) + 1), k=WORDS_IN_A_BOOK))


class Library(Item):
    """The start; its result is how often each word is in all books."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for number in range(SHELVES):
            enqueue(Shelf(number))

    async def after_children_processed(self) -> dict[str, object]:
        shelves = child_results()
        return {
            "words": sum((Counter(shelf["words"]) for shelf in shelves), Counter()),
            "processes": len({pid for shelf in shelves for pid in shelf["pids"]}),
        }


class Shelf(Item):
    """Some books. Its hook runs in this program's own process, where all results come together."""

    def __init__(self, number: int) -> None:
        self.number = number

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for place in range(BOOKS_ON_A_SHELF):
            enqueue(Book(self.number * BOOKS_ON_A_SHELF + place))

    async def after_children_processed(self) -> dict[str, object]:
        books = child_results()
        return {
            "words": sum((Counter(book["words"]) for book in books), Counter()),
            "pids": sorted({book["pid"] for book in books}),
        }


class Book(Item):
    """The work. An item and its result are sent between processes, so both hold only simple data."""

    track_overall = True

    def __init__(self, number: int) -> None:
        self.number = number

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> dict[str, object]:
        set_desc(f"book {self.number}")
        return {"words": Counter(made_up_text(self.number).split()), "pid": os.getpid()}


def main() -> None:
    """Count the words and print the most common ones."""
    parser = argparse.ArgumentParser(description="Count the words of made-up books on a cluster.")
    parser.add_argument(
        "--cluster", default="local:2", metavar="ADDRESS", help="the address of a Dask scheduler (default: %(default)s)"
    )
    arguments = parser.parse_args()
    # Items that only compute gain nothing from running concurrently in one process. Two: the next is always at hand.
    result = run_queue([Library()], cluster=arguments.cluster, num_workers=2)
    [library] = result.root_results
    for word, count in Counter(library["words"]).most_common(3):
        print(f"{count:7,} {word}")
    count = library["processes"]
    print(f"counted by {count} worker process{'' if count == 1 else 'es'}")


if __name__ == "__main__":
    main()
