"""`_page.commands`: which command line a request becomes, and what comes of it, in a process of its own."""

import os
import sys
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import anyio
import msgspec
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqueue._page import commands
from aqueue._page.commands import OnItems, Pause, Refused, Request, Runner, SetLimit, Stop, request_of
from aqueue.cli._app import app
from aqueue.events import GroupPaused
from tests.journal.writing import make_events, recorded, write


def parsed(verb: str, request: Request) -> Mapping[str, Any]:
    """Return the arguments as the command reads them."""
    words = commands._words(verb, Path("/srv/run.db"), request)
    assert words[0] == verb
    with app.commands[verb].make_context(verb, words[1:]) as context:
        assert context.params["file"] == "/srv/run.db"
        return context.params


any_text = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1).filter(lambda text: "\0" not in text)
many = st.lists(any_text, max_size=3)


@given(st.one_of(any_text, st.sampled_from(["--json", "-h", "--", "-", "--via=x", "--help"])))
def test_any_name_of_a_group_is_that_name(group: str) -> None:
    """Whatever it looks like, it is neither an option nor two words."""
    for verb in ("pause", "unpause"):
        assert parsed(verb, Pause(group=group))["group"] == group
    limit = parsed("limit", SetLimit(group=group, concurrent=4, per_second=0.1))
    assert (limit["group"], limit["concurrent"], limit["per_second"]) == (group, 4, 0.1)
    assert not limit["is_none"] and not limit["is_default"] and not limit["as_json"] and limit["via"] == "command"


@given(many, many, any_text, any_text, any_text, st.lists(st.integers(1, 10**15 - 1), max_size=3))
def test_any_selector_is_that_selector(
    types: list[str], groups: list[str], error: str, text: str, key: str, items: list[int]
) -> None:
    """A person gets what the page has asked for, with the same command in a terminal."""
    body = {"types": types, "groups": groups, "error": error, "text": text, "key": key, "items": items, "subtree": 7}
    for verb in ("retry", "skip", "cancel"):
        request = request_of(verb, msgspec.json.encode(body | {"states": ["failed", "queued"]}))
        read = parsed(verb, request)
        several = {"types": types, "groups": groups, "states": ["failed", "queued"], "numbers": items}
        assert {name: list(read[name]) for name in several} == several
        assert (read["error"], read["text"], read["key"], read["subtree"]) == (error, text, key, 7)
        assert not read["is_sure"] and not read["is_dry"]


@pytest.mark.parametrize(
    ("verb", "body", "words"),
    [
        ("pause", b"{}", ["pause", "FILE"]),
        ("unpause", b'{"group": "a b"}', ["unpause", "FILE", "'--group=a b'"]),
        ("workers", b'{"number": 24}', ["workers", "FILE", "24"]),
        ("limit", b'{"group": "a"}', ["limit", "FILE", "--none", "a"]),
        ("limit", b'{"group": "-a", "per_second": 2}', ["limit", "FILE", "--per-second=2.0", "--", "-a"]),
        ("limit", b'{"group": "a", "is_default": true}', ["limit", "FILE", "--default", "a"]),
        ("stop", b"{}", ["stop", "FILE"]),
        ("stop", b'{"now": true}', ["stop", "FILE", "--now"]),
        ("retry", b'{"items": [3, 4], "completed": true}', ["retry", "FILE", "--completed", "3", "4"]),
        ("skip", b'{"types": ["a:P"], "states": ["failed"]}', ["skip", "FILE", "--type=a:P", "--state=failed"]),
    ],
)
def test_the_command_for_the_terminal(verb: str, body: bytes, words: list[str]) -> None:
    """It is what is called, without what only the page needs, and can be pasted into a shell."""
    shown = Runner(Path("/srv/run.db")).in_terminal(verb, request_of(verb, body))
    assert shown == ["aqueue", *(word.replace("FILE", "/srv/run.db") for word in words)]


def call(path: Path, verb: str, request: Request) -> str:
    """Carry out a request on the journal at `path`."""
    return anyio.run(lambda: Runner(path).carry_out(verb, request), backend="asyncio")


def test_what_comes_of_it_is_what_the_terminal_says(tmp_path: Path) -> None:
    """With its remarks, and recorded as from the page. A name may have any character, whatever the locale."""
    path = tmp_path / "a 'run' é\udcff.db"
    write(path, make_events(1, 50))
    assert call(path, "pause", Pause(group="--é\u202e")).startswith(
        "paused --é\\u202e (no process runs it: this holds from its resume on); no item waits or runs in the group --é\\u202e"
    )
    [event] = [event for event in recorded(path) if isinstance(event, GroupPaused)]
    assert event.group == "--é\u202e" and event.by.endswith(" via page")


def test_a_command_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the words of the command, without the hint that is about its options."""
    with pytest.raises(Refused, match=r"^there is no journal at .+/none\.db; name the file") as missing:
        call(tmp_path / "none.db", "stop", Stop())
    assert missing.value.status == HTTPStatus.CONFLICT
    path = tmp_path / "run.db"
    write(path, make_events(1, 50))
    with pytest.raises(Refused, match=r"^no item is of type 'Nobody'; known types: shop:Page$"):
        call(path, "retry", OnItems(types=("Nobody",)))
    with pytest.raises(Refused, match=r"--text or --subtree$|--subtree$"):
        call(path, "retry", OnItems())
    monkeypatch.setattr(commands.sys, "executable", "/bin/false")  # type: ignore[attr-defined]
    with pytest.raises(Refused, match="exit code 1; this is a bug in aqueue"):
        call(path, "stop", Stop())


def test_a_preview_of_nothing_says_so(tmp_path: Path) -> None:
    """There is nothing to confirm then."""
    path = tmp_path / "run.db"
    write(path, make_events(1, 50))
    with pytest.raises(Refused, match=r"^nothing to retry: no such items are left$"):
        anyio.run(lambda: Runner(path).preview("retry", OnItems(states=("failed",))), backend="asyncio")


def test_a_command_that_is_not_answered_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process is ended, and it is said that it may still be carried out."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 600\n")
    python.chmod(0o700)
    monkeypatch.setattr(commands.sys, "executable", str(python))  # type: ignore[attr-defined]
    monkeypatch.setattr(commands, "_PATIENCE_S", 0.2)
    with pytest.raises(Refused, match="has not answered") as refused:
        call(tmp_path / "run.db", "stop", Stop())
    assert refused.value.status == HTTPStatus.GATEWAY_TIMEOUT
    assert not [one for one in psutil.Process().children(recursive=True) if one.name() == "sleep"]


def test_the_current_folder_is_no_place_for_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that somebody has put there isn't run."""
    (tmp_path / "click.py").write_text("raise SystemExit('hello')\n")
    path = tmp_path / "run.db"
    write(path, make_events(1, 50))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(one for one in sys.path if one and one != str(tmp_path)))
    assert call(path, "pause", Pause()).startswith("paused")
