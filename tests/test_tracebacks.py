"""Tracebacks cut to the frames of the user's own code, whatever the traceback."""

import json
import traceback
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import aqueue
import aqueue.text
import aqueue_reporters.plain
from aqueue.tracebacks import Frame, is_user_file, user_frames
from tests.strategies import hostile_text

HERE = str(Path(__file__).relative_to(Path.cwd())) if Path(__file__).is_relative_to(Path.cwd()) else __file__
LIBRARY = '  File "/venv/lib/python3.11/site-packages/httpx/_client.py", line 12, in get\n    return send()\n'
JOB = '  File "/home/me/job.py", line 3, in process\n    await fetch(url)\n'
HEAD = "Traceback (most recent call last):\n"


def formatted(call: Callable[[], object]) -> str:
    """Return the traceback of what `call` raises."""
    try:
        call()
    except Exception as error:
        return "".join(traceback.format_exception(error))
    raise AssertionError("it raised nothing")


def shown(call: Callable[[], object]) -> list[tuple[str, str]]:
    """Return the function and the code of each of the user's frames in what `call` raises, without `formatted`."""
    frames = user_frames(formatted(call))
    assert {frame.file for frame in frames} <= {HERE}
    return [(frame.function, frame.code) for frame in frames if frame.function != "formatted"]


def lookup() -> None:
    """Raise."""
    raise LookupError("no")


def call_lookup() -> None:
    """Call what raises."""
    lookup()


def loads() -> None:
    """Raise in the standard library."""
    json.loads("{")


def from_cause() -> None:
    """Raise an error that another one was the cause of."""
    try:
        lookup()
    except LookupError as error:
        raise ValueError("worse") from error


def while_handling() -> None:
    """Raise an error while another one is handled."""
    try:
        lookup()
    except LookupError:
        loads()


def test_frames_are_the_outermost_first() -> None:
    """With the file below the current folder, the line's number, the function and the line of code."""
    frames = user_frames(formatted(call_lookup))
    assert [frame.function for frame in frames] == ["formatted", "call_lookup", "lookup"]
    line = lookup.__code__.co_firstlineno + 2
    assert frames[-1] == Frame(HERE, line, "lookup", 'raise LookupError("no")')


def test_frames_of_the_standard_library_are_left_out() -> None:
    """The innermost is then the user's call of it."""
    assert shown(loads) == [("loads", 'json.loads("{")')]


def test_frames_of_installed_packages_are_left_out() -> None:
    """Those below site-packages or dist-packages, on Windows, too."""
    windows = '  File "C:\\venv\\Lib\\site-packages\\httpx\\_client.py", line 12, in get\n    return send()\n'
    debian = '  File "/usr/lib/python3/dist-packages/httpx.py", line 12, in get\n    return send()\n'
    frames = user_frames(f"{HEAD}{JOB}{LIBRARY}{windows}{debian}OSError: no\n")
    assert frames == [Frame("/home/me/job.py", 3, "process", "await fetch(url)")]


@pytest.mark.parametrize("file", [aqueue.__file__, aqueue.text.__file__, aqueue_reporters.plain.__file__])
def test_frames_of_aqueue_are_left_out(file: str) -> None:
    """From an editable install, too."""
    assert not is_user_file(file)
    assert (
        user_frames(f'{HEAD}{JOB}  File "{file}", line 1, in f\n    f()\nOSError: no\n')[-1].file == "/home/me/job.py"
    )


@pytest.mark.parametrize(
    "file",
    [
        json.__file__,
        anyio.__file__,
        "<string>",
        "<frozen importlib._bootstrap>",
        "uvloop/loop.pyx",
        "src/lxml/etree.pyx",
        "asyncpg/pgproto/./buffer.pxd",
    ],
)
def test_files_that_are_nobody_s(file: str) -> None:
    """The standard library's, packages', compiled ones' too, and what is no file."""
    assert not is_user_file(file)


@pytest.mark.parametrize("file", [__file__, "job.py", "/home/me/my-site-packages/job.py", "/work/aqueue_jobs/a.py"])
def test_files_of_the_user(file: str) -> None:
    """Whatever is called nearly as something installed."""
    assert is_user_file(file)


