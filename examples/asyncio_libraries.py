"""Items that use asyncio-only libraries: `backend="asyncio"`.

    python examples/asyncio_libraries.py

A tiny line-based server (asyncio streams, on loopback) holds a tree of names. `Branch` items ask it what is below a
name, over their own connections; `Leaf` items run a blocking function in a thread.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aqueue import EnqueueFn, Item, SetDescFn, child_results, run_queue, shared

TREE = {
    "plants": ["trees", "herbs"],
    "trees": ["ash", "birch", "cedar"],
    "herbs": ["basil", "dill"],
}


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer a line with a name by a line with the names below it."""
    name = (await reader.readline()).decode().strip()
    await asyncio.sleep(0.2)
    writer.write(" ".join(TREE.get(name, [])).encode() + b"\n")
    await writer.drain()
    writer.close()


@asynccontextmanager
async def open_server() -> AsyncGenerator[int, None]:
    """Run the server while items run, and share its port with them."""
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


class Branch(Item):
    """A name that has others below it."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        set_desc(f"asking about {self.name}")
        reader, writer = await asyncio.open_connection("127.0.0.1", shared())
        try:
            writer.write(f"{self.name}\n".encode())
            for name in (await reader.readline()).decode().split():
                enqueue(Branch(name) if name in TREE else Leaf(name))
        finally:
            writer.close()

    async def after_children_processed(self) -> int:
        return sum(child_results())


class Leaf(Item):
    """A name with nothing below it."""

    track_overall = True

    def __init__(self, name: str) -> None:
        self.name = name

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> int:
        set_desc(f"deriving a key from {self.name}")
        # enqueue and set_desc only work in the event loop's thread, so the function below can't call them.
        key = await asyncio.to_thread(hashlib.pbkdf2_hmac, "sha256", self.name.encode(), b"salt", 100_000)
        return len(key)


def main() -> None:
    """Walk the tree and print how many bytes the keys have in total."""
    result = run_queue(
        initial_items=[Branch("plants")],
        num_workers=4,
        queue_type_name="stack",
        lifespan=open_server,
        backend="asyncio",
    )
    print(f"{result.counts_by_type[f'{__name__}:Leaf'].completed} keys, {result.root_results[0]} bytes")


if __name__ == "__main__":
    main()
