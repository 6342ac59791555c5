"""What the tests of the page share: a folder for caches, so that no test touches the user's; Chromium; a run that is served."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import chromium
from tests.page.serving import Run, Served, Server, Start

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let this process and those that it starts keep their indexes in a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
        yield


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Start Chromium."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return what starts a run and its server."""
    with ExitStack() as started:

        def start_run(
            name: str = "run.db", interval_s: float | None = None, control: bool = False, **run: Any
        ) -> Served:
            running = started.enter_context(Run(tmp_path / name, **run))
            server = Server(running.journal, interval_s=interval_s, control=control)
            return Served(running, started.enter_context(server))

        yield start_run
