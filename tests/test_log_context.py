"""Log records say which item made them, and together with the jsonl log they tell an item's whole story."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
import structlog
from structlog.typing import Processor

from aqueue import Item, run_queue
from aqueue.log_context import ItemFilter, add_item
from aqueue.testing import EventRecorder


class Collector(logging.Handler):
    """Keeps the records that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.records.append(record)


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Give a handler on a logger, with the filter on the handler."""
    handler = Collector()
    handler.addFilter(ItemFilter())
    logger = logging.getLogger("tests.log_context")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)


def run(process: Callable[[], Any], *, hook: Callable[[], Any] = lambda: None, backend: str = "trio") -> None:
    """Run one item whose process and hook call these, awaiting what they return."""

    class Page(Item):
        async def process(self, enqueue: object, set_desc: object) -> None:
            if (awaitable := process()) is not None:
                await awaitable

        async def after_children_processed(self) -> None:
            hook()

    Page.__module__, Page.__qualname__ = "module", "Page"
    run_queue(initial_items=[Page()], num_workers=1, reporter="none", backend=backend)  # type: ignore[arg-type]


def attributes(record: logging.LogRecord) -> tuple[Any, Any, Any]:
    """Return what the filter adds to a record."""
    values = vars(record)
    return values["item"], values["item_type"], values["worker"]


def test_standard_records_carry_the_item(collector: Collector, backend: str) -> None:
    """Those made in process, in the hook, and in a thread that process awaits."""
    log = logging.getLogger("tests.log_context")

    async def process() -> None:
        log.info("in process")
        await anyio.to_thread.run_sync(log.info, "in a thread")

    run(process, hook=lambda: log.info("in the hook"), backend=backend)

    assert [(record.getMessage(), *attributes(record)) for record in collector.records] == [
        ("in process", 1, "module:Page", 1),
        ("in a thread", 1, "module:Page", 1),
        ("in the hook", 1, "module:Page", 1),
    ]


def test_other_standard_records_carry_none(collector: Collector) -> None:
    """So that a format string that names the attributes works for them, too."""
    collector.setFormatter(logging.Formatter("%(item)s %(item_type)s %(worker)s %(message)s"))
    logging.getLogger("tests.log_context").info("outside")
    (record,) = collector.records

    assert attributes(record) == (None, None, None)
    assert collector.format(record) == "None None None outside"


def test_structlog_records_carry_the_item(backend: str) -> None:
    """The names are those of the jsonl log."""
    capture = structlog.testing.LogCapture()
    log = structlog.wrap_logger(None, processors=[add_item, capture])
    run(lambda: log.info("in process"), hook=lambda: log.info("in the hook"), backend=backend)

    assert capture.entries == [
        {"event": event, "log_level": "info", "item": 1, "type": "module:Page", "worker": 1}
        for event in ("in process", "in the hook")
    ]


def test_other_structlog_records_are_left_alone() -> None:
    """Nothing is added to a record made outside an item."""
    assert add_item(None, "info", {"event": "outside"}) == {"event": "outside"}


def test_what_a_structlog_record_says_itself_is_kept() -> None:
    """A program may use the names for something of its own."""
    said: list[Any] = []
    run(lambda: said.append(add_item(None, "info", {"event": "x", "type": "own"})))

    assert said == [{"event": "x", "type": "own", "item": 1, "worker": 1}]


def test_import_brings_no_structlog() -> None:
    """A program that logs with the standard library alone does not pay for it."""
    code = "import sys, aqueue.log_context; sys.exit('structlog' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_logs_together_tell_the_story_of_an_item(tmp_path: Path) -> None:
    """The jsonl log, structlog's records and the standard library's, in one file: item 17 from enqueue to completion."""
    path = tmp_path / "run.jsonl"
    with path.open("a") as file:
        shared: list[Processor] = [
            add_item,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ]
        log = structlog.wrap_logger(
            structlog.WriteLogger(file), processors=[*shared, structlog.processors.JSONRenderer()]
        )
        handler = logging.StreamHandler(file)
        handler.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                foreign_pre_chain=shared,
                processors=[
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.JSONRenderer(),
                ],
            )
        )
        standard = logging.getLogger("tests.log_context.story")
        standard.addHandler(handler)
        standard.setLevel(logging.INFO)
        standard.propagate = False

        class Page(Item):
            async def process(self, enqueue: object, set_desc: Callable[[str], None]) -> str:
                log.info("fetching", url=f"http://host/{id(self)}")
                await anyio.sleep(0)
                standard.warning("slow answer")
                set_desc("parsing")
                log.info("parsed")
                return "done"

        recorder = EventRecorder()
        run_queue(initial_items=[Page() for _ in range(30)], num_workers=4, reporter=[f"jsonl:{path}", recorder])
        standard.removeHandler(handler)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    story = [record for record in records if record.get("item") == 17]

    # Each source in its order; between them, the order of their clocks is good to a millisecond or so.
    assert [record["event"] for record in story if "seq" in record] == [
        "item.enqueued",
        "item.started",
        "item.described",
        "item.completed",
    ]
    assert [record["event"] for record in story if "seq" not in record] == ["fetching", "slow answer", "parsed"]
    assert len({record["worker"] for record in story if "worker" in record}) == 1
    assert len({record["type"] for record in story if "type" in record}) == 1
    assert len(records) == len(recorder.events) + 3 * 30
