"""What clients can't do to a run, and what they learn when the run can't do what they ask.

Most of them are hostile, and the loop of the run has work to do all the time. What `aqueue._verbs` makes of their lines is tested here, too.
"""

import contextlib
import errno
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from aqueue._control import service
from aqueue._control.client import FIRST_S, ask
from aqueue._control.service import COMMAND_INTERVAL_S, MAX_CONNECTIONS, Pending
from aqueue._verbs import MAX_LINE_BYTES, Answer, AnyCommand, Blocked, Refusal, line_of
from tests.control.running import (
    ANSWER,
    COMMAND_LINE,
    NOBODY,
    TIMEOUT_S,
    Client,
    Run,
    command,
    descriptors,
    running,
    start_program,
)

LINE_S = 0.5
BLOCKED_S = 0.1
"""How long the service waits in some of these tests, where it waits for some seconds."""

FLOOD_S = 2.0
"""How long a client does as much as it can."""

MAX_CPU = 0.15
"""The part of a CPU that a flood may take of the server's thread, on a busy machine: some 3 % are usual on an idle one."""


@pytest.fixture
def run(journal: Path) -> Iterator[Run]:
    """Run a loop that is busy with other things all the time; at the end, nobody was warned of anything."""
    with running(journal) as run:
        stop = threading.Event()

        def work() -> None:
            until = time.perf_counter() + 0.001
            while time.perf_counter() < until:
                pass
            if not stop.is_set():
                run.call_soon(work)

        run.call_soon(work)
        interval = sys.getswitchinterval()
        # Three threads want the interpreter's lock here, and lose it at each system call. With the usual 5 ms, a connection
        # takes 100 ms on some machines, and the tests' deadlines pass.
        sys.setswitchinterval(0.0005)
        yield run
        sys.setswitchinterval(interval)
        stop.set()
    assert run.warnings == []


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the service drop idle clients soon."""
    monkeypatch.setattr(service, "LINE_S", LINE_S)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the service say soon, and often, that a command is not carried out yet."""
    monkeypatch.setattr(service, "BLOCKED_S", BLOCKED_S)
    monkeypatch.setattr(service, "BLOCKED_AGAIN_S", BLOCKED_S)


def assert_serves(run: Run) -> None:
    """Assert that a client gets an answer."""
    before = len(run.commands)
    assert ask(run.journal, command("the last"), lambda why: None) == ANSWER
    assert run.commands[before:] == [command("the last")]


# ---- clients that send what they shouldn't ----------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("data", [b"", COMMAND_LINE[:-10], b"\0", b"x" * MAX_LINE_BYTES])
def test_a_client_that_does_not_finish_its_line_is_dropped(run: Run, data: bytes) -> None:
    """It may send nothing or a part; others are served meanwhile."""
    with Client(run.path) as client:
        client.send(data)
        assert_serves(run)
        assert client.reply() is None
    assert run.commands == [command("the last")]


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b"hello\n",
        b"[" * 60_000 + b"\n",
        b'{"a":' * 12_000 + b"\n",
        b"\xff\xfe\xfd\n",
        b"\0\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b'{"verb":"exec","by":"anna"}\n',
        b'{"verb":"pause","by":"anna","more":1}\n',
        b'{"verb":"pause\x1b[2J","by":"anna"}\n',
        b'{"verb":"\\u001b[2J","by":"anna"}\n',
        b'{"verb":"pause","by":"' + b"x" * 60_000 + b'"}\n',
        b'{"verb":"pause","by":"\\ud800"}\n',
        b'{"verb":"workers","by":"anna","num_workers":' + b"9" * 60_000 + b"}\n",
        b'{"verb":"limit","by":"anna","group":"a","concurrent":9223372036854775808}\n',
        b'{"verb":"limit","by":"anna","group":"a","per_second":1e309}\n',
    ],
    ids=lambda data: ascii(data[:24]),
)
def test_garbage_is_refused_and_ends_the_connection(run: Run, data: bytes) -> None:
    """What follows it is not looked at; and no character of it can act on the terminal where the reason is shown."""
    with Client(run.path) as client:
        client.send(data + COMMAND_LINE)
        refusal = client.reply()
        assert isinstance(refusal, Refusal)
        assert not refusal.is_over
        assert refusal.why.isprintable()
        assert client.reply() is None
    assert run.commands == []
    assert_serves(run)


