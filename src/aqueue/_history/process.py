"""Finds out whether the process that records a run is still alive, without touching any file that it uses."""

import os
import socket
from pathlib import Path
from typing import Final, Literal

from aqueue._journal.file import is_last_locked_by_command
from aqueue.events import RunStarted

__all__ = ["Liveness", "liveness"]

Liveness = Literal["alive", "gone", "elsewhere"]
"""``alive``: it runs; ``gone``: it has ended; ``elsewhere``: it ran on another machine, where nobody can look from here."""

_LOCKS: Final = Path("/proc/locks")
_CLOCK_SLACK_S: Final = 2.0


def liveness(started: RunStarted, journal: Path | None = None) -> Liveness:
    """Return whether the process that began or resumed a run is still there.

    It is if it, and not a command, holds the lock of its journal. Where that can't be seen, it is if a process with its number runs on this
    machine that has begun before the run did: a later one only got the same number. Nothing is locked to find out, since
    that could keep a run from starting at just that moment.

    Parameters:
        started: the last `run.started` or `run.resumed`.
        journal: its journal, if it has one.
    """
    if journal is not None and _is_locked(journal) and not is_last_locked_by_command(journal.resolve()):
        return "alive"
    if started.host != socket.gethostname():
        return "elsewhere"
    if started.pid <= 0:
        return "gone"
    import psutil  # only needed where no `run.finished` ends a run

    try:
        process = psutil.Process(started.pid)
        begun_at = process.create_time()
        is_zombie = process.status() == psutil.STATUS_ZOMBIE
    except psutil.AccessDenied:
        return "alive"
    except (psutil.Error, OverflowError, ValueError):
        return "gone"
    return "alive" if begun_at <= started.at + _CLOCK_SLACK_S and not is_zombie else "gone"


def _is_locked(journal: Path) -> bool:
    """Return whether Linux lists a lock on the journal's lock file; elsewhere it can't be seen."""
    try:
        file = os.stat(f"{journal.resolve()}.lock")
        wanted = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
        lines = _LOCKS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    for line in lines:
        # 1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF
        fields = line.split()
        if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5] == wanted:
            return True
    return False
