"""What a client makes of those who listen, or don't, where a run's control socket may be."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aqueue import Backend
from aqueue._control import client
from aqueue._control.addresses import addresses_of
from aqueue._control.client import ask
from aqueue._verbs import MAX_LINE_BYTES, Answer, Blocked, Pause, Refusal, line_of
from aqueue.errors import SteeringError
from tests.control.running import ANSWER, COMMAND_LINE, NOBODY, TIMEOUT_S, command, first_path, running, start_program

SOON_S = 0.3
"""How long clients in these tests wait for a run that never answers."""


def unexpected(why: str) -> None:
    """Fail: nothing blocks the run."""
    raise AssertionError(why)


@contextmanager
def listening(path: Path, serve: Callable[[socket.socket], None] | None = None) -> Iterator[socket.socket]:
    """Listen at `path`; `serve` gets the first client, on a thread. Without it, nobody is accepted."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)

        def work() -> None:
            assert serve is not None
            with listener.accept()[0] as connection:
                serve(connection)

        thread = threading.Thread(target=work)
        if serve is not None:
            thread.start()
        yield listener
        if serve is not None:
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()


def replying(*lines: bytes) -> Callable[[socket.socket], None]:
    """Return what reads a command, sends these lines, and ends the connection."""

    def serve(connection: socket.socket) -> None:
        assert connection.recv(MAX_LINE_BYTES) == COMMAND_LINE
        connection.sendall(b"".join(lines))

    return serve


def test_a_live_run_answers(journal: Path, backend: Backend) -> None:
    """The run carries out the command, and its answer comes back."""
    with running(journal, backend) as run:
        assert ask(journal, command(), unexpected) == ANSWER
        assert run.commands == [command()]


def _stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


@pytest.mark.parametrize("make", [None, _stale, Path.touch, Path.mkdir])
def test_where_nobody_listens_there_is_no_answer(journal: Path, make: Callable[[Path], None] | None) -> None:
    """Not where there is nothing, a socket of a dead process or of another machine, a file, or a folder."""
    if make is not None:
        make(first_path(journal))
    assert ask(journal, command(), unexpected) is None


def test_a_journal_that_does_not_exist_has_no_run(folder: Path) -> None:
    """Not even a folder is needed."""
    assert ask(folder / "none.db", command(), unexpected) is None


def test_every_place_is_tried(journal: Path) -> None:
    """A stale socket next to the journal doesn't hide the run, which listens elsewhere."""
    addresses = addresses_of(journal)
    _stale(addresses[0].path)
    with listening(addresses[-1].make_folder(), replying(line_of(ANSWER))):
        assert ask(journal, command(), unexpected) == ANSWER


def test_a_folder_that_others_can_write_is_not_looked_into(journal: Path) -> None:
    """Somebody else may have put the socket there."""
    address = addresses_of(journal)[-1]
    address.make_folder()
    with listening(address.path):
        address.folder.chmod(0o777)
        assert ask(journal, command(), unexpected) is None


def test_a_link_to_the_socket_of_another_run_is_not_followed(journal: Path, folder: Path) -> None:
    """Else the wrong run would be steered."""
    with running(folder / "other.db") as other:
        first_path(journal).symlink_to(other.path)
        assert ask(journal, command(), unexpected) is None
        assert other.commands == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
@pytest.mark.parametrize("owner", [0, NOBODY])
def test_another_users_process_is_asked_only_about_a_journal_of_that_user(
    folder: Path, journal: Path, owner: int
) -> None:
    """Root can steer the run of anybody; but another user who can write in the folder can't pose as the run."""
    folder.chmod(0o777)
    os.chown(journal, owner, owner)
    journal.chmod(0o666)
    with start_program(journal, user=NOBODY) as process:
        assert ask(journal, command(), unexpected) == (Answer(running=7) if owner == NOBODY else None)
        process.communicate("\n")


# ---- replies ----------------------------------------------------------------------------------------------------


def test_a_refusal_is_an_error_without_control_characters(journal: Path) -> None:
    """Its text comes from another process."""
    refused = replying(line_of(Refusal("the run \x1b[2J has no groups")))
    with listening(first_path(journal), refused), pytest.raises(SteeringError) as caught:
        ask(journal, command(), unexpected)
    assert str(caught.value) == r"the run \x1b[2J has no groups"


def test_a_blocked_run_is_reported_and_its_answer_waited_for(journal: Path) -> None:
    """Control characters are escaped: who listens may be the owner of the journal, whom root doesn't trust that far."""
    said: list[str] = []
    lines = line_of(Blocked("blocked \x1b[2J")), line_of(Blocked("blocked again")), line_of(ANSWER)
    with listening(first_path(journal), replying(*lines)):
        assert ask(journal, command(), said.append) == ANSWER
    assert said == [r"blocked \x1b[2J", "blocked again"]


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [line_of(ANSWER)[:-5]],
        [line_of(ANSWER)[:-1]],
        [line_of(Refusal("the run has ended", is_over=True))],
        [b"x" * 2_000_000 + b"\n"],
    ],
    ids=["nothing", "half", "no newline", "over", "too long"],
)
def test_a_run_that_ends_before_its_answer_has_given_none(journal: Path, lines: list[bytes]) -> None:
    """Its process was killed, or says itself that it is over."""

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(BrokenPipeError):  # of the last one, only a part is read
            replying(*lines)(connection)

    with listening(first_path(journal), serve):
        assert ask(journal, command(), unexpected) is None