def test_a_line_of_100_mb_is_refused_at_its_beginning(run: Run) -> None:
    """The client can't send the rest: it is neither read nor kept."""
    sent = 0
    with Client(run.path) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(1_600):
                client.send(b"x" * 65_536)
                sent += 65_536
        assert sent < 5_000_000
        assert client.reply() == Refusal(f"a command has at most {MAX_LINE_BYTES:,} bytes")
    assert_serves(run)


def test_the_longest_line_is_read(run: Run) -> None:
    """Its newline doesn't count; JSON may have spaces."""
    line = COMMAND_LINE[:-2] + b" " * (MAX_LINE_BYTES - len(COMMAND_LINE) + 1) + b"}\n"
    assert len(line) == MAX_LINE_BYTES + 1
    with Client(run.path) as client:
        client.send(line)
        assert client.reply() == ANSWER
        client.send(line[:-2] + b" }\n")
        assert isinstance(client.reply(), Refusal)


def test_a_line_may_come_in_parts_and_several_at_once(run: Run) -> None:
    """The stream has no other borders than newlines."""
    with Client(run.path) as client:
        for byte in COMMAND_LINE:
            client.send(bytes([byte]))
        client.send(COMMAND_LINE * 2 + COMMAND_LINE[:5])
        assert [client.reply() for _ in range(3)] == [ANSWER] * 3
        client.send(COMMAND_LINE[5:])
        assert client.reply() == ANSWER


# ---- clients that send too much ---------------------------------------------------------------------------------


def _requests(path: Path, until: float) -> None:
    """Send commands at full speed, and read the answers."""
    with Client(path) as client:
        client.socket.setblocking(False)
        while time.monotonic() < until:
            with contextlib.suppress(BlockingIOError):
                client.socket.send(COMMAND_LINE * 1_000)
            with contextlib.suppress(BlockingIOError):
                client.socket.recv(65_536)
            time.sleep(0.001)


def _connections(path: Path, until: float) -> None:
    """Connect, send garbage, and leave."""
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(0.1)
            client.connect(str(path))
            client.send(b"garbage\n")


def _bytes(path: Path, until: float) -> None:
    """Send single bytes as fast as the server reads them."""
    while time.monotonic() < until:
        with contextlib.suppress(OSError), Client(path) as client:
            while time.monotonic() < until:
                client.send(b"x")
                time.sleep(0.000_1)


