"""The README and the docs: their code runs, their links lead somewhere, and the reference leaves nothing out.

A ``python`` block is run unless the line before it is ``<!-- not-run: the reason -->``; then it is only compiled. The
blocks of one page are one program: later ones use what earlier ones defined. Those of the tutorial are files and changes of
files, `<!-- file: NAME -->` and `<!-- change: NAME -->`, which tests/examples/test_tutorial.py runs.
"""

import ast
import functools
import importlib.metadata
import importlib.util
import inspect
import json
import os
import pkgutil
import re
import sqlite3
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from aqueue import run_queue
from aqueue.events import EVENT_TYPES
from tests.test_public_api import MODULES

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob(".github/*.md"),
        *(page for page in ROOT.glob("docs/**/*.md") if "_build" not in page.parts),
    ]
)
REFERENCE = sorted(ROOT.glob("docs/reference/*.md"))
NOT_RUN = re.compile(r"<!-- (not-run|file|change): \S.* -->\s*")
SHELLS = {"sh", "shell", "bash", "console"}

each_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)


def page_id(page: Path) -> str:
    """Name a page in the tests' names."""
    return str(page.relative_to(ROOT))


each_page = pytest.mark.parametrize("page", PAGES, ids=page_id)


def parse(page: Path) -> list[Token]:
    """Return the Markdown tokens of a page."""
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def fences(page: Path) -> Iterator[tuple[Token, bool]]:
    """Yield each code block of a page, and whether it is marked as not to be run."""
    previous = None
    for token in parse(page):
        if token.type == "fence":
            marked = previous is not None and previous.type == "html_block" and NOT_RUN.fullmatch(previous.content)
            yield token, bool(marked)
        previous = token


def first_line(token: Token) -> int:
    """Return the number, from 0, of the line on which a block's code begins."""
    assert token.map is not None
    return token.map[0] + 1


def program(page: Path) -> str:
    """Return the page's code that is to be run, each line where the page has it, so that a traceback is true of both."""
    lines: list[str] = []
    for token, not_run in fences(page):
        if token.info == "python" and not not_run:
            lines += [""] * (first_line(token) - len(lines)) + token.content.splitlines()
    return "\n".join(lines)


@pytest.mark.parametrize("page", [page for page in PAGES if program(page)], ids=page_id)
def test_code_on_the_page_runs(page: Path, tmp_path: Path) -> None:
    """What a reader copies from the page works, in an empty folder, block after block."""
    script = tmp_path / f"page_{page.stem}.py"  # not the name of a module that it imports
    script.write_text(program(page) + "\n", encoding="utf-8")
    folder = tmp_path / "empty"
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AQUEUE_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, f"{page}:\n{done.stdout}\n{done.stderr}"