def test_a_connection_that_is_reset_is_no_answer(journal: Path) -> None:
    """The run has ended before it has read the command."""
    with listening(first_path(journal), lambda _: None):  # closed with the command unread
        assert ask(journal, command(), unexpected) is None


@pytest.mark.parametrize("line", [b"\xff\n", b"{}\n", b"[" * 60_000 + b"\n", b'{"answer":"later"}\n', b"\n"])
def test_a_reply_of_another_aqueue_is_an_error(journal: Path, line: bytes) -> None:
    """It is not taken for an answer."""
    with listening(first_path(journal), replying(line)), pytest.raises(SteeringError, match="reply can't be read"):
        ask(journal, command(), unexpected)


def test_a_name_that_is_no_text_is_an_error(journal: Path) -> None:
    """A shell can pass one, but JSON can't."""
    with pytest.raises(SteeringError, match=r"\\udcff"):
        ask(journal, Pause(by="anna", group="\udcff"), unexpected)


def test_an_error_of_the_caller_is_the_callers(journal: Path) -> None:
    """Such as that of a closed standard error, where `on_blocked` writes: it is no sign that the run has gone."""

    def write(why: str) -> None:
        raise BrokenPipeError(why)

    with listening(first_path(journal), replying(line_of(Blocked("blocked")))), pytest.raises(BrokenPipeError):
        ask(journal, command(), write)


# ---- those who never answer -------------------------------------------------------------------------------------


def test_a_socket_that_never_answers_holds_nobody_up(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that a dead run has forked may have inherited its socket: the system accepts for it."""
    monkeypatch.setattr(client, "FIRST_S", SOON_S)
    with listening(first_path(journal)):
        started_at = time.monotonic()
        assert ask(journal, command(), unexpected) is None
        assert time.monotonic() - started_at >= SOON_S


def test_a_socket_that_nobody_accepts_from_holds_nobody_up(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if so many have connected that the system takes no more."""
    monkeypatch.setattr(client, "FIRST_S", SOON_S)
    with listening(first_path(journal)), contextlib.ExitStack() as others:
        with contextlib.suppress(BlockingIOError):
            while True:
                other = others.enter_context(socket.socket(socket.AF_UNIX))
                other.setblocking(False)
                other.connect(str(first_path(journal)))
        assert ask(journal, command(), unexpected) is None


def test_a_client_waits_for_its_turn_to_be_accepted(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full queue of the system is no sign of a dead run."""
    waiting = threading.Event()
    sleep = time.sleep

    def told_sleep(seconds: float) -> None:
        waiting.set()
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", told_sleep)
    with listening(first_path(journal)) as listener, contextlib.ExitStack() as others:
        with contextlib.suppress(BlockingIOError):
            while True:
                other = others.enter_context(socket.socket(socket.AF_UNIX))
                other.setblocking(False)
                other.connect(str(first_path(journal)))
        answers: list[Answer | None] = []
        thread = threading.Thread(target=lambda: answers.append(ask(journal, command(), unexpected)))
        thread.start()
        assert waiting.wait(TIMEOUT_S)
        others.close()
        while True:
            with listener.accept()[0] as connection:
                if connection.recv(MAX_LINE_BYTES):
                    connection.sendall(line_of(ANSWER))
                    break
        thread.join(TIMEOUT_S)
    assert answers == [ANSWER]


def test_a_run_that_stops_to_answer_after_a_while_holds_nobody_up(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process may be suspended."""
    monkeypatch.setattr(client, "NEXT_S", SOON_S)
    is_over = threading.Event()

    def serve(connection: socket.socket) -> None:
        replying(line_of(Blocked("blocked")))(connection)
        assert is_over.wait(TIMEOUT_S)

    with listening(first_path(journal), serve):
        assert ask(journal, command(), lambda _: None) is None
        is_over.set()


ASKS = """
import sys
from pathlib import Path
from aqueue._control import client
from aqueue._verbs import Pause

client.FIRST_S = 60.0
client.ask(Path(sys.argv[1]), Pause(by="anna"), print)
"""


def test_ctrl_c_ends_the_wait(journal: Path) -> None:
    """At once: nothing catches it."""
    asks = [sys.executable, "-c", ASKS, str(journal)]
    with (
        listening(first_path(journal)) as listener,
        subprocess.Popen(asks, stderr=subprocess.PIPE) as process,
        listener.accept()[0] as connection,
    ):
        assert connection.recv(MAX_LINE_BYTES)
        process.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in process.communicate(timeout=TIMEOUT_S)[1]


def test_without_unix_sockets_no_run_is_live(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that commands go into the journal there."""
    monkeypatch.setattr(client, "HAS_UNIX_SOCKETS", False)
    with listening(first_path(journal)):
        assert ask(journal, command(), unexpected) is None
