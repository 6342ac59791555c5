"""How a reporter is named: every form that `reporter=` takes, and every error."""

import io
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from aqueue.errors import InvalidArgument, ReporterError
from aqueue.events import Event
from aqueue.reporting import Reporter, RunInfo, can_redraw, resolve_reporters
from aqueue.result import RunResult
from aqueue.testing import EventRecorder
from aqueue.view import RunView
from aqueue_reporters.jsonl import JsonlReporter
from aqueue_reporters.plain import PlainReporter
from aqueue_reporters.rich import RichReporter
from tests.reporters.pty_stream import PtyStream


class OnTerminal(EventRecorder):
    """A reporter that says that it uses the terminal."""

    uses_terminal = True


class Plugin(EventRecorder):
    """A third party's reporter, which needs an argument."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a distribution whose entry points name `Plugin`, and what can't be imported."""
    metadata = tmp_path / "aqueue_plugin-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: aqueue-plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        f"[aqueue.reporters]\nplugin = {__name__}:Plugin\nbroken = no_such_module:Reporter\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@contextmanager
def stderr_on_terminal(term: str) -> Iterator[None]:
    """Make stderr a terminal of that type. Not a fixture: pytest replaces sys.stderr between setting up and calling."""
    terminal = PtyStream()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", terminal.stream)
        patch.setenv("TERM", term)
        yield
    terminal.finish()


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AQUEUE_REPORTER", raising=False)


def types(spec: str | Reporter | Sequence[str | Reporter]) -> list[type]:
    """Return the classes of the reporters that `spec` names."""
    return [type(reporter) for reporter in resolve_reporters(spec)]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("none", []),
        ("rich", [RichReporter]),
        ("plain", [PlainReporter]),
        ("jsonl", [JsonlReporter]),
        ("jsonl:run.jsonl", [JsonlReporter]),
        ([], []),
        (["rich", "jsonl:run.jsonl"], [RichReporter, JsonlReporter]),
        (("plain", "none"), [PlainReporter]),
    ],
)
def test_names_stand_for_reporters(spec: str | Sequence[str], expected: list[type]) -> None:
    """Each of aqueue's own, with and without an argument, alone and in a sequence."""
    assert types(spec) == expected


def test_object_stands_for_itself() -> None:
    """A reporter of one's own, alone or beside a name."""
    recorder = EventRecorder()

    assert resolve_reporters(recorder) == [recorder]
    assert resolve_reporters([recorder, "none"]) == [recorder]


def test_object_need_not_be_a_subclass_of_anything() -> None:
    """What has the methods is a reporter."""

    class Own:
        def __init__(self) -> None:
            self.uses_terminal = False

        def open(self, run: RunInfo) -> None: ...
        def handle(self, events: Sequence[Event], view: RunView) -> None: ...
        def close(self, result: RunResult) -> None: ...

    own = Own()

    assert resolve_reporters(own) == [own]


@pytest.mark.usefixtures("plugin")
def test_plugin_is_found_by_its_name_and_given_its_argument() -> None:
    """A third party's reporter is named like aqueue's own; what is after the first colon is its argument."""
    (reporter,) = resolve_reporters("plugin:host:8080")

    assert getattr(reporter, "target", None) == "host:8080"


@pytest.mark.usefixtures("plugin")
def test_argument_that_is_missing_is_an_error() -> None:
    """It says how to write one."""
    with pytest.raises(
        InvalidArgument, match=r"^reporter is 'plugin', but 'plugin' needs an argument; write 'plugin:…'$"
    ):
        resolve_reporters("plugin")


@pytest.mark.parametrize("spec", ["rich:x", "plain:x", "none:x", "auto:x", "none:"])
def test_argument_that_is_not_taken_is_an_error(spec: str) -> None:
    """It says how to write it without."""
    name = spec.partition(":")[0]

    with pytest.raises(
        InvalidArgument, match=f"^reporter is '{spec}', but '{name}' takes no argument; write '{name}'$"
    ):
        resolve_reporters(spec)


def test_colon_with_nothing_behind_it_is_an_error() -> None:
    """It was meant to name something."""
    with pytest.raises(InvalidArgument, match=r"^reporter is 'jsonl:', which has nothing after the colon"):
        resolve_reporters("jsonl:")


@pytest.mark.parametrize("spec", ["fancy", "Rich", "", "rich "])
def test_name_that_is_not_known_is_an_error(spec: str) -> None:
    """It lists those that are."""
    message = f"^reporter is '{spec}'; it must be one of 'auto', 'none', 'jsonl', 'plain', 'rich'"

    with pytest.raises(InvalidArgument, match=message):
        resolve_reporters(spec)


def test_hostile_name_is_shown_safely() -> None:
    """The name may come from the environment."""
    with pytest.raises(InvalidArgument) as caught:
        resolve_reporters("\x1b[2J\n")

    assert str(caught.value).isprintable()


