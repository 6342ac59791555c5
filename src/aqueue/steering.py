"""Steer a run while it runs, or before it is resumed: pause it, change workers and limits, stop it; retry, skip and cancel items.

Each function takes the path of the run's journal as `run`. If a process runs the run, it carries out the command, through a socket
next to the journal that only the same user and root can reach; otherwise the command is written into the journal. Either way it is an
event of the run: it holds after a crash and after a resume, and every reader of the run shows it. The functions return once the command is
committed. They block for about 50 ms; in async code, call them with ``await anyio.to_thread.run_sync(steering.pause, "run.db")``.

Without `run`, a function steers the run of the item that calls it, at once, also if that run has no journal.

Repeating a command is safe: it changes nothing, and its answer says so. The `aqueue` command has the same verbs.

Commands on items name them by a `Selector`, or by number::

    steering.retry("run.db", Selector(types=["Page"], error="HTTP*"))
    steering.skip("run.db", [8112], result={"price": 12})
"""

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from aqueue._arguments import WHOLE_NUMBER, check_number, is_path, not_allowed
from aqueue._codec.results import encode_result
from aqueue._control.client import ask
from aqueue._engine.context import steer
from aqueue._engine.group_limits import plain_numbers
from aqueue._history.journal_history import JournalHistory
from aqueue._history.record import chunks
from aqueue._history.selecting import SelectedItem, Selection, Selector, or_in_states, record_for, selection_of
from aqueue._journal import file as journal_file
from aqueue._journal import open_journals
from aqueue._resume.editing import edit
from aqueue._system.notice import warn
from aqueue._verbs import (
    MAX_ITEMS,
    MAX_LINE_BYTES,
    MAX_NAME_CHARS,
    MAX_RESULT_BYTES,
    MAX_SELECTOR_CHARS,
    MAX_WORKERS,
    Answer,
    AnyCommand,
    Cancel,
    Pause,
    Retry,
    SeenState,
    SetLimit,
    SetWorkers,
    Skip,
    Stop,
    Unpause,
    line_of,
    this_person,
)
from aqueue.errors import InvalidArgument, InvalidResult, JournalError, JournalLocked, MisplacedCall, SteeringError
from aqueue.events import NO_DATA
from aqueue.limits import Limit
from aqueue.text import visible, without_surrogates

__all__ = [
    "Answer",
    "SelectedItem",
    "Selection",
    "Selector",
    "cancel",
    "limit",
    "pause",
    "retry",
    "select",
    "skip",
    "stop",
    "unpause",
    "workers",
]

_PATIENCE_S: Final = 5.0
"""How long a run that is just starting or ending may neither listen nor have its journal unlocked, seconds."""

_RETRY_S: Final = 0.05

_MAX_VIA_CHARS: Final = 20

_STATES_BYTES: Final = 200
"""Enough for the names of all states in a command."""

_NOTHING: Final = Selection(selector="", items={}, types={}, sample=None, hooks=0, unknown=(), is_live=False)

_OnItems = Retry | Skip | Cancel


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


def select(run: "str | os.PathLike[str]", selector: Selector) -> Selection:
    """Return which items `selector` selects now, for a look before a command on them. This only reads.

    A command on the selection applies to those items that are still in the state in which they were selected.

    Parameters:
        run: the path of the run's journal.
        selector: which items.

    Raises:
        InvalidArgument: an argument is not allowed; `selector` is empty, or has a type or a subtree that the run doesn't have.
        JournalError: the journal can't be read; one of its subclasses says why.
        MisplacedCall: called in the event loop of the run.
    """
    if not isinstance(selector, Selector):
        raise not_allowed("selector", selector, "a Selector")
    if selector.is_empty:
        raise InvalidArgument("Selector() selects nothing; select something by items, types, states, groups, error, …")
    with closing(JournalHistory(_journal_of(run), also_own=True)) as history:
        return selection_of(record_for(history, selector), selector)


def retry(
    run: "str | os.PathLike[str] | None",
    items: Selector | Selection | Iterable[int],
    *,
    completed: bool = False,
    via: str = "Python",
) -> Answer:
    """Run failed items again, with fresh attempts, and items that wait for a retry at once. Pauses and limits hold.

    The hooks of their ancestors run once everything below these has succeeded. If no process runs the run, the items run when
    it is resumed, also with ``retry_failed=False``.

    Parameters:
        run: as for `pause`.
        items: which items: a `Selector`, what `select` returned, or numbers. A selector that names neither items nor states
            means those that can be retried. Without `run`, numbers.
        completed: whether items run again that have completed or were skipped, instead. Their results hold until then. Children
            that they enqueue again stay completed. False by default.
        via: as for `pause`.

    Returns:
        How many items it was applied to, and to how many it was not since they are in another state.

    Raises:
        InvalidArgument: as `select` raises it.
        SteeringError, JournalError, MisplacedCall: as `pause` raises them; what was carried out before stays so.
    """
    if not isinstance(completed, bool):
        raise not_allowed("retry(completed=…)", completed, "True or False")
    command = Retry(by=_by(via), selector="", items={}, completed=completed)
    return _on_items(run, items, command)


def skip(
    run: "str | os.PathLike[str] | None",
    items: Selector | Selection | Iterable[int],
    *,
    result: Any = None,
    via: str = "Python",
) -> Answer:
    """Let items count as successful without running them: those that have failed or are outstanding; running ones are interrupted.

    Neither they nor their own hooks run; what they have enqueued does. The hooks of their ancestors run once everything below
    these has succeeded.

    Parameters:
        run: as for `pause`.
        items: as for `retry`.
        result: what the hooks of their parents get as their results, and `iter_results`: data that JSON can represent, of at most
            65,536 bytes as JSON. None, the default, for no result.
        via: as for `pause`.

    Returns:
        As `retry`.

    Raises:
        InvalidArgument, SteeringError, JournalError, MisplacedCall: as `retry` raises them.
    """
    command = Skip(by=_by(via), selector="", items={}, result=_result(result))
    return _on_items(run, items, command)


