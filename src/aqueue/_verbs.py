"""The commands by which people steer a run, and the answers to them: each is a line of JSON.

A command is data with fixed fields. Nothing in it is executed, and a verb that this aqueue doesn't know is refused.
"""

import getpass
import socket
import sys
from contextlib import suppress
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from aqueue.errors import SteeringError
from aqueue.events import NO_DATA
from aqueue.text import visible

__all__ = [
    "CANCELLED_STATES",
    "MAX_ITEMS",
    "MAX_LINE_BYTES",
    "MAX_NAME_CHARS",
    "MAX_RESULT_BYTES",
    "MAX_SELECTOR_CHARS",
    "MAX_WORKERS",
    "RERUN_STATES",
    "RETRIED_STATES",
    "SKIPPED_STATES",
    "Answer",
    "AnyCommand",
    "Blocked",
    "Cancel",
    "Command",
    "OnItems",
    "Pause",
    "Refusal",
    "Reply",
    "Retry",
    "RunIsOver",
    "SeenState",
    "SetLimit",
    "SetWorkers",
    "Skip",
    "Stop",
    "Unpause",
    "command_of",
    "line_of",
    "reply_of",
    "this_person",
]

MAX_LINE_BYTES: Final = 1_048_576
"""The longest line: a command can name `MAX_ITEMS` items, and set a result."""

MAX_ITEMS: Final = 100_000
"""How many items a command can name. For more there are several commands, and a hook above may run once per command."""

MAX_RESULT_BYTES: Final = 65_536
"""The longest result, as JSON, that a command can set."""

MAX_SELECTOR_CHARS: Final = 10_000
"""The longest selector in words that a command can have."""

MAX_WORKERS: Final = 1_000_000
"""The most workers of a run: each is a task of the event loop and takes some kilobytes, even when it runs nothing."""

MAX_NAME_CHARS: Final = 10_000
"""The longest name of a group that a command can name."""

_Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME_CHARS)]
_At_least_1 = Annotated[int, msgspec.Meta(ge=1, le=sys.maxsize)]
_More_than_0 = Annotated[float, msgspec.Meta(gt=0, le=sys.float_info.max)]
# What a `Limit` takes: the run makes one of them after the event is in the journal, and so does each resume.


class Command(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="verb", omit_defaults=True, forbid_unknown_fields=True
):
    """What a person asks of a run.

    Attributes:
        by: who asks, as ``user@host via command``; see `this_person`.
    """

    by: Annotated[str, msgspec.Meta(max_length=500)]


class Pause(Command, frozen=True, tag="pause"):
    """Start nothing until `Unpause`.

    Attributes:
        group: start no `process` of this group; None for the whole run.
    """

    group: _Name | None = None


class Unpause(Command, frozen=True, tag="unpause"):
    """Let what `Pause` has paused start again.

    Attributes:
        group: as for `Pause`.
    """

    group: _Name | None = None


class SetWorkers(Command, frozen=True, tag="workers"):
    """Let another number of workers run items.

    Attributes:
        num_workers: how many.
    """

    num_workers: Annotated[int, msgspec.Meta(ge=1, le=MAX_WORKERS)]


class SetLimit(Command, frozen=True, tag="limit"):
    """Change the limit of a group; without numbers it has none.

    Attributes:
        group: the group's name.
        concurrent, per_second: see `aqueue.Limit`.
        is_default: let the program's own limit hold again.
    """

    group: _Name
    concurrent: _At_least_1 | None = None
    per_second: _More_than_0 | None = None
    is_default: bool = False


class Stop(Command, frozen=True, tag="stop"):
    """Take no more items.

    Attributes:
        now: whether the running items are cancelled.
    """

    now: bool = False


SeenState = Literal["queued", "running", "retrying", "interrupted", "completed", "failed", "skipped"]
"""The states of items, as `aqueue._folds.item_table.State`."""

RETRIED_STATES: Final[tuple[SeenState, ...]] = ("failed", "retrying")
"""The states in which `Retry` applies to an item."""

RERUN_STATES: Final[tuple[SeenState, ...]] = ("completed", "skipped")
"""The states in which it does with `Retry.completed`."""

CANCELLED_STATES: Final[tuple[SeenState, ...]] = ("queued", "running", "retrying", "interrupted")
"""The states in which `Cancel` applies to an item."""

SKIPPED_STATES: Final[tuple[SeenState, ...]] = (*CANCELLED_STATES, "failed")
"""The states in which `Skip` applies to an item."""


class OnItems(Command, frozen=True):
    """What a person asks of items.

    Attributes:
        selector: which items, in the person's words.
        items: the numbers of these items, by the state in which the person saw them; at most `MAX_ITEMS` in all. The command applies to
            those that still are in that state.
    """

    selector: Annotated[str, msgspec.Meta(max_length=MAX_SELECTOR_CHARS)]
    items: dict[SeenState, list[Annotated[int, msgspec.Meta(ge=1, le=sys.maxsize)]]]

    @property
    def name(self) -> str:
        """The verb, as `run.steered` has it."""
        return type(self).__name__.lower()

    @property
    def applies_to(self) -> tuple[SeenState, ...]:
        """The states of the items that it applies to."""
        raise NotImplementedError