@pytest.mark.parametrize("flood", [_requests, _connections, _bytes])
@pytest.mark.parametrize("clients", [1, 8])
def test_a_flood_costs_the_run_next_to_nothing(
    run: Run, flood: Callable[[Path, float], None], clients: int, record_property: Callable[[str, object], None]
) -> None:
    """The loop gets at most a hundred commands a second, the thread takes little CPU, and another client is served soon."""
    path, before_s, started_at = run.path, run.cpu_s(), time.monotonic()
    threads = [
        threading.Thread(target=flood, args=(path, started_at + FLOOD_S), name=f"flood {number}")
        for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    threads[0].join(FLOOD_S / 2)
    asked_at = time.monotonic()
    assert ask(run.journal, command("in between"), lambda why: None) == ANSWER
    answered_s = time.monotonic() - asked_at
    for thread in threads:
        thread.join(TIMEOUT_S)
    taken_s = time.monotonic() - started_at
    cpu = (run.cpu_s() - before_s) / taken_s
    record_property("cpu", cpu)
    print(
        f"{flood.__name__}, {clients} clients: {len(run.commands) / taken_s:.0f} commands/s, {cpu:.1%} of a CPU, answer in {answered_s:.3f} s"
    )
    assert len(run.commands) <= taken_s / COMMAND_INTERVAL_S + 1
    assert cpu < MAX_CPU
    assert answered_s < FIRST_S


def test_the_pace_is_kept() -> None:
    """Turns follow at the interval, in the order in which they were asked for; a few are free after a calm while."""
    times: dict[int, float] = {}

    async def main() -> None:
        pace = service._Pace(0.5, free=3)

        async def turn(number: int) -> None:
            await pace.turn()
            times[number] = trio.current_time() - started_at

        for _ in range(2):  # a calm while restores what was free
            started_at = trio.current_time()
            async with trio.open_nursery() as nursery:
                for number in range(6):
                    nursery.start_soon(turn, number)
                    await trio.testing.wait_all_tasks_blocked()
            assert times == pytest.approx({0: 0.0, 1: 0.0, 2: 0.0, 3: 0.5, 4: 1.0, 5: 1.5})
            await trio.sleep(10)

    trio.run(main, clock=MockClock(autojump_threshold=0.01))


@pytest.fixture
def many_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let more clients connect per second; requested before `run`."""
    monkeypatch.setattr(service, "_TURN_INTERVAL_S", 0.001)


@pytest.mark.usefixtures("many_turns")
def test_a_thousand_clients_that_send_nothing_keep_nobody_out(run: Run) -> None:
    """The one that has sent nothing for longest has to go for each that comes; no descriptor stays open."""
    before = descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 5_000)), hard))
    with contextlib.ExitStack() as idle:
        for _ in range(1_000):
            idle.enter_context(Client(run.path))
        assert_serves(run)
        assert descriptors() <= before + 2 * 1_000 + MAX_CONNECTIONS  # a test's client has two
    assert_serves(run)


# ---- clients that leave or don't read ---------------------------------------------------------------------------


def test_a_command_is_carried_out_though_its_client_has_gone(run: Run) -> None:
    """Nothing else happens; the next client is served."""
    free = run.block()
    with Client(run.path) as client:
        client.send(COMMAND_LINE)
    free.set()
    run.wait_for_commands(1)
    assert run.commands == [command()]
    assert_serves(run)


@pytest.mark.usefixtures("impatient")
def test_clients_that_have_gone_before_they_could_be_told_are_no_problem(run: Run) -> None:
    """The service tries to tell them that the loop is blocked; all their commands are carried out in order."""
    free = run.block()
    for number in range(3):
        with Client(run.path) as client:
            client.send(line_of(command(str(number))))
    with Client(run.path) as client:
        client.send(line_of(command("3")))
        assert isinstance(client.reply(), Blocked)
        assert isinstance(client.reply(), Blocked)
        free.set()
        replies = iter(client.reply, ANSWER)
        assert all(isinstance(reply, Blocked) for reply in replies)
    assert {one.by for one in run.commands} == set("0123")


def test_a_client_that_has_sent_all_still_gets_its_answer(run: Run) -> None:
    """It may close its sending half before it reads."""
    with Client(run.path) as client:
        client.send(COMMAND_LINE)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.reply() == ANSWER
        assert client.reply() is None


@pytest.mark.usefixtures("quick")
def test_a_client_that_reads_no_answers_is_dropped(run: Run) -> None:
    """The system keeps some replies for it; after that the service waits a while, but no other client does."""
    run.answer = Answer(reason="x" * 60_000)
    with Client(run.path) as deaf, Client(run.path) as other:
        deaf.socket.settimeout(0.01)
        with contextlib.suppress(TimeoutError):
            deaf.send(COMMAND_LINE * 100_000)
        for _ in range(20):
            other.send(COMMAND_LINE)
            assert other.reply() == run.answer
        deaf.socket.settimeout(TIMEOUT_S)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            deaf.send(COMMAND_LINE * 100_000)
    run.answer = ANSWER
    assert_serves(run)


SIGPIPE_IS_FATAL = "import signal; signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"


def test_a_program_that_dies_of_broken_pipes_survives_a_client_that_has_gone(journal: Path) -> None:
    """Many programs restore what SIGPIPE does by default, since they are used in pipes."""
    with start_program(journal, before=SIGPIPE_IS_FATAL) as process:
        for _ in range(20):
            with Client(journal.with_name("run.db.sock")) as client:
                client.send(COMMAND_LINE + b"garbage\n")
        with Client(journal.with_name("run.db.sock")) as client:
            client.send(COMMAND_LINE)
            assert client.reply() == Answer(running=7)
        _, errors = process.communicate("\n", timeout=TIMEOUT_S)
    assert (process.returncode, errors) == (0, "")


# ---- more than one ----------------------------------------------------------------------------------------------


def test_two_clients_at_once_are_both_answered(run: Run) -> None:
    """Each gets the answer to its own commands."""
    with Client(run.path) as one, Client(run.path) as two:
        for number in range(5):
            one.send(line_of(command(f"one {number}")))
            two.send(line_of(command(f"two {number}")))
        for client in (one, two):
            assert [client.reply() for _ in range(5)] == [ANSWER] * 5
    for name in ("one", "two"):
        assert [one.by for one in run.commands if one.by.startswith(name)] == [f"{name} {n}" for n in range(5)]


def test_one_command_at_a_time_is_with_the_run(run: Run) -> None:
    """The next one is handed on when the first is saved."""
    run.is_disk_slow = True
    with Client(run.path) as one, Client(run.path) as two:
        one.send(line_of(command("one")))
        run.wait_for_commands(1)
        two.send(line_of(command("two")))
        assert run.carried_out.acquire(timeout=0.1) is False
        run.unsaved[0].reply(ANSWER)
        run.wait_for_commands(1)
        assert [one.by for one in run.commands] == ["one", "two"]
        assert one.reply() == ANSWER
        run.unsaved[1].reply(Answer(changed=False))
        assert two.reply() == Answer(changed=False)


@pytest.mark.usefixtures("impatient")
def test_too_many_clients_that_wait_for_the_run_are_no_reason_to_say_nothing(run: Run) -> None:
    """One more is refused at once, and the others keep their places."""
    free = run.block()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(run.path)) for _ in range(MAX_CONNECTIONS)]
        for client in clients:
            client.send(COMMAND_LINE)
            assert isinstance(client.reply(), Blocked)
        with Client(run.path) as one_more:
            assert one_more.reply() == Refusal(
                "32 other commands are waiting for this run; try again when it has carried them out"
            )
            assert one_more.reply() is None
        free.set()
        for client in clients:
            assert all(isinstance(reply, Blocked) for reply in iter(client.reply, ANSWER))
    assert_serves(run)


# ---- when the run can't -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
def test_a_blocked_loop_is_reported_and_the_answer_follows(run: Run) -> None:
    """Again and again, since a person waits for it."""
    free = run.block()
    said: list[str] = []

    def on_blocked(why: str) -> None:
        said.append(why)
        if len(said) == 2:
            free.set()

    assert ask(run.journal, command(), on_blocked) == ANSWER
    assert len(said) >= 2
    assert all(why.startswith("the run's event loop is blocked") for why in said)
    assert run.commands == [command()]


@pytest.mark.usefixtures("impatient")
def test_a_slow_disk_is_reported_and_the_answer_follows(run: Run) -> None:
    """The command is applied, but a crash now would lose it."""
    run.is_disk_slow = True
    said: list[str] = []

    def on_blocked(why: str) -> None:
        said.append(why)
        for pending in run.unsaved:
            pending.reply(ANSWER)

    assert ask(run.journal, command(), on_blocked) == ANSWER
    assert set(said) == {"the command is carried out, but not saved yet: the disk is slow"}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("is_disk_slow", "why"), [(False, "event loop is blocked"), (True, "not saved yet")])
def test_one_who_waits_for_anothers_command_learns_why_that_takes_so_long(
    run: Run, is_disk_slow: bool, why: str
) -> None:
    """Its own command has not even reached the run."""
    run.is_disk_slow = is_disk_slow
    free = threading.Event() if is_disk_slow else run.block()
    with Client(run.path) as first, Client(run.path) as second:
        first.send(line_of(command("first")))
        if is_disk_slow:
            run.wait_for_commands(1)
        else:
            assert isinstance(first.reply(), Blocked)
        second.send(line_of(command("second")))
        blocked = second.reply()
        assert isinstance(blocked, Blocked)
        assert why in blocked.why
        free.set()
        run.is_disk_slow = False
        for pending in run.unsaved:
            pending.reply(ANSWER)
        for client in (first, second):
            assert all(isinstance(reply, Blocked) for reply in iter(client.reply, ANSWER))


def test_the_first_reply_counts(run: Run) -> None:
    """A run may give another one when it closes its journal."""
    run.is_disk_slow = True
    with Client(run.path) as client:
        client.send(COMMAND_LINE)
        run.wait_for_commands(1)
        (pending,) = run.unsaved
        pending.reply(Refusal("first"))
        pending.reply(ANSWER)
        assert client.reply() == Refusal("first")
        client.send(COMMAND_LINE)
        run.wait_for_commands(1)
        run.unsaved[1].reply(ANSWER)
        assert client.reply() == ANSWER


def test_an_error_that_nobody_expects_is_one_warning(journal: Path) -> None:
    """The client is refused, and the next ones are served; control characters of the error are escaped."""
    with running(journal) as run:
        errors = [ValueError("\x1b[2J"), KeyError("second")]
        take = run.server._service._apply  # type: ignore[union-attr]  # it was started

        def fail(command: AnyCommand, pending: Pending) -> None:
            if errors:
                raise errors.pop(0)
            take(command, pending)

        run.server._service._apply = fail  # type: ignore[union-attr]  # as above
        with Client(run.path) as client:
            client.send(COMMAND_LINE * 3)
            refused = client.reply()
            assert isinstance(refused, Refusal)
            assert "could not carry out" in refused.why
            assert client.reply() == refused
            assert client.reply() == ANSWER
    (warning,) = run.warnings
    assert r"\x1b[2J" in warning
    assert warning.isprintable()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
@pytest.mark.parametrize("mode", [0o600, 0o777])
def test_another_user_is_not_served(run: Run, mode: int) -> None:
    """Neither the mode lets them connect, nor are they read if somebody has opened the mode."""
    run.path.chmod(mode)
    sends = [sys.executable, "-I", "-c", SENDS, str(run.path), str(NOBODY), COMMAND_LINE.decode()]
    output = subprocess.run(sends, capture_output=True, timeout=TIMEOUT_S, text=True).stdout
    assert output == ("PermissionError\n" if mode == 0o600 else "b''\n")
    assert run.commands == []
    assert_serves(run)


SENDS = """
import os, socket, sys
os.setgroups([])
os.setuid(int(sys.argv[2]))
client = socket.socket(socket.AF_UNIX)
try:
    client.connect(sys.argv[1])
    try:
        client.sendall(sys.argv[3].encode())
        print(client.recv(1000))
    except ConnectionError:
        print(b"")
except PermissionError:
    print("PermissionError")
"""


def test_a_client_that_can_not_be_accepted_is_accepted_later(journal: Path) -> None:
    """Such as when the run has as many files open as it may: the service tries again, without a busy loop."""
    with running(journal) as run:
        assert_serves(run)
        listener = _FullListener(run.server._service._listener)  # type: ignore[union-attr]  # it was started
        run.server._service._listener = listener  # type: ignore[union-attr]  # as above
        assert_serves(run)
        assert listener.failures == []
    assert run.warnings == []


class _FullListener:
    """A socket that can't accept a few times."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.failures = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS]

    def accept(self) -> object:
        if self.failures:
            raise OSError(self.failures.pop(), "full")
        return self._listener.accept()

    def __getattr__(self, name: str) -> object:
        return getattr(self._listener, name)


def test_a_command_that_arrives_while_the_run_ends_is_told_so() -> None:
    """Its line may have been read just when the others got their replies; nothing would reply to it any more."""

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
            one = service.Service(listener, lambda command, pending: None, lambda warning: None)
            one._token = trio.lowlevel.current_trio_token()
            one._closing.set()
            with trio.fail_after(TIMEOUT_S):
                reply = await one._reply_to(command(), service._Connection(client, one._reads))
            assert reply == Refusal("the run has just ended", is_over=True)

    trio.run(main)
