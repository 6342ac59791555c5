"""Makes the control socket of a run, and serves its clients on a thread of its own."""

import errno
import os
import socket
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final
from weakref import WeakSet

import anyio
import trio

from aqueue._control.addresses import MAX_PATH_BYTES, addresses_of
from aqueue._control.peers import HAS_UNIX_SOCKETS
from aqueue._control.service import CLOSING_S, Apply, Pending, Service
from aqueue._journal.file import identity, reason, shown
from aqueue._system.loop import call_soon_in_this_loop
from aqueue._system.notice import warn

__all__ = ["ControlServer", "Pending"]

_BACKLOG: Final = 100
"""How many clients may wait to be accepted: at a hundred a second, none of them waits for longer than a second."""

_ENDING_S: Final = CLOSING_S + 0.5
"""How long the end of the thread may take, seconds."""


class _NotASocket(OSError):
    """Something else is where the socket would be."""


class ControlServer:
    """Listens for commands from `start` to `close`, while the run holds the lock of its journal.

    It depends on the run's loop for nothing but the time at which `close` returns.
    """

    def __init__(self, journal: Path, apply: Apply, warn: Callable[[str], None] = warn) -> None:
        """Make the server of the run that records in `journal`.

        Parameters:
            journal: the path of the journal.
            apply: hands a command to the run; it is called on the server's thread and returns at once. The run calls the
                methods of the `Pending` from any thread.
            warn: warns the user, on any thread.
        """
        self._journal = journal
        self._apply = apply
        self._warn = warn
        self._path: Path | None = None
        self._identity: tuple[int, int] | None = None
        self._service: Service | None = None
        self._thread: threading.Thread | None = None
        self._has_ended = False
        self._on_ended: Callable[[], None] | None = None

    @property
    def path(self) -> Path | None:
        """Where the socket is; None if there is none."""
        return self._path

    def start(self) -> None:
        """Listen from now on; warn once if that is impossible. Where there are no unix sockets, do nothing."""
        if not HAS_UNIX_SOCKETS:
            return
        failures: list[str] = []
        not_ours: Path | None = None
        for address in addresses_of(self._journal):
            try:
                listener = _listen(address.make_folder())
            except OSError as error:
                failures.append(f"{shown(address.folder)} ({reason(error)})")
                if isinstance(error, _NotASocket):
                    not_ours = address.path
                continue
            if not_ours is not None:
                self._warn(
                    f"{shown(not_ours)} is not a socket, so it was left there; people can still steer this run, through the "
                    f"socket {shown(address.path)}; rename the file before the next run"
                )
            self._serve(listener, address.path)
            return
        self._warn_of_none(
            f"in {' or '.join(failures)}" if failures else f"with a path of {MAX_PATH_BYTES} bytes or less"
        )

    def _warn_of_none(self, where: str) -> None:
        self._warn(
            f"this run can't be steered from outside: no control socket can be made {where}; free or make writable one of its "
            "possible places, or pass control=False, which turns the socket off"
        )

    def _serve(self, listener: socket.socket, path: Path) -> None:
        self._path, self._identity = path, identity(path)
        self._service = Service(listener, self._apply, self._warn)
        self._thread = threading.Thread(target=self._work, args=(self._service,), name="aqueue-control", daemon=True)
        _servers.add(self)
        try:
            self._thread.start()
        except RuntimeError as error:  # the system has no more threads for this user
            self._remove_file()
            self._service.close_sockets()
            self._thread = None
            self._warn_of_none(f"in {shown(path.parent)} ({error})")

    def _work(self, service: Service) -> None:
        try:
            trio.run(service.run)
        except BaseException as error:  # nothing may escape: Python would print a traceback across the display
            service.warn_of(error)
        finally:
            service.close_sockets()
            self._has_ended = True
            if self._on_ended is not None:
                self._on_ended()

    async def close(self) -> None:
        """Remove the socket, and let replies that are due go out, which takes at most 1.5 s; may be called again.

        A client whose command has no reply by now learns that the run has ended. Called in the run's loop before the journal's
        lock is released: then the next run may make a socket of its own at the same path.
        """
        thread, service = self._thread, self._service
        if thread is None or service is None:
            return
        self._thread = None
        self._remove_file()
        ended = anyio.Event()
        self._on_ended = partial(call_soon_in_this_loop(), ended.set)
        service.close()
        with anyio.move_on_after(_ENDING_S, shield=True):
            if not self._has_ended:  # looked at after `_on_ended` was set, so one of the two threads sees the other
                await ended.wait()
        if self._has_ended:
            thread.join(_ENDING_S)  # it has nothing left to do

    def _remove_file(self) -> None:
        """Remove the socket's file, unless something else is at its path."""
        path, self._path = self._path, None
        if path is not None and identity(path) == self._identity:
            with suppress(OSError):
                path.unlink()

    def leave_to_parent(self) -> None:
        """Forget everything, in a forked child, whose copies of the sockets would keep clients waiting after the parent's end."""
        if self._service is not None:
            self._service.close_sockets()
        self._thread = self._path = None


def _listen(path: Path) -> socket.socket:
    """Return a socket that listens at `path` for its user alone.

    Raises:
        OSError: it can't be made there.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise _NotASocket(errno.EEXIST, f"{shown(path.name)} is there, and is not a socket")
        path.unlink()  # of a process that was killed: the one that listened there had the journal's lock, which is ours now
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    is_bound = False
    try:
        listener.bind(os.fspath(path))
        is_bound = True
        path.chmod(0o600)  # before it listens: until then nobody can connect
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        if is_bound:
            path.unlink(missing_ok=True)
        raise
    return listener


_servers: Final[WeakSet[ControlServer]] = WeakSet()


def _leave_all_to_the_parent() -> None:
    for server in list(_servers):
        server.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all_to_the_parent)