class Retry(OnItems, frozen=True, tag="retry"):
    """Run failed items again, and items that wait for a retry now.

    Attributes:
        completed: run items again that have completed or were skipped, instead.
    """

    completed: bool = False

    @property
    def name(self) -> str:
        """The verb, as `run.steered` has it."""
        return "retry --completed" if self.completed else "retry"

    @property
    def applies_to(self) -> tuple[SeenState, ...]:
        """The states of the items that it applies to."""
        return RERUN_STATES if self.completed else RETRIED_STATES


class Skip(OnItems, frozen=True, tag="skip"):
    """Let items that have not completed count as successful, without running them.

    Attributes:
        result: their result, as JSON; absent for none.
    """

    result: msgspec.Raw = NO_DATA

    @property
    def applies_to(self) -> tuple[SeenState, ...]:
        """The states of the items that it applies to."""
        return SKIPPED_STATES


class Cancel(OnItems, frozen=True, tag="cancel"):
    """Let items that are outstanding fail."""

    @property
    def applies_to(self) -> tuple[SeenState, ...]:
        """The states of the items that it applies to."""
        return CANCELLED_STATES


AnyCommand = Pause | Unpause | SetWorkers | SetLimit | Stop | Retry | Skip | Cancel


class Answer(msgspec.Struct, frozen=True, kw_only=True, tag_field="answer", tag="applied", omit_defaults=True):
    """What came of a command. It holds, and with a journal it is committed.

    Attributes:
        changed: whether it changed something; False if it was so already, and nothing was recorded.
        is_live: whether a process runs the run; False if the command was written into the journal of one that doesn't.
        is_stopping: whether the run is stopping, so that a pause, a limit or a number of workers holds for a resume.
        running: how many workers were running items, which they finish.
        since: since when what was asked holds, Unix time in seconds; 0.0 if it doesn't hold by a command.
        by: who has set it, as ``user@host via command``.
        num_workers: how many workers there were before; 0 on a cluster.
        concurrent, per_second: the limit that the group had before.
        is_known: False if no item waits or runs in the group that was named.
        groups: the groups in which most items wait, and how many, if `is_known` is False.
        reason: why the run stops.
        count: how many items the command was applied to.
        others: how many items it was not applied to, by why: the state in which they are now, ``hook`` if the hook of an ancestor runs
            right now, ``cancelled`` if they run and have been cancelled, ``cluster`` if they run elsewhere and can't be reached, ``class``
            if the program lacks the class of a completed item, or that can't restore it, ``unknown`` if there is no such item.
    """

    changed: bool = True
    is_live: bool = True
    is_stopping: bool = False
    running: int = 0
    since: float = 0.0
    by: str = ""
    num_workers: int = 0
    concurrent: int | None = None
    per_second: float | None = None
    is_known: bool = True
    groups: dict[str, int] = {}
    reason: str = ""
    count: int = 0
    others: dict[str, int] = {}


class Refusal(msgspec.Struct, frozen=True, tag_field="answer", tag="refused"):
    """The command was not carried out.

    Attributes:
        why: for a person, with what to do instead.
        is_over: whether the run has just ended, so that its journal can be written once its process has closed it.
    """

    why: str
    is_over: bool = False


class Blocked(msgspec.Struct, frozen=True, tag_field="answer", tag="blocked"):
    """The command is not carried out yet; an `Answer` or a `Refusal` follows.

    Attributes:
        why: for a person.
    """

    why: str


Reply = Answer | Refusal | Blocked

_commands: Final[msgspec.json.Decoder[AnyCommand]] = msgspec.json.Decoder(AnyCommand)
_replies: Final[msgspec.json.Decoder[Reply]] = msgspec.json.Decoder(Reply)
_Message = TypeVar("_Message")


class RunIsOver(SteeringError):
    """The run has ended; a command can be given again once its process has closed the journal."""

    def __init__(self) -> None:
        super().__init__("the run has ended; to steer it before it is resumed, try again")


def line_of(message: AnyCommand | Reply) -> bytes:
    """Return the line of JSON for `message`, with its newline.

    Raises:
        SteeringError: a text in it has lone surrogates, as a name has that a shell passes in another encoding.
    """
    try:
        return msgspec.json.encode(message) + b"\n"
    except UnicodeEncodeError as error:
        raise SteeringError(
            f"{visible(error.object, 300)} is not valid text; name the group as the run has it"
        ) from error


def command_of(line: bytes) -> AnyCommand:
    """Return the command in a line of JSON.

    Raises:
        SteeringError: there is none that this aqueue knows.
    """
    return _decoded(_commands, line, "the run does not know this command")


def reply_of(line: bytes) -> Reply:
    """Return the reply in a line of JSON.

    Raises:
        SteeringError: there is none that this aqueue knows.
    """
    return _decoded(_replies, line, "the run's reply can't be read")


def _decoded(decoder: msgspec.json.Decoder[_Message], line: bytes, what: str) -> _Message:
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SteeringError(f"{what} ({visible(str(error), 300)}); use the aqueue that runs it") from error


def this_person(via: str) -> str:
    """Return who steers a run from this process: ``user@host via command``.

    Parameters:
        via: by which means, such as ``command``.
    """
    user = "?"
    with suppress(Exception):  # in a container the user may have no name; how it says so differs by version of Python
        user = getpass.getuser()
    return f"{visible(user, 100)}@{visible(socket.gethostname(), 255)} via {via}"
