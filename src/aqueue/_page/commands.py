"""What a person may ask of a run from the page, and how it is carried out: by the `aqueue` command, in a process of its own.

So each verb has one implementation, and the page can show the same command for the terminal. It also must be another process: to
open a journal a second time in the server's would drop the locks that SQLite has on it. There is no shell, and each text that a
request contains is the value of an option, never an option.
"""

import asyncio
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from subprocess import CompletedProcess
from typing import Annotated, Final

import anyio
import msgspec

from aqueue._folds.item_table import State
from aqueue._verbs import MAX_NAME_CHARS, MAX_WORKERS
from aqueue.figures import amount
from aqueue.text import visible

__all__ = [
    "MAX_BYTES",
    "MAX_NUMBER",
    "OnItems",
    "Pause",
    "Preview",
    "Refused",
    "Request",
    "Runner",
    "SetLimit",
    "Stop",
    "exactly",
    "request_of",
]

MAX_BYTES: Final = 65_536
"""The longest request that is read."""

_MAX_ITEMS: Final = 1_000
"""How many items a request can name by their numbers; for more there are the other fields."""

_MAX_NAMES: Final = 100
"""How many types, groups and states a request can name."""

MAX_NUMBER: Final = 10**15 - 1
"""The largest number that the command reads."""

_MAX_AT_ONCE: Final = 2
"""How many commands run at the same time: each is an interpreter of its own, of 40 MB."""

_MAX_WAITING: Final = 8
"""How many more may wait for that; others are refused."""

_PATIENCE_S: Final = 60.0
"""How long a command may take, seconds. The longest, to retry 100,000 items, takes 5 s; a blocked event loop answers none."""

_MAX_SAID_CHARS: Final = 1_000

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_CHARS)]
_Names = Annotated[tuple[_Name, ...], msgspec.Meta(max_length=_MAX_NAMES)]
_Number = Annotated[int, msgspec.Meta(ge=1, le=MAX_NUMBER)]
_Numbers = Annotated[tuple[_Number, ...], msgspec.Meta(max_length=_MAX_ITEMS)]


class Refused(Exception):
    """A command that was not carried out, or of which that isn't known.

    Attributes:
        status: the status of the answer to the browser.
        why: for a person, safe to show.
    """

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is asked: the fields of a request, which are the options of the command."""

    def options(self) -> Iterator[str]:
        """Yield what follows the file on the command line."""
        yield from ()

    def operands(self) -> Iterator[str]:
        """Yield what ends the command line: its other arguments."""
        yield from ()


class Pause(Request, frozen=True):
    """Pause or unpause the run or a group.

    Attributes:
        group: the group's name; None for the whole run.
    """

    group: Annotated[str, msgspec.Meta(max_length=MAX_NAME_CHARS)] | None = None

    def options(self) -> Iterator[str]:
        """Yield the option."""
        if self.group is not None:
            yield f"--group={self.group}"


class _Workers(Request, frozen=True):
    number: Annotated[int, msgspec.Meta(ge=1, le=MAX_WORKERS)]

    def operands(self) -> Iterator[str]:
        yield str(self.number)


class SetLimit(Request, frozen=True):
    """Change the limit of a group; without numbers it has none.

    Attributes:
        group: the group's name.
        concurrent: how many of its items may run at once; None for any number.
        per_second: how many of its items may start per second; None for any number.
        is_default: whether the program's own limit holds again.
    """

    group: Annotated[str, msgspec.Meta(max_length=MAX_NAME_CHARS)]
    concurrent: _Number | None = None
    per_second: Annotated[float, msgspec.Meta(gt=0, le=sys.float_info.max)] | None = None
    is_default: bool = False

    def options(self) -> Iterator[str]:
        """Yield the options."""
        if self.is_default:
            yield "--default"
        if self.concurrent is not None:
            yield f"--concurrent={self.concurrent}"
        if self.per_second is not None:
            yield f"--per-second={self.per_second!r}"
        if not self.is_default and self.concurrent is self.per_second is None:
            yield "--none"

    def operands(self) -> Iterator[str]:
        """Yield the group."""
        yield self.group


class Stop(Request, frozen=True):
    """Stop the run.

    Attributes:
        now: whether the running items are cancelled.
    """

    now: bool = False

    def options(self) -> Iterator[str]:
        """Yield the option."""
        if self.now:
            yield "--now"


class OnItems(Request, frozen=True):
    """Retry, skip or cancel items: those for which all holds that is given, as `aqueue.steering.Selector` says.

    Attributes:
        items, types, states, groups, error, text, key, subtree: as there.
    """

    items: _Numbers = ()
    types: _Names = ()
    states: Annotated[tuple[State, ...], msgspec.Meta(max_length=_MAX_NAMES)] = ()
    groups: _Names = ()
    error: _Name | None = None
    text: _Name | None = None
    key: _Name | None = None
    subtree: _Number | None = None

    def options(self) -> Iterator[str]:
        """Yield the selector."""
        for name, values in (("type", self.types), ("state", self.states), ("group", self.groups)):
            yield from (f"--{name}={value}" for value in values)
        single = {"error": self.error, "text": self.text, "key": self.key, "subtree": self.subtree}
        yield from (f"--{name}={value}" for name, value in single.items() if value is not None)

    def operands(self) -> Iterator[str]:
        """Yield the numbers."""
        yield from map(str, self.items)


class _Retry(OnItems, frozen=True):
    completed: bool = False

    def options(self) -> Iterator[str]:
        yield from super().options()
        if self.completed:
            yield "--completed"


_VERBS: Final[Mapping[str, type[Request]]] = {
    "pause": Pause,
    "unpause": Pause,
    "workers": _Workers,
    "limit": SetLimit,
    "stop": Stop,
    "retry": _Retry,
    "skip": OnItems,
    "cancel": OnItems,
}
"""What may be asked, and with which fields: the subcommands of those names, and nothing else."""


class Preview(msgspec.Struct, frozen=True):
    """What a command on items would do now.

    Attributes:
        count: to how many items it applies.
        types: how many of them are of each class, the most numerous first.
        others: to how many of those that were named it doesn't apply, by their state; ``unknown`` for those that don't exist.
        hooks: how many ancestors have a hook that runs because of it.
        is_live: whether a process runs the run.
    """

    count: int
    types: dict[str, int]
    others: dict[str, int]
    hooks: int
    is_live: bool

    @property
    def left_out(self) -> str:
        """To how many it doesn't apply, and why, in words; empty if to all."""
        return ", ".join(f"{amount(number)} {why}" for why, number in self.others.items())