def cancel(
    run: "str | os.PathLike[str] | None", items: Selector | Selection | Iterable[int], *, via: str = "Python"
) -> Answer:
    """Let outstanding items fail with `CancelledByUser`; running ones are cancelled. They stay failed until `retry`.

    A running item that returns all the same has completed. These failures neither stop the run nor count for ``max_failures``.

    Parameters:
        run: as for `pause`.
        items: as for `retry`.
        via: as for `pause`.

    Returns:
        As `retry`.

    Raises:
        InvalidArgument, SteeringError, JournalError, MisplacedCall: as `retry` raises them.
    """
    return _on_items(run, items, Cancel(by=_by(via), selector="", items={}))


def _on_items(
    run: "str | os.PathLike[str] | None",
    items: Selector | Selection | Iterable[int],
    command: _OnItems,
) -> Answer:
    """Carry out `command` on those of `items` to which it applies, as many times as it takes for all of them."""
    states, others = command.applies_to, Counter[str]()
    is_live = True
    if run is None:
        numbers = _numbers(items)
        command = _with_words(command, Selector(items=numbers))
        # What state they are in isn't known here: the run itself looks at it.
        parts: Iterable[dict[SeenState, list[int]]] = (
            {state: list(part) for state in states} for part in chunks(numbers, MAX_ITEMS // len(states))
        )
    else:
        selection = _selection(run, items, states)
        is_live = selection.is_live
        others += Counter({state: len(of_state) for state, of_state in selection.items.items() if state not in states})
        others += Counter(unknown=len(selection.unknown))
        command = _with_words(command, selection.selector)
        parts = _parts({state: selection.items[state] for state in states if state in selection.items}, command)
    answers: list[Answer] = []
    for part in parts:
        try:
            answers.append(_carry_out(run, msgspec.structs.replace(command, items=part)))
        except SteeringError as error:
            if not (before := sum(answer.count for answer in answers)):
                raise
            raise SteeringError(f"{error}; before that, it was applied to {before:,} items") from error
    for answer in answers:
        others.update(answer.others)
    return msgspec.structs.replace(
        answers[-1] if answers else Answer(is_live=is_live),
        changed=any(answer.changed for answer in answers),
        count=sum(answer.count for answer in answers),
        others=dict(others),
    )


def _with_words(command: _OnItems, selector: object) -> _OnItems:
    """Return `command` with the words of `selector`."""
    return msgspec.structs.replace(command, selector=without_surrogates(str(selector)[:MAX_SELECTOR_CHARS]))


def _selection(
    run: "str | os.PathLike[str]", items: Selector | Selection | Iterable[int], states: Sequence[SeenState]
) -> Selection:
    if isinstance(items, Selection):
        return items
    if isinstance(items, Selector):
        return select(run, or_in_states(items, states))
    numbers = _numbers(items)
    return select(run, Selector(items=numbers)) if numbers else _NOTHING


def _numbers(items: object) -> list[int]:
    if isinstance(items, Selector | Selection) or not isinstance(items, Iterable):
        raise not_allowed("items", items, "the numbers of items, if run is None")
    return list(dict.fromkeys(items))


def _parts(items: Mapping[SeenState, Sequence[int]], command: _OnItems) -> Iterator[dict[SeenState, list[int]]]:
    """Yield `items` in parts, each of which fits into `command`."""
    room = MAX_LINE_BYTES - len(line_of(command)) - _STATES_BYTES
    part: dict[SeenState, list[int]] = {}
    count = size = 0
    for state, numbers in items.items():
        for number in numbers:
            length = len(f"{number},")
            if count == MAX_ITEMS or size + length > room:
                yield part
                part, count, size = {}, 0, 0
            part.setdefault(state, []).append(number)
            count, size = count + 1, size + length
    if count:
        yield part


def _result(value: Any) -> msgspec.Raw:
    if value is None:
        return NO_DATA
    try:
        data = encode_result(value, "skip")
    except InvalidResult as error:
        allowed = "data made of dicts, lists, strings, finite numbers, booleans and None"
        raise not_allowed("skip(result=…)", value, allowed) from error
    if (size := len(bytes(data))) > MAX_RESULT_BYTES:
        raise InvalidArgument(
            f"skip(result=…) has {size:,} bytes as JSON; it must have at most {MAX_RESULT_BYTES:,}; write it to a file, and pass "
            "the file's path"
        )
    return data


def _carry_out(run: "str | os.PathLike[str] | None", command: AnyCommand) -> Answer:
    """Give `command` to the process that runs the run, or else write it into the journal; see the functions above."""
    if run is None:
        return steer(command)
    path = _journal_of(run)
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


def _journal_of(run: "str | os.PathLike[str]") -> Path:
    if not is_path(run):
        raise not_allowed("run", run, "the path of a journal, or None")
    path = journal_file.resolve(run)
    if journal_file.is_empty(path):
        raise JournalError(f"there is no journal at {journal_file.shown(path)}; name the file that a run has written")
    if open_journals.is_open_in_this_thread(path):
        raise MisplacedCall(
            "a function of aqueue.steering would block the event loop of its run, which has to carry out commands; leave out the path "
            'inside an item, or call it in a thread: await anyio.to_thread.run_sync(steering.pause, "run.db")'
        )
    return path


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
