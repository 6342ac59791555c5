"""Accepts clients, and carries out their commands one at a time, in an event loop of its own.

All that a client can make the service do is paced: whatever it sends, the service takes few turns a second, and with them
little of the interpreter's lock, which the run's own thread needs.
"""

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

from aqueue._control.peers import NO_SIGNAL, is_trusted, without_signal
from aqueue._verbs import MAX_LINE_BYTES, Answer, AnyCommand, Blocked, Refusal, Reply, command_of, line_of
from aqueue.errors import SteeringError
from aqueue.text import visible

__all__ = ["HAS_FAILED", "Apply", "Pending", "Service"]

COMMAND_INTERVAL_S: Final = 0.01
"""The least time between two commands: each costs the run's loop some 50 µs, so a client that sends a million takes 0.5 % of it."""

_TURN_INTERVAL_S: Final = 0.01
"""The least time between two clients that connect, and between two looks at what they have sent, after the first few.

Each takes some 100 µs of this thread. Without a pace, a client that connects in a loop would take half of the run's CPU.
"""

_FREE_TURNS: Final = 5
"""How many of them may follow at once after a calm while, so that a few clients who come together don't wait."""

MAX_CONNECTIONS: Final = 32
"""How many clients may be connected at once."""

LINE_S: Final = 10.0
"""How long a client may take to send a whole line, and to read a reply, seconds."""

BLOCKED_S: Final = 2.0
"""After how long a client is told why it waits, seconds."""

BLOCKED_AGAIN_S: Final = 10.0
"""The interval at which it is told again, seconds."""

CLOSING_S: Final = 1.0
"""How long the last replies may take, seconds."""

_RETRY_S: Final = 0.1
"""The pause after a client could not be accepted, such as for lack of file descriptors, seconds."""

_READ_BYTES: Final = 65_536

_LOOP_IS_BLOCKED: Final = Blocked(
    "the run's event loop is blocked by code that it runs; the command is carried out as soon as that lets it continue"
)
_DISK_IS_SLOW: Final = Blocked("the command is carried out, but not saved yet: the disk is slow")
_IS_AT_IT: Final = Blocked(
    "the command is being carried out: it is for many items, or has to look for them in the journal"
)
_RUN_IS_OVER: Final = Refusal("the run has just ended", is_over=True)
_IS_FULL: Final = Refusal(
    f"{MAX_CONNECTIONS} other commands are waiting for this run; try again when it has carried them out"
)
_IS_LONG: Final = Refusal(f"a command has at most {MAX_LINE_BYTES:,} bytes")
HAS_FAILED: Final = Refusal("the run could not carry out the command; its standard error says why")


class Pending:
    """A command that a client waits for. The run says what becomes of it, from any thread."""

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        """Wait in the service's loop, which has `token`."""
        self._token = token
        self._replied = trio.Event()
        self._reply: Answer | Refusal | None = None
        self.is_begun = False
        self.is_applied = False

    def begun(self) -> None:
        """Note that the run is carrying out the command, which takes its time."""
        self.is_begun = True

    def applied(self) -> None:
        """Note that the run has carried out the command, so that what is left to wait for is the disk."""
        self.is_applied = True

    def reply(self, reply: Answer | Refusal) -> None:
        """Let the client have `reply`; the first one counts. Returns at once."""
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self.finish, reply)

    def finish(self, reply: Answer | Refusal) -> None:
        """Do what `reply` does; called in the service's loop."""
        if self._reply is None:
            self._reply = reply
            self._replied.set()

    async def wait(self) -> Answer | Refusal:
        """Return the reply when there is one."""
        await self._replied.wait()
        assert self._reply is not None
        return self._reply


Apply = Callable[[AnyCommand, Pending], None]
"""Hands a command to the run and returns at once; called on the service's thread."""


class _Pace:
    """Lets one caller continue at a time, so many per second; those who come at once wait in the order in which they came."""

    def __init__(self, interval_s: float, free: int = 1) -> None:
        """Let one continue each `interval_s`, and `free` at once after a time without any."""
        self._interval_s = interval_s
        self._credit_s = (free - 1) * interval_s
        self._next = float("-inf")

    async def turn(self) -> None:
        """Wait for the next turn."""
        at = max(self._next, trio.current_time() - self._credit_s)
        self._next = at + self._interval_s
        await trio.sleep_until(at)


class _LineTooLong(Exception):
    """A client sends a line that is longer than a command can be."""


class _Connection:
    """A client, and what it has sent that wasn't read yet."""

    def __init__(self, raw: socket.socket, reads: _Pace) -> None:
        self._raw = raw
        self._socket = trio.socket.from_stdlib_socket(raw)  # makes `raw` itself non-blocking
        self._reads = reads
        self._received = bytearray()

    def close(self) -> None:
        self._socket.close()

    async def receive_line(self) -> bytes | None:
        """Return the next line; None if the client has sent all.

        Raises:
            OSError: the client has gone.
            _LineTooLong: it is longer than a command can be.
        """
        while (end := self._received.find(b"\n", 0, MAX_LINE_BYTES + 1)) < 0:
            if len(self._received) > MAX_LINE_BYTES:
                raise _LineTooLong
            await trio.lowlevel.wait_readable(self._raw)
            await self._reads.turn()
            with suppress(BlockingIOError):
                data = self._raw.recv(_READ_BYTES)
                if not data:
                    return None
                self._received += data
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line

    async def send(self, reply: Reply) -> bool:
        """Send `reply`, and return whether the client takes it."""
        data = line_of(reply)
        with trio.move_on_after(LINE_S), suppress(OSError):
            while data:
                data = data[await self._socket.send(data, NO_SIGNAL) :]
            return True
        return False


