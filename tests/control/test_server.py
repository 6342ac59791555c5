"""The control socket of a run from its start to its end: where it is made, what else may be there, forks and kills."""

import errno
import os
import signal
import socket
import stat
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from aqueue import Backend
from aqueue._control import client, server, service
from aqueue._control.addresses import addresses_of
from aqueue._control.client import ask
from aqueue._control.server import ControlServer
from aqueue._verbs import Answer, Blocked, Refusal
from aqueue.errors import SteeringError
from tests.control.running import (
    ANSWER,
    COMMAND_LINE,
    TIMEOUT_S,
    Client,
    command,
    descriptors,
    first_path,
    running,
    start_program,
)

OVER = Refusal("the run has just ended", is_over=True)


def no_block(why: str) -> None:
    """Ignore that a machine is so busy that a run seems to be blocked."""


# ---- where it is ------------------------------------------------------------------------------------------------


def test_it_lies_next_to_the_journal_for_its_user_alone(journal: Path, backend: Backend) -> None:
    """At the end nothing is left of it."""
    with running(journal, backend) as run:
        assert run.path == journal.with_name("run.db.sock")
        found = run.path.lstat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o600
        assert ask(journal, command(), no_block) == ANSWER
    assert list(journal.parent.glob("run.db*")) == [journal]
    assert run.warnings == []
    assert ask(journal, command(), no_block) is None


def test_nobody_can_connect_before_the_mode_is_right(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket is made with the mode that the umask leaves, and listens only after that was changed."""
    refused: list[str] = []
    chmod = Path.chmod

    def told_chmod(path: Path, mode: int) -> None:
        with pytest.raises(ConnectionRefusedError):
            Client(path)
        refused.append(path.name)
        chmod(path, mode)

    monkeypatch.setattr(Path, "chmod", told_chmod)
    with running(journal):
        pass
    assert refused == ["run.db.sock"]


def test_a_stale_socket_is_replaced(journal: Path) -> None:
    """The run that made it had the journal's lock, which this run has now."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(first_path(journal)))
    with running(journal) as run:
        assert run.path == first_path(journal)
        assert ask(journal, command(), no_block) == ANSWER
    assert run.warnings == []


def _file(path: Path) -> None:
    path.write_text("mine")


def _link(path: Path) -> None:
    path.symlink_to(path.parent / "elsewhere")


def _link_to_a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path.parent / "elsewhere"))
    _link(path)


@pytest.mark.parametrize("make", [_file, Path.mkdir, _link, _link_to_a_socket])
def test_what_is_not_a_socket_is_left_where_it_is(journal: Path, make: Callable[[Path], None]) -> None:
    """The run listens elsewhere, and says so; a client finds it."""
    path = first_path(journal)
    make(path)
    before = path.lstat()
    with running(journal) as run:
        assert run.path == addresses_of(journal)[-1].path
        assert ask(journal, command(), no_block) == ANSWER
        (warning,) = run.warnings
    assert f"{path} is not a socket" in warning
    assert str(run.journal.parent / "t") in warning
    assert path.lstat() == before or path.lstat().st_ino == before.st_ino
    assert not list(addresses_of(journal)[-1].folder.iterdir())


def test_a_journal_with_a_long_path_has_its_socket_elsewhere(folder: Path) -> None:
    """Its path has 300 bytes."""
    deep = folder / ("x" * 200)
    deep.mkdir()
    journal = deep / ("y" * (300 - len(str(deep)) - 1))
    with running(journal) as run:
        assert run.path.parent == folder / "t" / f"aqueue-{os.geteuid()}"
        assert ask(journal, command(), no_block) == ANSWER
    assert run.warnings == []
    assert list(deep.iterdir()) == [journal]


def _cannot_bind(monkeypatch: pytest.MonkeyPatch, error: int, *folders: Path) -> None:
    """Let the system refuse sockets in these folders."""

    class Socket(socket.socket):
        def bind(self, path: str) -> None:  # type: ignore[override]  # of one shape here
            if Path(path).parent in folders:
                raise OSError(error, os.strerror(error))
            super().bind(path)

    monkeypatch.setattr(server.socket, "socket", Socket)  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES, errno.EOPNOTSUPP, errno.EPERM])