@pytest.mark.parametrize("cls", [EventRecorder, PlainReporter, RichReporter])
def test_class_instead_of_an_instance_is_an_error(cls: type) -> None:
    """It says to pass an instance."""
    with pytest.raises(
        InvalidArgument, match=r"^reporter is .*, which isn't a reporter: it is a class; pass an instance"
    ):
        resolve_reporters(cls)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "lacks"),
    [
        (None, "lacks open, handle, close, uses_terminal"),
        (17, "lacks open, handle, close, uses_terminal"),
        ([None], "lacks open, handle, close, uses_terminal"),
        ([["rich"]], "is a collection; pass several reporters as one list of names and reporters"),
        ({"rich"}, "is a collection; pass several reporters as one list of names and reporters"),
        (Path("run.jsonl"), "lacks handle, close, uses_terminal"),
        (sys.stdout, "lacks open, handle, uses_terminal"),
    ],
)
def test_object_that_is_no_reporter_is_an_error(spec: object, lacks: str) -> None:
    """It says what the object lacks, or what to pass instead."""
    with pytest.raises(InvalidArgument, match=rf"^reporter is .*, which isn't a reporter: it {lacks}$"):
        resolve_reporters(spec)  # type: ignore[arg-type]


@pytest.mark.usefixtures("plugin")
def test_a_plugin_that_can_not_be_imported_is_an_error() -> None:
    """It names the plugin, what it stands for, and what importing it raised."""
    says = r"^reporter 'broken' \(no_such_module:Reporter\) can't be loaded: ModuleNotFoundError: .*; nothing has been run$"
    with pytest.raises(ReporterError, match=says):
        resolve_reporters("broken")


def test_two_reporters_that_use_the_terminal_are_an_error() -> None:
    """It names both, and what to do."""
    message = r"OnTerminal and aqueue_reporters\.rich:RichReporter, which would each redraw the terminal; keep only one"

    with pytest.raises(InvalidArgument, match=message):
        resolve_reporters([OnTerminal(), "jsonl", "rich"])


def test_error_is_a_value_error() -> None:
    """As for any argument with a wrong value."""
    with pytest.raises(ValueError, match="fancy"):
        resolve_reporters("fancy")


def test_auto_is_rich_on_a_terminal() -> None:
    """Stderr is what counts."""
    with stderr_on_terminal("xterm-256color"):
        assert types("auto") == [RichReporter]


@pytest.mark.parametrize("term", ["dumb", "unknown", ""])
def test_auto_is_plain_on_a_dumb_terminal(term: str) -> None:
    """One that can't move its cursor."""
    with stderr_on_terminal(term):
        assert types("auto") == [PlainReporter]


def closed_stream(tmp_path: Path) -> object:
    """Return a stream that was closed."""
    with (tmp_path / "closed").open("w") as stream:
        return stream


@pytest.mark.parametrize("stderr", [closed_stream, lambda tmp_path: None, lambda tmp_path: object()])
def test_auto_is_plain_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stderr: Callable[[Path], object]
) -> None:
    """Also where stderr is closed, absent or something odd."""
    monkeypatch.setattr(sys, "stderr", stderr(tmp_path))

    assert types("auto") == [PlainReporter]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("jsonl:run.jsonl", [JsonlReporter]),
        ("none", []),
        ("rich", [RichReporter]),
        ("auto", [PlainReporter]),
        ("", [PlainReporter]),
    ],
)
def test_environment_overrides_auto(monkeypatch: pytest.MonkeyPatch, value: str, expected: list[type]) -> None:
    """AQUEUE_REPORTER holds any name that `reporter=` takes; empty is not set."""
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setenv("AQUEUE_REPORTER", value)

    assert types("auto") == expected


def test_environment_overrides_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the program asks for by name, it gets."""
    monkeypatch.setenv("AQUEUE_REPORTER", "none")

    assert types("plain") == [PlainReporter]


def test_error_in_the_environment_says_where_the_name_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """The person who reads it did not write the program."""
    monkeypatch.setenv("AQUEUE_REPORTER", "fancy")

    with pytest.raises(
        InvalidArgument, match=r"reporter is 'fancy'; it must be one of .*environment variable AQUEUE_REPORTER"
    ):
        resolve_reporters("auto")


def test_only_named_reporters_are_imported() -> None:
    """A program with plain lines does not wait for rich, nor one that shows nothing for any of them."""
    code = """
import sys
from aqueue.reporting import resolve_reporters
resolve_reporters("none")
assert not {"rich", "structlog", "aqueue_reporters"} & set(sys.modules), "none"
resolve_reporters("plain")
assert not {"rich", "structlog"} & set(sys.modules), "plain"
resolve_reporters("rich")
assert "structlog" not in sys.modules, "rich"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("term", "expected"), [("xterm", True), ("dumb", False), ("unknown", False), ("", False)])
def test_a_terminal_can_be_redrawn_if_its_type_says_so(term: str, expected: bool) -> None:
    """A terminal that can do nothing but print is written to as a file is."""
    with stderr_on_terminal(term):
        assert can_redraw(sys.stderr) == expected


def test_what_is_no_terminal_can_not_be_redrawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file, a closed one, one that only says that it is a terminal, and none at all."""
    monkeypatch.setenv("TERM", "xterm")
    with (tmp_path / "file").open("w") as file:
        assert not can_redraw(file)
    assert not can_redraw(file)

    class Boaster(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert not can_redraw(Boaster())
    assert not can_redraw(None)