def request_of(verb: str, body: bytes) -> Request:
    """Return the request in the body of a message.

    Raises:
        Refused: there is no such verb, or the body isn't JSON with its fields.
    """
    if verb not in _VERBS:
        raise Refused(HTTPStatus.NOT_FOUND, "there is no such command")
    try:
        request = msgspec.json.decode(body, type=_VERBS[verb])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(HTTPStatus.BAD_REQUEST, f"this can't be read: {visible(str(error), 300)}") from error
    if any("\0" in word for word in (*request.options(), *request.operands())):
        raise Refused(HTTPStatus.BAD_REQUEST, "a name with the character NUL can't be given to a command")
    return request


def exactly(name: str) -> str:
    """Return the pattern that matches the class of an error with that name, and no other."""
    return re.sub(r"([*?[])", r"[\1]", name)


class Runner:
    """Carries out what is asked of the run in a journal, a few commands at a time."""

    def __init__(self, path: Path) -> None:
        """Carry out nothing yet; `path` is the journal's."""
        self._path = path.absolute()
        self._room = asyncio.Semaphore(_MAX_AT_ONCE)
        self._num_asked = 0

    def in_terminal(self, verb: str, request: Request) -> list[str]:
        """Return the words of the same command for a terminal, not made safe to show."""
        return [shlex.quote(word) for word in ("aqueue", *_words(verb, self._path, request))]

    async def carry_out(self, verb: str, request: Request) -> str:
        """Do what is asked; return what came of it, in a sentence that is safe to show.

        Raises:
            Refused: it was not done, or that isn't known.
        """
        sure = ["--yes"] if isinstance(request, OnItems) else []
        output, remarks = await self._call(verb, request, "--via=page", *sure)
        # Before its outcome, a command on items says what it was going to do.
        return visible("; ".join([*output.splitlines()[-1:], *_said(remarks)]), _MAX_SAID_CHARS)

    async def preview(self, verb: str, request: OnItems) -> Preview:
        """Return what `carry_out` would do.

        Raises:
            Refused: nothing, or that can't be said.
        """
        output, _ = await self._call(verb, request, "--dry-run", "--json")
        preview = msgspec.json.decode(output, type=Preview)
        if not preview.count:
            raise Refused(HTTPStatus.CONFLICT, f"nothing to {verb}: {preview.left_out or 'no such items are left'}")
        return preview

    async def _call(self, verb: str, request: Request, *options: str) -> tuple[str, str]:
        """Call the command; return what it prints, and what it remarks."""
        if self._num_asked >= _MAX_AT_ONCE + _MAX_WAITING:
            raise Refused(HTTPStatus.TOO_MANY_REQUESTS, "too many commands at once: try again in a moment")
        self._num_asked += 1
        try:
            async with self._room:
                done = await _called(_words(verb, self._path, request, *options))
        finally:
            self._num_asked -= 1
        remarks = done.stderr.decode("utf-8", "replace")
        if done.returncode:
            raise Refused(HTTPStatus.CONFLICT, _why(remarks, done.returncode))
        return done.stdout.decode("utf-8", "replace"), remarks


async def _called(words: Sequence[str]) -> "CompletedProcess[bytes]":
    """Return what came of the command `aqueue` with these words."""
    # Without -P a file of the current folder could take the place of a module. UTF-8, whatever the locale, for all names.
    python = [sys.executable, "-P", "-X", "utf8", "-m", "aqueue"]
    with anyio.move_on_after(_PATIENCE_S):
        return await anyio.run_process(
            [word.encode("utf-8", "surrogateescape") for word in (*python, *words)], check=False
        )
    raise Refused(
        HTTPStatus.GATEWAY_TIMEOUT,
        f"the run has not answered for {_PATIENCE_S:.0f} s, and may still do it; its event loop may be blocked",
    )


def _words(verb: str, path: Path, request: Request, *options: str) -> list[str]:
    """Return the words of the command line after `aqueue`."""
    operands = list(request.operands())
    mark = ["--"] if any(word.startswith("-") for word in operands) else []  # after which nothing is an option
    return [verb, str(path), *request.options(), *options, *mark, *operands]


def _said(remarks: str) -> list[str]:
    """Return what the command has printed on standard error, without warnings of Python's."""
    return [line.removeprefix("aqueue: ") for line in remarks.splitlines() if line.startswith("aqueue: ")]


def _why(remarks: str, code: int) -> str:
    """Return why a command has failed, safe to show."""
    if not (said := _said(remarks)):
        return f"the command has failed with exit code {code}; this is a bug in aqueue, please report it"
    return visible(re.sub(r" \(see 'aqueue \w+ --help'\)$", "", said[-1]), _MAX_SAID_CHARS)