def test_of_a_chain_the_last_counts() -> None:
    """The error that was raised, not its cause or what was being handled."""
    assert shown(from_cause) == [("from_cause", 'raise ValueError("worse") from error')]
    assert shown(while_handling) == [("while_handling", "loads()"), ("loads", 'json.loads("{")')]


def test_of_a_chain_the_cause_counts_where_the_last_has_no_frames() -> None:
    """As where a library says why it was cancelled."""
    cause = f"{HEAD}{JOB}OSError: no\n\nThe above exception was the direct cause of the following exception:\n\n"
    assert [frame.function for frame in user_frames(f"{cause}{HEAD}{LIBRARY}Error: no\n")] == ["process"]
    assert [frame.function for frame in user_frames(f"{cause}Error: no\n")] == ["process"]


def test_of_a_group_the_last_exception_counts() -> None:
    """However deep it is nested, with its code."""

    def fail() -> None:
        errors = []
        for call in (lookup, loads):
            try:
                call()
            except Exception as error:
                errors.append(error)
        raise ExceptionGroup("two", [errors[0], ExceptionGroup("one", errors[1:])])

    assert shown(fail) == [("fail", "call()"), ("loads", 'json.loads("{")')]


def test_of_a_group_it_counts_itself_where_its_exceptions_have_no_frames() -> None:
    """Then it is told where it was raised."""

    def fail() -> None:
        raise ExceptionGroup("never raised", [ValueError("no")])

    assert [function for function, _ in shown(fail)] == ["fail"]


def test_syntax_error() -> None:
    """What stands where the code is wrong is no frame; that the user's code asked for it is one."""
    assert [function for function, _ in shown(lambda: compile("def (x", "/home/me/wrong.py", "exec"))] == ["<lambda>"]


def test_frame_without_source() -> None:
    """Has no code: neither the next frame nor the error is taken for it."""
    frame = '  File "/home/me/gone.py", line 1, in f\n'
    frames = user_frames(f"{HEAD}{frame}{frame}  [Previous line repeated 9 more times]\n{frame}OSError: no\n")
    assert frames == [Frame("/home/me/gone.py", 1, "f")] * 3


def test_long_lines_are_given_whole() -> None:
    """What shows them cuts them."""
    path, code = f"/home/{'me/' * 1_000}job.py", "f(" * 5_000
    assert user_frames(f'{HEAD}  File "{path}", line 1, in f\n    {code}\nE\n') == [Frame(path, 1, "f", code)]


def test_traceback_that_was_cut_at_its_front() -> None:
    """The frames that are left count, the half line that it begins with does not."""
    assert user_frames(f'me/job.py", line 1, in f\n    f()\n{JOB}OSError: no\n') == user_frames(f"{HEAD}{JOB}E\n")


def test_words_of_a_traceback_in_a_message_hide_nothing() -> None:
    """As where the message quotes another program's output."""
    text = f"{HEAD}{JOB}RuntimeError: it said: {HEAD}and no more\n"
    assert [frame.function for frame in user_frames(text)] == ["process"]


def test_paths_are_relative_to_the_current_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only where the file is in it; and whole if that folder is gone."""
    folder = tmp_path / "job"
    folder.mkdir()
    monkeypatch.chdir(folder)
    here = Path.cwd()
    text = HEAD + "".join(
        f'  File "{file}", line 1, in f\n' for file in (here / "a/b.py", f"{here}-2/c.py", here.parent / "d.py")
    )
    assert [frame.file for frame in user_frames(text)] == [
        str(Path("a/b.py")),
        f"{here}-2/c.py",
        str(here.parent / "d.py"),
    ]
    folder.rmdir()
    assert user_frames(text)[0].file == str(here / "a/b.py")


@given(hostile_text | st.text())
@example("9" * 5_000)
@example('", line 1, in f' * 500)
def test_any_text_is_taken(text: str) -> None:
    """Text that is no traceback gives no frames, and nothing that stands in one is an error."""
    assert user_frames(text.replace("File", "")) == []
    user_frames(f'{HEAD}  File "{text}", line {text}, in {text}\n    {text}\n{text}')
    user_frames(f'{HEAD}  File "a.py", line {text}1, in {text}\n{text}\n  File "')
