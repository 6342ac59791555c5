"""Which user is at the other end of a connection through a unix socket, as the system knows it."""

import os
import socket
import struct
import sys
from typing import Final

__all__ = ["HAS_UNIX_SOCKETS", "NO_SIGNAL", "is_trusted", "without_signal"]

HAS_UNIX_SOCKETS: Final = hasattr(socket, "AF_UNIX") and hasattr(os, "geteuid")
"""Whether this system has what a control socket needs."""

NO_SIGNAL: Final[int] = getattr(socket, "MSG_NOSIGNAL", 0)
"""The flag for each write to a peer, which may have gone.

Python ignores SIGPIPE, but programs that are used in pipes often restore its default: to end the process, here the run.
"""

_UCRED: Final = "iII"
"""Linux's ``struct ucred``: process, user, group."""

_SOL_LOCAL: Final = 0
_LOCAL_PEERCRED: Final = 1
_XUCRED_BYTES: Final = 76
"""The constants of macOS for ``struct xucred``, and its length; it begins with a version and the user."""

_SO_NOSIGPIPE: Final = 0x1022
"""The option of macOS that does what `NO_SIGNAL` does elsewhere."""


def without_signal(connection: socket.socket) -> socket.socket:
    """Return `connection` after a setting by which a write to a peer that has gone raises no signal, where a flag can't do that."""
    if sys.platform == "darwin":
        connection.setsockopt(socket.SOL_SOCKET, _SO_NOSIGPIPE, 1)
    return connection


def is_trusted(connection: socket.socket, *others: int) -> bool:
    """Return whether the process at the other end runs as this one's user, as root, or as one of the users `others`.

    For a client, that process is the one that listens. Where the system can't tell, the modes of the socket and of its folder
    must do, and the answer is True.
    """
    try:
        user = _user_of(connection)
    except OSError:
        return False  # it has gone
    return user is None or user in {os.geteuid(), 0, *others}


def _user_of(connection: socket.socket) -> int | None:
    """Return the effective user at the other end; None if this system doesn't say."""
    if sys.platform == "linux":
        found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(_UCRED))
        return int(struct.unpack(_UCRED, found)[1])
    if sys.platform == "darwin":
        found = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED_BYTES)
        return int(struct.unpack_from("II", found)[1])
    return None
