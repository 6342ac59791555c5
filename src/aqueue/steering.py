"""Steer a run while it runs, or before it is resumed: pause it, change workers and limits, stop it.

Each function takes the path of the run's journal as `run`. If a process runs the run, it carries out the command, through a socket
next to the journal that only the same user and root can reach; otherwise the command is written into the journal. Either way it is an
event of the run: it holds after a crash and after a resume, and every reader of the run shows it. The functions return once the command is
committed. They block for about 50 ms; in async code, call them with ``await anyio.to_thread.run_sync(steering.pause, "run.db")``.

Without `run`, a function steers the run of the item that calls it, at once, also if that run has no journal.

Repeating a command is safe: it changes nothing, and its answer says so. The `aqueue` command has the same verbs.
"""

import os
import time
from typing import Final, Literal

from aqueue._arguments import WHOLE_NUMBER, check_number, is_path, not_allowed
from aqueue._control.client import ask
from aqueue._engine.context import steer
from aqueue._engine.group_limits import plain_numbers
from aqueue._journal import file as journal_file
from aqueue._journal import open_journals
from aqueue._resume.editing import edit
from aqueue._system.notice import warn
from aqueue._verbs import (
    MAX_NAME_CHARS,
    MAX_WORKERS,
    Answer,
    AnyCommand,
    Pause,
    SetLimit,
    SetWorkers,
    Stop,
    Unpause,
    this_person,
)
from aqueue.errors import JournalError, JournalLocked, MisplacedCall, SteeringError
from aqueue.limits import Limit
from aqueue.text import visible, without_surrogates

__all__ = ["Answer", "limit", "pause", "stop", "unpause", "workers"]

_PATIENCE_S: Final = 5.0
"""How long a run that is just starting or ending may neither listen nor have its journal unlocked, seconds."""

_RETRY_S: Final = 0.05

_MAX_VIA_CHARS: Final = 20


def pause(run: "str | os.PathLike[str] | None" = None, *, group: str | None = None, via: str = "Python") -> Answer:
    """Start no items and no hooks until `unpause`, also after a resume. Running ones finish.

    Retry timers and ``stop_after_s`` continue, and a paused run with waiting items doesn't end.

    Parameters:
        run: the path of the run's journal; None for the run of the item that calls this.
        group: start no `process` of this group only; its hooks continue. None, the default, for the whole run.
        via: by which means the person asks, for those who read later who it was; by default ``"Python"``.

    Raises:
        InvalidArgument: an argument is not allowed.
        SteeringError: the run takes no commands.
        JournalError: the journal can't be read or written; one of its subclasses says why.
        MisplacedCall: called without `run` outside an item, or with it in the event loop of that run.
    """
    return _carry_out(run, Pause(by=_by(via), group=_group(group)))


def unpause(run: "str | os.PathLike[str] | None" = None, *, group: str | None = None, via: str = "Python") -> Answer:
    """Let what `pause` has paused start again. A pause of the run and those of its groups are independent.

    Parameters:
        run, group, via: as for `pause`.

    Raises:
        InvalidArgument, SteeringError, JournalError, MisplacedCall: as `pause` raises them.
    """
    return _carry_out(run, Unpause(by=_by(via), group=_group(group)))


def workers(run: "str | os.PathLike[str] | None", number: int, *, via: str = "Python") -> Answer:
    """Let `number` workers run items: more start at once, and those with the highest numbers retire after their item.

    It holds after a resume, unless the program passes another ``num_workers`` than it did. Runs on a cluster refuse it.

    Parameters:
        run: as for `pause`.
        number: how many, from 1 to 1,000,000.
        via: as for `pause`.

    Raises:
        InvalidArgument, SteeringError, JournalError, MisplacedCall: as `pause` raises them.
    """
    check_number("workers(number=…)", number, 1, MAX_WORKERS, kind=WHOLE_NUMBER)
    return _carry_out(run, SetWorkers(by=_by(via), num_workers=int(number)))


def limit(
    run: "str | os.PathLike[str] | None",
    group: str,
    new: "Limit | Literal['none', 'default']",
    *,
    via: str = "Python",
) -> Answer:
    """Change the limit of a group. It holds from the next start, and running items of the group are counted.

    It holds after a resume, unless the program has another limit for the group than it had.

    Parameters:
        run: as for `pause`.
        group: the group's name.
        new: the limit; ``"none"`` for none, ``"default"`` for the program's own.
        via: as for `pause`.

    Raises:
        InvalidArgument, SteeringError, JournalError, MisplacedCall: as `pause` raises them.
    """
    name, by = _group(group), _by(via)
    if name is None:
        raise not_allowed("limit(group=…)", group, "a group's name, a string")
    if isinstance(new, Limit):
        concurrent, per_second = plain_numbers(new)
        return _carry_out(run, SetLimit(by=by, group=name, concurrent=concurrent, per_second=per_second))
    if new not in ("none", "default"):
        raise not_allowed("limit(new=…)", new, "an aqueue.Limit, 'none' or 'default'")
    return _carry_out(run, SetLimit(by=by, group=name, is_default=new == "default"))


def stop(run: "str | os.PathLike[str] | None" = None, *, now: bool = False, via: str = "Python") -> Answer:
    """Stop the run: no more items are taken, and the running ones finish. It ends as ``interrupted``, and can be resumed.

    Parameters:
        run: as for `pause`.
        now: whether the running items are cancelled; False, the default, lets them finish.
        via: as for `pause`.

    Raises:
        InvalidArgument, SteeringError, JournalError, MisplacedCall: as `pause` raises them.
    """
    if not isinstance(now, bool):
        raise not_allowed("stop(now=…)", now, "True or False")
    return _carry_out(run, Stop(by=_by(via), now=now))


def _carry_out(run: "str | os.PathLike[str] | None", command: AnyCommand) -> Answer:
    """Give `command` to the process that runs the run, or else write it into the journal; see the functions above."""
    if run is None:
        return steer(command)
    if not is_path(run):
        raise not_allowed("run", run, "the path of a journal, or None")
    path = journal_file.resolve(run)
    if journal_file.is_empty(path):
        raise JournalError(f"there is no journal at {journal_file.shown(path)}; name the file that a run has written")
    if open_journals.is_open_in_this_thread(path):
        raise MisplacedCall(
            "a function of aqueue.steering would block the event loop that has to carry out the command; leave out the path "
            'inside an item, or call it in a thread: await anyio.to_thread.run_sync(steering.pause, "run.db")'
        )
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        answer = ask(path, command, warn)
        if answer is not None:
            return answer
        try:
            return edit(path, command)
        except JournalLocked as error:
            if time.monotonic() > deadline:
                raise SteeringError(
                    "the run takes no commands: it was started with control=False, its control socket can't be made, or its process is "
                    f"suspended, and carries the command out when it continues; to stop it in any case, send it SIGTERM: {error}"
                ) from error
        time.sleep(_RETRY_S)


def _by(via: object) -> str:
    if not isinstance(via, str) or not 0 < len(via) <= _MAX_VIA_CHARS:
        raise not_allowed("via", via, f"text of 1 to {_MAX_VIA_CHARS} characters")
    return this_person(visible(str.__str__(via)))


def _group(group: object) -> str | None:
    if group is None:
        return None
    if not isinstance(group, str) or len(group) > MAX_NAME_CHARS:
        raise not_allowed("group", group, f"a group's name, a string of at most {MAX_NAME_CHARS:,} characters")
    return without_surrogates(str.__str__(group))
