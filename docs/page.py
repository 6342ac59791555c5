"""Take the pictures of the page in the README, from a real run: ``python docs/page.py``; it needs Chromium and Playwright.

It runs a harvest of a made-up shop, whose server has a limit, is slow and fails now and then, and takes two pictures of what
``aqueue serve`` shows of it, as ``page-dark.png`` and ``page-light.png`` next to this file. It takes a minute; figures differ a
little from one time to the next.
"""

import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from aqueue import EnqueueFn, Item, Limit, Retry, SetDescFn, run_queue

WIDTH, HEIGHT = 1_280, 1_150
AFTER_S = 50  # from when on the run looks like one that has found its pace
SEED = 7
CATEGORIES = ("Bees", "Clocks", "Islands", "Lighthouses", "Tea", "Trains")
chance = random.Random(SEED)


async def answer(seconds: float) -> None:
    """Wait as long as a server takes to answer, up to `seconds`."""
    await trio.sleep(chance.uniform(0.1, 1.0) * seconds)


class Category(Item):
    """A category with many pages."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        set_desc(self.name)
        await answer(9)
        for number in range(1, 200):
            enqueue(Listing(self.name, number))


class Listing(Item):
    """A page that lists books."""

    group = "shop.example.org"

    def __init__(self, category: str, number: int) -> None:
        self.category = category
        self.number = number

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        set_desc(f"{self.category}, page {self.number}")
        await answer(0.6)
        for place in range(chance.randint(1, 4)):
            enqueue(Book(f"The {chance.choice(CATEGORIES)} of {self.category}, volume {self.number * 4 + place}"))


class Book(Item):
    """A book's page."""

    group = "shop.example.org"
    retry = Retry(attempts=3, first_s=5, on=TimeoutError)

    def __init__(self, title: str) -> None:
        self.title = title

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        set_desc(self.title)
        await answer(1)
        if chance.random() < 0.06:
            raise TimeoutError("timed out after 10 s")
        stock = None if chance.random() < 0.02 else {"price": 12}
        enqueue(Cover(self.title, stock["price"]))


class Cover(Item):
    """The picture of a book's cover, from another host."""

    group = "covers.example.net"

    def __init__(self, title: str, price: int) -> None:
        self.title = title
        self.price = price

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        set_desc(f"cover of {self.title}")
        await answer(1.2)
        if chance.random() < 0.04:
            raise LookupError("404 Not Found")


def harvest(journal: str) -> None:
    """Run the harvest."""
    limits = {"shop.example.org": Limit(concurrent=12), "covers.example.net": Limit(concurrent=20)}
    items = [Category(name) for name in CATEGORIES]
    run_queue(items, journal=journal, num_workers=24, limits=limits, on_error="continue", reporter="none")


def main() -> None:
    """Run the harvest, and take the pictures."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        journal = Path(folder, "harvest.db")
        command = [sys.executable, __file__, str(journal)]
        browser = playwright.chromium.launch(executable_path=chromium, args=["--headless", "--no-sandbox"])
        with subprocess.Popen(command) as run:
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
            page.wait_for_timeout(AFTER_S * 1_000)
            serve = [sys.executable, "-m", "aqueue", "serve", str(journal)]
            with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server:
                address = re.search(r"http\S+", server.stdout.readline())
                page.goto(address[0])
                page.wait_for_selector("#charts svg")
                for scheme in ("light", "dark"):
                    page.emulate_media(color_scheme=scheme)
                    page.wait_for_timeout(500)
                    page.screenshot(path=Path(__file__).with_name(f"page-{scheme}.png"))
                server.terminate()
            run.kill()
        browser.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        harvest(sys.argv[1])
    else:
        main()