def test_where_no_socket_can_be_made_another_folder_is_used(
    journal: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """Such as one that is read-only, or on a file system without sockets."""
    _cannot_bind(monkeypatch, error, journal.parent)
    with running(journal) as run:
        assert run.path == addresses_of(journal)[-1].path
        assert ask(journal, command(), no_block) == ANSWER
    assert run.warnings == []


def test_where_the_mode_can_not_be_changed_nothing_stays(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems have sockets, but no modes."""

    def chmod(path: Path, mode: int) -> None:
        if path == first_path(journal):
            raise PermissionError(errno.EPERM, "no modes here")
        os.chmod(path, mode)

    monkeypatch.setattr(Path, "chmod", chmod)
    with running(journal) as run:
        assert run.path != first_path(journal)
        assert not first_path(journal).exists()


def test_a_run_that_can_not_be_steered_says_so_once(journal: Path, tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the folders and the reasons, says how to turn that off, and runs all the same."""
    _cannot_bind(monkeypatch, errno.EROFS, journal.parent)
    (tmp / f"aqueue-{os.geteuid()}").touch()
    with running(journal) as run:
        (warning,) = run.warnings
        assert run.server.path is None
        assert ask(journal, command(), no_block) is None
    assert f"{journal.parent} (Read-only file system)" in warning
    assert f"{tmp}/aqueue-{os.geteuid()} (it is not a real folder)" in warning
    assert "control=False" in warning


def test_a_run_with_only_long_paths_says_so_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal's and that of the temporary folder."""
    deep = folder / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with running(deep / "run.db") as run:
        (warning,) = run.warnings
    assert "100 bytes" in warning


def test_without_unix_sockets_there_is_no_server_and_no_warning(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands then work on runs that are not live."""
    monkeypatch.setattr(server, "HAS_UNIX_SOCKETS", False)
    with running(journal) as run:
        assert run.server.path is None
    assert run.warnings == []


def test_without_a_thread_there_is_one_warning_and_no_socket(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may allow no more of them."""
    start = threading.Thread.start

    def fail(thread: threading.Thread) -> None:
        if thread.name == "aqueue-control":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", fail)
    before = descriptors()
    with running(journal) as run:
        assert not first_path(journal).exists()
    assert descriptors() == before
    (warning,) = run.warnings
    assert "can't start new thread" in warning
    assert "control=False" in warning


def test_an_error_of_the_loop_itself_is_a_warning(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing escapes from the thread, not even what is no Exception; the run can still be closed."""

    def fail(_: object) -> None:
        raise SystemExit("no epoll \x1b[2J")

    monkeypatch.setattr(server.trio, "run", fail)  # type: ignore[attr-defined]
    with running(journal, "asyncio") as run:
        pass
    (warning,) = run.warnings
    assert r"SystemExit('no epoll \x1b[2J')" in warning
    assert not first_path(journal).exists()


# ---- its end ----------------------------------------------------------------------------------------------------


def test_clients_that_wait_at_the_end_learn_that_the_run_is_over(
    journal: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one whose command is with the run, one whose command waits for that, and one that has sent nothing yet."""
    monkeypatch.setattr(service, "BLOCKED_S", 0.1)
    with running(journal, backend) as run:
        run.is_disk_slow = True
        clients = [Client(run.path) for _ in range(3)]
        for one in clients[:2]:
            one.send(COMMAND_LINE)
            assert isinstance(one.reply(), Blocked)
    assert [one.reply() for one in clients] == [OVER, OVER, None]
    assert run.commands == [command()]
    for one in clients:
        one.close()


def test_a_reply_that_is_due_goes_out_at_the_end(journal: Path, backend: Backend) -> None:
    """The run gives its last ones just before it closes the server, in the same step of its loop."""
    with running(journal, backend) as run:
        run.is_disk_slow = True
        one = Client(run.path)
        one.send(COMMAND_LINE)
        run.wait_for_commands(1)
        run.call_soon(lambda: run.unsaved[0].reply(Answer(running=5)))
    assert one.reply() == Answer(running=5)
    assert one.reply() is None
    one.close()


def test_a_reply_after_the_end_is_nobodys(journal: Path) -> None:
    """The thread of the journal may still give one."""
    with running(journal) as run:
        run.is_disk_slow = True
        one = Client(run.path)
        one.send(COMMAND_LINE)
        run.wait_for_commands(1)
    run.unsaved[0].reply(ANSWER)
    assert one.reply() == OVER
    one.close()


def test_a_client_that_reads_nothing_does_not_keep_the_run_from_its_end(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its replies are given a moment, and then up."""
    monkeypatch.setattr(service, "CLOSING_S", 0.1)
    with running(journal) as run:
        run.answer = Answer(reason="x" * 400_000)
        deaf = Client(run.path)
        deaf.send(COMMAND_LINE)
        run.wait_for_commands(1)
    with pytest.raises(SteeringError, match="truncated"):
        deaf.reply()
    deaf.close()


def test_only_its_own_file_is_removed(journal: Path) -> None:
    """The socket at the path may be another one by now: of a run that has the journal's new lock file."""
    with running(journal) as run:
        run.path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(first_path(journal)))
    assert first_path(journal).is_socket()


@pytest.mark.parametrize("removed", [True, False])
def test_it_can_be_closed_twice_and_without_a_start(journal: Path, backend: Backend, removed: bool) -> None:
    """And if somebody has removed the socket."""

    async def main() -> None:
        warnings: list[str] = []
        one = ControlServer(journal, lambda command, pending: None, warnings.append)
        await one.close()
        one.start()
        assert one.path is not None
        if removed:
            one.path.unlink()
        await one.close()
        await one.close()
        assert warnings == []

    anyio.run(main, backend=backend)


def test_it_is_closed_although_the_run_is_cancelled(journal: Path, backend: Backend) -> None:
    """The thread has ended when `close` returns, and the path is free for the next run."""

    async def main() -> None:
        one = ControlServer(journal, lambda command, pending: None)
        one.start()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await one.close()
        assert not first_path(journal).exists()
        assert [thread for thread in threading.enumerate() if thread.name == "aqueue-control"] == []

    anyio.run(main, backend=backend)


def test_nothing_is_left_of_many_servers(journal: Path, backend: Backend) -> None:
    """Neither threads nor descriptors, whatever their clients were doing."""

    def serve() -> None:
        with running(journal, backend) as run:
            clients = [Client(run.path) for _ in range(5)]
            clients[0].send(b"garbage\n")
            clients[1].send(COMMAND_LINE)
            clients[2].send(COMMAND_LINE[:-4])
            assert ask(journal, command(), no_block) == ANSWER
        for one in clients:
            one.close()

    serve()
    threads, files = threading.active_count(), descriptors()
    for _ in range(10):
        serve()
    assert threading.active_count() == threads
    assert descriptors() == files


# ---- forks and kills --------------------------------------------------------------------------------------------

FORKS = """
    if (child := os.fork()) == 0:
        try:
            server.close().send(None)
        except StopIteration:
            os.write(1, b"closed\\n")
        signal.pause()
    os.write(1, b"%d\\n" % child)
    await anyio.to_thread.run_sync(sys.stdin.readline)
"""


def test_a_forked_child_has_no_part_in_the_socket(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It removes nothing, and after the parent's death its copies of the sockets hold up nobody; the next run gets the path."""
    monkeypatch.setattr(client, "FIRST_S", 10 * TIMEOUT_S)  # longer than the test may take
    with start_program(journal, FORKS) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with Client(first_path(journal)) as connected:
            connected.send(COMMAND_LINE)
            assert connected.reply() == Answer(running=7)
            process.stdin.write("\n")
            process.stdin.flush()
            said = {process.stdout.readline().strip(), process.stdout.readline().strip()}
            child = int(next(iter(said - {"closed"})))
            try:
                assert "closed" in said
                assert ask(journal, command(), no_block) == Answer(running=7)
                process.kill()
                process.wait(TIMEOUT_S)
                assert connected.reply() is None
                assert ask(journal, command(), no_block) is None
                with running(journal) as run:
                    assert run.path == first_path(journal)
                    assert ask(journal, command(), no_block) == ANSWER
                assert run.warnings == []
            finally:
                os.kill(child, signal.SIGKILL)


def test_a_killed_run_has_no_answer_and_the_next_one_has(journal: Path) -> None:
    """Its socket stays, as that of a dead process; a client that waits for its command learns it at once."""
    with start_program(journal) as process, Client(first_path(journal)) as waiting:
        waiting.send(COMMAND_LINE)
        assert waiting.reply() == Answer(running=7)
        process.kill()
        process.wait(TIMEOUT_S)
        assert waiting.reply() is None
    assert first_path(journal).is_socket()
    assert ask(journal, command(), no_block) is None
    with running(journal) as run:
        assert ask(journal, command(), no_block) == ANSWER
    assert run.warnings == []