@each_page
def test_code_that_is_not_run_compiles(page: Path) -> None:
    """A block that can't be run here is Python all the same."""
    for token, not_run in fences(page):
        if token.info == "python" and not_run:
            source = "\n" * first_line(token) + token.content
            compile(source, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


@each_page
def test_code_blocks_say_what_they_are(page: Path) -> None:
    """No Python hides from these tests behind another spelling, or none, of its language."""
    known = {"python", "json", "text", "toml", "yaml", "ini", *SHELLS}
    unknown = [
        (first_line(token), token.info)
        for token, _ in fences(page)
        if token.info not in known and not token.info.startswith("{")
    ]
    assert unknown == []


@each_page
def test_configuration_can_be_read(page: Path) -> None:
    """What a page shows of YAML, TOML and JSON is such."""
    for token, _ in fences(page):
        if token.info == "yaml":
            assert list(yaml.safe_load_all(token.content))
        elif token.info == "toml":
            assert tomllib.loads(token.content)
        elif token.info == "json":
            assert [json.loads(line) for line in token.content.splitlines()]


@each_page
def test_make_targets_exist(page: Path) -> None:
    """Every `make` command that a page tells the reader to type has its target."""
    code = [token.content for token, _ in fences(page) if token.info in SHELLS]
    code += [child.content for token in parse(page) for child in token.children or [] if child.type == "code_inline"]
    named = {target for text in code for target in re.findall(r"\bmake ([a-z][a-z-]*)", text)}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert named - targets == set()


@pytest.mark.parametrize("form", sorted(ROOT.glob(".github/ISSUE_TEMPLATE/*.yml")), ids=page_id)
def test_the_issue_forms_can_be_read(form: Path) -> None:
    """Each is YAML with what GitHub asks for, and each question has a name of its own."""
    content = yaml.safe_load(form.read_text(encoding="utf-8"))
    if form.name == "config.yml":
        assert set(content) <= {"blank_issues_enabled", "contact_links"}
        return
    assert set(content) == {"name", "description", "labels", "body"}
    questions = [one for one in content["body"] if one["type"] != "markdown"]
    assert {one["type"] for one in questions} <= {"textarea", "input", "dropdown"}
    assert all(one["attributes"]["label"] for one in questions)
    names = [one["id"] for one in questions]
    assert len(set(names)) == len(names)
    assert any(one.get("validations", {}).get("required") for one in questions)


@functools.cache
def anchors(page: Path) -> set[str]:
    """Return the anchors that the headings of a page get."""
    tokens = parse(page)
    headings = [after.content for token, after in pairwise(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    """Each link and picture within the project names a file that exists, and a heading in it."""
    dead = []
    for child in (child for token in parse(page) for child in token.children or []):
        target = str(child.attrs.get("href", child.attrs.get("src", "")))
        if not target or re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            dead.append(target)
    assert dead == []


@functools.cache
def load_writer() -> Any:
    """Import the script that writes the reference."""
    spec = importlib.util.spec_from_file_location("write_reference", ROOT / "docs/write_reference.py")
    assert spec is not None
    assert spec.loader is not None
    writer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(writer)
    return writer


@pytest.mark.parametrize("page", REFERENCE, ids=page_id)
def test_the_reference_is_that_of_the_code(page: Path) -> None:
    """What the pages have of signatures, docstrings and tables is what the script makes of today's code."""
    written = load_writer().written(page)
    assert page.read_text(encoding="utf-8") == written, f"{page_id(page)} is out of date; to update it: make reference"


@each_module
def test_every_public_name_is_in_the_reference(module: ModuleType) -> None:
    """Each public name has a heading of its own in the reference, on a page that is made from the code."""
    documented = [
        pkgutil.resolve_name(f"{name.module}:{key.rpartition('.')[2]}")
        for key, name in load_writer().NAMES.items()
        if key.lower().replace(".", "") in anchors(ROOT / "docs/reference" / name.page)
    ]
    names = getattr(module, "__all__", [])
    assert [name for name in names if not any(getattr(module, name) is value for value in documented)] == []


def test_the_reference_tells_signatures_and_links_names() -> None:
    """A page shows how a name is called and what its docstring says, with links to other names."""
    page = (ROOT / "docs/reference/run.md").read_text(encoding="utf-8")
    of_retry = page.partition("### `Retry`\n")[2].partition("\n### ")[0]
    assert "class Retry:\n    attempts: int = 5\n" in of_retry
    assert "#### `Retry.covers`" in of_retry
    assert "def covers(self, error: BaseException) -> bool: ..." in of_retry
    assert "- `attempts`: " in of_retry
    assert "[`AqueueError`](errors.md#aqueueerror)" in of_retry


def test_no_page_needs_sphinx_to_be_read() -> None:
    """A forge and an editor show each page whole: no block is an instruction to Sphinx."""
    directives = {
        (page_id(page), token.info) for page in PAGES for token, _ in fences(page) if token.info.startswith("{")
    }
    assert directives <= {("docs/explanation/alternatives.md", "{include} ../../README.md")}


@each_module
def test_every_field_is_documented(module: ModuleType) -> None:
    """The docstring of each public record describes each of its fields, in their order, and no others."""
    for value in vars(module).values():
        if not (inspect.isclass(value) and issubclass(value, msgspec.Struct)) or value.__name__.startswith("_"):
            continue
        fields = [field for field in value.__struct_fields__ if not field.startswith("_")]
        own = [field for field in fields if field in value.__annotations__]
        section = re.search(r"^Attributes:\n((?:(?:    .*)?\n?)*)", inspect.cleandoc(value.__doc__ or ""), re.MULTILINE)
        documented = re.findall(r"^    (\w[\w, ]*):", section[1] if section else "", re.MULTILINE)
        assert [name.strip() for names in documented for name in names.split(",")] == own, value


def test_the_table_of_arguments_is_that_of_run_queue() -> None:
    """The reference's table names each argument once, in the order of the signature, with its default."""
    page = (ROOT / "docs/reference/run.md").read_text(encoding="utf-8").partition("## The arguments at a glance")[2]
    rows = re.findall(r"^\| (`.*?`) \| (.*?) \|", page.partition("\n## ")[0], re.MULTILINE)
    documented = {name: default.split("`")[1::2] for names, default in rows for name in re.findall(r"`(\w+)`", names)}
    parameters = inspect.signature(run_queue).parameters.values()
    assert documented == {
        one.name: []
        if one.default is one.empty
        else [json.dumps(one.default) if isinstance(one.default, str) else repr(one.default)]
        for one in parameters
    }
    assert list(documented) == [one.name for one in parameters]


def test_every_example_is_told_of() -> None:
    """Some page leads to each example that is a program."""
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    programs = [
        one for one in ROOT.glob("examples/*.py") if '__name__ == "__main__"' in one.read_text(encoding="utf-8")
    ]
    assert programs
    assert [one.name for one in programs if one.name not in pages] == []


def test_the_drawings_of_the_states_have_every_event_of_an_item() -> None:
    """Each event that changes an item's state stands at an arrow, and what stands at the arrows are events."""
    drawings = [(ROOT / f"docs/explanation/{name}-light.svg").read_text("utf-8") for name in ("states", "commands")]
    drawn = set(re.findall(r"item\.\w+", "".join(drawings)))
    events = {name for name in EVENT_TYPES if name.startswith("item.")}
    assert drawn == events - {
        "item.enqueued",
        "item.described",
        "item.adopted",
        "item.regrouped",
        "item.cancelled",
    }  # the call that makes it; what changes no state


def test_the_events_of_the_item_that_is_followed_are_real(tmp_path: Path) -> None:
    """The page on the architecture quotes what its program records when it is killed and started again."""
    page = (ROOT / "docs/explanation/architecture.md").read_text(encoding="utf-8")
    story = page.partition("## One item, followed through")[2].partition("\n## ")[0]
    (tmp_path / "crawl.py").write_text(story.partition("```python\n")[2].partition("```")[0], encoding="utf-8")
    command = [sys.executable, "-W", "error", "crawl.py"]
    quoted = [json.loads(line) for line in re.findall(r"^(?:\d+\|)?(\{.*\})$", story, re.MULTILINE)]
    killed_after = next(event["seq"] for event in quoted if event["event"] == "run.resumed") - 1

    def recorded() -> list[dict[str, Any]]:
        with closing(sqlite3.connect(f"file:{tmp_path / 'run.db'}?mode=ro", uri=True)) as connection:
            return [json.loads(event) for (event,) in connection.execute("SELECT event FROM events ORDER BY seq")]

    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as program:
        deadline = time.monotonic() + 60
        while True:
            with suppress(sqlite3.OperationalError):  # the file isn't there yet
                if len(recorded()) == killed_after:
                    break
            assert time.monotonic() < deadline, "the page was not started"
            time.sleep(0.05)
        program.kill()
    (tmp_path / "answer.html").write_text("<p>hello</p>\n", encoding="utf-8")
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    real = {event["seq"]: event for event in recorded()}
    for event in quoted:
        # Times and the like differ, but each is there.
        differs = {"at", "duration_s", "run_id", "aqueue_version", "pid", "host"} & set(event)
        assert event | {name: real[event["seq"]][name] for name in differs} == real[event["seq"]]


def test_the_first_change_of_a_contributor_can_be_made() -> None:
    """What CONTRIBUTING.md shows as a change fits the files of today, or has just been made: who tries it runs this, too."""
    files = [
        (ROOT / name).read_text(encoding="utf-8")
        for name in ("reporters/aqueue_reporters/_summary.py", "tests/reporters/test_plain.py")
    ]
    changes = [token.content for token, _ in fences(ROOT / "CONTRIBUTING.md") if "\n+" in token.content]
    assert len(changes) == len(files)
    for change in changes:
        before, after = (
            "".join(f"{line[1:]}\n" for line in change.splitlines() if not line.startswith(sign)) for sign in "+-"
        )
        assert sum(before in file or after in file for file in files) == 1, before


def test_every_environment_variable_is_in_the_reference() -> None:
    """Whatever the code reads from an AQUEUE_… variable, the reference names it."""
    reference = "".join(page.read_text(encoding="utf-8") for page in REFERENCE)
    sources = [*ROOT.glob("src/**/*.py"), *ROOT.glob("reporters/**/*.py")]
    named = {
        name for source in sources for name in re.findall(r"\bAQUEUE_[A-Z_]+\b", source.read_text(encoding="utf-8"))
    }
    assert named
    assert {name for name in named if name not in reference} == set()


def test_every_reporter_is_in_the_reference() -> None:
    """Each reporter that comes with aqueue has its name and its class in the reference."""
    reference = "".join(page.read_text(encoding="utf-8") for page in REFERENCE)
    points = [
        point
        for point in importlib.metadata.entry_points(group="aqueue.reporters")
        if point.dist is not None and point.dist.name == "aqueue"
    ]
    assert points
    assert [p.name for p in points if f'"{p.name}"' not in reference or f" {p.module} " not in reference] == []