class Service:
    """Serves the clients of a listening socket from `run` until `close`."""

    def __init__(self, listener: socket.socket, apply: Apply, warn: Callable[[str], None]) -> None:
        """Serve those who connect to `listener`, a socket that doesn't block.

        Parameters:
            listener: closed at the end.
            apply: hands a command to the run.
            warn: warns the user, at most once, of an error that nobody expects.
        """
        self._sockets = {listener}
        self._listener = listener
        self._apply = apply
        self._warn = warn
        self._has_warned = False
        self._is_closing = False
        self._closing = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._accepts = _Pace(_TURN_INTERVAL_S, _FREE_TURNS)
        self._reads = _Pace(_TURN_INTERVAL_S, _FREE_TURNS)
        self._commands = _Pace(COMMAND_INTERVAL_S)
        # The clients that owe a line, first the one that has owed it longest, and what ends the wait for it.
        self._idle: dict[_Connection, trio.CancelScope] = {}
        # Those without a reply, in their order: the first one is with the run, the others wait for it.
        self._waiting: dict[Pending, None] = {}
        self._send, self._received = trio.open_memory_channel[tuple[AnyCommand, Pending]](MAX_CONNECTIONS)

    def close_sockets(self) -> None:
        """Close all sockets of this process at once; `run` has ended, or is not part of it (in a forked child)."""
        for one in list(self._sockets):
            one.close()

    def close(self) -> None:
        """Let `run` end, after at most `CLOSING_S`; from any thread, also before it has begun."""
        self._is_closing = True
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._closing.set)

    async def run(self) -> None:
        """Serve clients until `close`; what the run has replied by then goes out, and no more is asked of it."""
        self._token = trio.lowlevel.current_trio_token()
        # `close` sets this before it looks for the token, so one of the two threads sees what the other has set.
        if self._is_closing:
            return
        async with trio.open_nursery() as clients:
            async with trio.open_nursery() as work:
                work.start_soon(self._accept, clients)
                work.start_soon(self._carry_out)
                await self._closing.wait()
                work.cancel_scope.cancel()
            self._listener.close()  # those that have connected, but were not accepted, learn it so
            clients.cancel_scope.deadline = trio.current_time() + CLOSING_S
            for scope in self._idle.values():
                scope.cancel()
            for pending in self._waiting:
                pending.finish(_RUN_IS_OVER)

    def warn_of(self, error: BaseException) -> None:
        """Warn the user of an error that nobody expects, if it is the first one."""
        if not self._has_warned:
            self._has_warned = True
            self._warn(
                f"commands to this run may fail: {visible(repr(error), 500)} on its control socket; the run continues"
            )

    # ---- clients ----------------------------------------------------------------------------------------------------

    async def _accept(self, clients: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._listener)
            await self._accepts.turn()
            try:
                raw = without_signal(self._listener.accept()[0])
            except BlockingIOError:
                continue
            except OSError:
                await trio.sleep(_RETRY_S)
                continue
            if not is_trusted(raw):
                raw.close()
            elif self._has_room():
                self._sockets.add(raw)
                clients.start_soon(self._serve, raw)
            else:
                with raw, suppress(OSError):
                    raw.setblocking(False)
                    raw.send(line_of(_IS_FULL), NO_SIGNAL)

    def _has_room(self) -> bool:
        """Return whether one more client can be served, for which the one that has been idle longest may have to go."""
        if len(self._sockets) <= MAX_CONNECTIONS:  # one is the listener
            return True
        for connection, scope in self._idle.items():
            del self._idle[connection]
            scope.cancel()
            return True
        return False

    async def _serve(self, raw: socket.socket) -> None:
        connection = _Connection(raw, self._reads)
        try:
            while not self._closing.is_set() and await self._serve_line(connection):
                pass
        except OSError:  # the client has gone
            pass
        except Exception as error:
            self.warn_of(error)
        finally:
            connection.close()
            self._sockets.discard(raw)

    async def _serve_line(self, connection: _Connection) -> bool:
        """Do what the next line of a client says, and return whether another one may follow.

        Raises:
            OSError: the client has gone.
        """
        line = None
        try:
            with trio.move_on_after(LINE_S) as self._idle[connection]:
                line = await connection.receive_line()
            if line is None:
                return False
            command = command_of(line)
        except _LineTooLong:
            await connection.send(_IS_LONG)
            return False
        except SteeringError as error:
            await connection.send(Refusal(str(error)))
            return False
        finally:
            self._idle.pop(connection, None)
        return await connection.send(await self._reply_to(command, connection))

    # ---- commands ---------------------------------------------------------------------------------------------------

    async def _reply_to(self, command: AnyCommand, connection: _Connection) -> Answer | Refusal:
        """Return the run's reply to `command`; tell the client why it waits, if it does.

        If the client has gone, this waits all the same: the number of connections bounds that of commands.
        """
        if self._closing.is_set():  # while the line came
            return _RUN_IS_OVER
        assert self._token is not None
        pending = Pending(self._token)
        self._waiting[pending] = None
        self._send.send_nowait((command, pending))
        patience_s, is_there = BLOCKED_S, True
        try:
            while True:
                with trio.move_on_after(patience_s):
                    return await pending.wait()
                patience_s = BLOCKED_AGAIN_S
                first = next(iter(self._waiting))
                why = _DISK_IS_SLOW if first.is_applied else _IS_AT_IT if first.is_begun else _LOOP_IS_BLOCKED
                is_there = is_there and await connection.send(why)
        finally:
            del self._waiting[pending]

    async def _carry_out(self) -> None:
        async for command, pending in self._received:
            await self._commands.turn()
            try:
                self._apply(command, pending)
            except Exception as error:
                self.warn_of(error)
                pending.finish(HAS_FAILED)
            await pending.wait()
