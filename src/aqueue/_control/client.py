"""Gives a command to the run that has a journal open, through its control socket."""

import os
import socket
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from aqueue._control.addresses import Address, addresses_of
from aqueue._control.peers import HAS_UNIX_SOCKETS, NO_SIGNAL, is_trusted, without_signal
from aqueue._verbs import Answer, AnyCommand, Refusal, line_of, reply_of
from aqueue.errors import SteeringError
from aqueue.text import visible

__all__ = ["ask"]

FIRST_S: Final = 5.0
"""How long the first line may take, seconds: a live run sends one within 2 s, even if its loop is blocked."""

NEXT_S: Final = 30.0
"""How long each further line may take, seconds: a live run sends one every 10 s."""

_RETRY_S: Final = 0.05
"""The interval of attempts to connect while others wait for that; the system has no event for it."""

_MAX_REPLY_BYTES: Final = 1_048_576
"""The longest reply: it may name several groups."""


def ask(journal: Path, command: AnyCommand, on_blocked: Callable[[str], None]) -> Answer | None:
    """Give `command` to the run that records in `journal`, and return its answer; block until it comes.

    Parameters:
        journal: the path of the journal.
        command: what the run is asked to do.
        on_blocked: called with the reason, a sentence that is safe for a terminal, each time the run says that it can't carry out
            the command yet.

    Returns:
        None if no run answers: none is live, it has just ended, it is another user's, or its process is suspended. In the last
        case only, the command may still be carried out later.

    Raises:
        SteeringError: the run refuses the command, or the two don't understand each other.
        NotAJournal: `journal` can be no path to a file.
    """
    if not HAS_UNIX_SOCKETS:
        return None
    line = line_of(command)
    for address in addresses_of(journal):
        connection = _connection(address, journal)
        if connection is not None:
            with connection:
                answer = _ask(connection, line, on_blocked)
            if answer is not None:
                return answer
    return None


def _ask(connection: socket.socket, line: bytes, on_blocked: Callable[[str], None]) -> Answer | None:
    """Return the answer to `line`; None if the run has ended, or does not answer."""
    connection.settimeout(FIRST_S)
    with suppress(OSError):  # a run that takes no more commands closes without reading, but may have said why
        connection.sendall(line, NO_SIGNAL)
    with connection.makefile("rb") as replies:
        while True:
            try:
                reply_line = replies.readline(_MAX_REPLY_BYTES)
            except OSError:
                return None
            if not reply_line.endswith(b"\n"):
                return None
            reply = reply_of(reply_line)
            if isinstance(reply, Answer):
                return reply
            if isinstance(reply, Refusal):
                if reply.is_over:
                    return None
                raise SteeringError(reply.why)
            on_blocked(visible(reply.why, 1_000))
            connection.settimeout(NEXT_S)


def _connection(address: Address, journal: Path) -> socket.socket | None:
    """Return a connection with the process that listens at `address`; None if there is none, or not the run of `journal`."""
    try:
        address.check_folder()
        if not stat.S_ISSOCK(address.path.lstat().st_mode):  # a link may lead to the socket of another run
            return None
        owner = journal.stat().st_uid  # so that root can steer the runs of others
        connection = _connect(address.path)
    except OSError:
        return None
    if is_trusted(connection, owner):
        return connection
    connection.close()
    return None


def _connect(path: Path) -> socket.socket:
    """Return a connection with the process that listens at `path`.

    Raises:
        OSError: nobody does.
    """
    give_up_at = time.monotonic() + FIRST_S
    while True:
        connection = without_signal(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            connection.settimeout(FIRST_S)
            connection.connect(os.fspath(path))
        except BlockingIOError:  # too many others wait to be accepted
            connection.close()
            if time.monotonic() > give_up_at:
                raise
            time.sleep(_RETRY_S)
        except BaseException:
            connection.close()
            raise
        else:
            return connection
