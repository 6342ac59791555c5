"""The browser in which pages are tested: Chromium, driven by Playwright, of the dependency group `browser`."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Self

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Dialog, Page, Request

__all__ = ["FLAGS", "Visit", "chromium", "violations"]

_DEADLINE_MS: Final = 30_000
"""How long anything may take before the test fails, milliseconds."""

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextmanager
def chromium() -> Iterator["Browser"]:
    """Start Chromium; fail, and don't skip, where there is none."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        pytest.fail("Playwright is not installed: `make browser-test` installs the dependency group `browser`")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.fail("no Chromium found on the PATH: install your system's package `chromium`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class Visit:
    """A browser of its own, with one page, and what went on there.

    Attributes:
        page: the page.
        requests: what it has asked for.
        messages: what it has written to the console, errors that nobody caught, and dialogs.
    """

    def __init__(self, browser: "Browser", **options: Any) -> None:
        """Open an empty page.

        Parameters:
            browser: in which it is opened.
            options: those of the browser's context.
        """
        self.context: BrowserContext = browser.new_context(**{"locale": "en-US", **options})
        self.context.set_default_timeout(_DEADLINE_MS)
        self.page: Page = self.context.new_page()
        self.requests: list[Request] = []
        self.messages: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request))  # noqa: PLW0108  # no built-in function
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("dialog", self._refuse)

    def _refuse(self, dialog: "Dialog") -> None:
        self.messages.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def until(self, condition: str) -> None:
        """Wait until something is true in the page. Playwright's own way to wait needs eval, which the page forbids."""
        self.page.evaluate(
            f"""() => new Promise((done, fail) => {{
                setTimeout(() => fail(document.body.innerText), {_DEADLINE_MS});
                const look = () => (({condition}) ? done() : requestAnimationFrame(look));
                look();
            }})"""
        )

    def press(self, *keys: str) -> None:
        """Press one key after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def text(self, selector: str) -> str:
        """Return what an element says, on one line."""
        return " ".join(str(self.page.locator(selector).inner_text()).split())


def violations(page: "Page") -> list[tuple[str, str]]:
    """Return what the rules of axe-core (roles, names, headings, regions, contrast of texts) find wrong in a page."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [(rule["id"], rule["nodes"][0]["html"][:200]) for rule in found]
