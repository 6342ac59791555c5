"""Exceptions as bytes and back, without running their `__init__`, which may take anything.

An exception is written with those that belong to it (cause, context, members of a group, those in its attributes) as a
list of records that refer to each other by index: so neither cycles nor long chains recurse. A record is made of pieces,
and a piece that can't be sent costs no more than itself.
"""

import ast
import pickle
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from types import CodeType, GetSetDescriptorType, MemberDescriptorType, TracebackType
from typing import Any, Final, NamedTuple

from aqueue._cluster.definitions import Refused
from aqueue._cluster.names import Key, import_by_name
from aqueue._cluster.pickles import SCALARS, KeyOf, dump, load
from aqueue._codec.object_kinds import is_built_in
from aqueue._stream.error_info import name_and_message
from aqueue.errors import RemoteError, UnsendableItem
from aqueue.text import visible, visible_repr

__all__ = ["dump_error", "load_error"]

_MAX_LINKS: Final = 50
"""How far from the exception itself another may be, counted in causes, contexts and members, to be sent with it."""
_MAX_ATTRIBUTE_BYTES: Final = 1_000_000
_MAX_FRAMES: Final = 2_000
_MESSAGE_CHARS: Final = 10_000
# A class may have attributes of its own of these names, or a __setattr__ that refuses them (a frozen dataclass's).
_ARGS: Final[Any] = vars(BaseException)["args"]
_CAUSE: Final[Any] = vars(BaseException)["__cause__"]
_CONTEXT: Final[Any] = vars(BaseException)["__context__"]
_SUPPRESS: Final[Any] = vars(BaseException)["__suppress_context__"]
_TRACEBACK: Final[Any] = vars(BaseException)["__traceback__"]
_DICT: Final[Any] = vars(BaseException)["__dict__"]
_GROUP_MESSAGE: Final[Any] = vars(BaseExceptionGroup)["message"]
_GROUP_MEMBERS: Final[Any] = vars(BaseExceptionGroup)["exceptions"]
_SKIPPED: Final = frozenset({"args", "exceptions"})


class _Frame(NamedTuple):
    """One frame of a traceback.

    Attributes:
        file, function: where it is.
        module: the module's name.
        line, end_line: the lines of what was being evaluated.
        column, end_column: where in them it is, in bytes of UTF-8 from 0; -1 if that isn't known.
    """

    file: str
    function: str
    module: str | None
    line: int
    end_line: int
    column: int
    end_column: int


class _Pickled(NamedTuple):
    """A value that is more than a scalar, or no data if it can't be pickled. `shown` stands for it where it isn't loaded."""

    data: bytes
    shown: str


class _Argument(NamedTuple):
    """A value that is one of the exception's `args`."""

    position: int


class _Record(NamedTuple):
    """One exception.

    Attributes:
        key: what names its class.
        text: its class and message, for a stand-in.
        whole: all of it, as pickle has it, where only that knows how an object of the class is made.
        args: scalars as they are, others pickled.
        attributes: those in its ``__dict__``.
        fields: those that Python keeps elsewhere, and those in slots.
        message: a group's.
        members: a group's, by their index; None if it is none, or if they are too far.
        cause, context: by their index.
        suppress: its ``__suppress_context__``.
        frames: its traceback.
    """

    key: Key
    text: str
    whole: bytes
    args: list[Any]
    attributes: dict[str, Any]
    fields: dict[str, Any]
    message: str
    members: list[int] | None
    cause: int | None
    context: int | None
    suppress: bool
    frames: list[_Frame]


def dump_error(error: BaseException, key_of: KeyOf) -> bytes:
    """Return `error` as bytes; never raises.

    Parameters:
        key_of: names a class, as `Definitions.key_of` does.
    """
    try:
        return pickle.dumps(_Writer(key_of).write(error), 5)
    except Exception:  # the user's classes can do anything
        return pickle.dumps([_stand_in_for(error)], 5)


def load_error(data: bytes, find: Callable[[Key], Any]) -> BaseException:
    """Return the exception that `dump_error` has written, or a `RemoteError` that stands for it; never raises.

    Parameters:
        find: returns the class that a key names.
    """
    text = "an exception that could not be read"
    try:
        records: list[_Record] = pickle.loads(data)  # noqa: S301  # a lane's
        text = records[0].text
        return _Reader(records, find).read()
    except Exception:  # the user's classes can do anything
        return RemoteError(text)


class _Writer:
    def __init__(self, key_of: KeyOf) -> None:
        self._key_of = key_of
        self._indices: dict[int, int] = {}
        self._found: list[tuple[BaseException, int]] = []
        self._links = 0  # from the first exception to the one that is being written

    def write(self, error: BaseException) -> list[_Record]:
        self._index(error, 0)
        records: list[_Record] = []
        while len(records) < len(self._found):  # which grows meanwhile
            one, self._links = self._found[len(records)]
            try:
                records.append(self._record(one))
            except Exception:  # the user's classes can do anything
                records.append(_stand_in_for(one))
        return records

    def _index(self, error: BaseException, links: int) -> int | None:
        """Return where `error` is in the list, or None if it is too far to be sent."""
        index = self._indices.get(id(error))
        if index is None and links <= _MAX_LINKS:
            index = self._indices[id(error)] = len(self._found)
            self._found.append((error, links))
        return index

    def _record(self, error: BaseException) -> _Record:
        links = self._links + 1
        cause, context = (
            None if one is None else self._index(one, links) for one in (_CAUSE.__get__(error), _CONTEXT.__get__(error))
        )
        message, members = "", None
        whole = b""
        # Not isinstance(): that asks the object for its __class__, which may raise.
        if issubclass(type(error), BaseExceptionGroup):
            message = str.__str__(_GROUP_MESSAGE.__get__(error))
            found = [self._index(one, links) for one in _GROUP_MEMBERS.__get__(error)]
            members = [index for index in found if index is not None]
            if len(members) < len(found):
                members = None
        elif not _can_be_made(type(error)):
            with suppress(Exception):  # then it gets a stand-in
                whole = dump(error, self._key_of, lambda _: None)
        args: tuple[Any, ...] = _ARGS.__get__(error)
        return _Record(
            key=self._key(type(error)),
            text=_text_of(error),
            whole=whole,
            args=[self._argument(value) for value in args],
            attributes=self._attributes(_DICT.__get__(error), args),
            fields=self._attributes(_fields_of(error), args),
            message=message,
            members=members,
            cause=cause,
            context=context,
            suppress=_SUPPRESS.__get__(error),
            frames=_frames_of(_TRACEBACK.__get__(error)),
        )

    def _key(self, cls: type) -> Key:
        key: Key | None = None
        with suppress(Refused, UnsendableItem):  # the coordinator may know it
            key = self._key_of(cls)
        return f"{cls.__module__}:{cls.__qualname__}" if key is None else key

    def _argument(self, value: Any) -> Any:
        if type(value) in SCALARS:
            return value
        try:
            return _Pickled(self._dump(value), visible_repr(value))
        except Exception:  # whatever the user's objects raise when they are pickled
            return _Pickled(b"", visible_repr(value))

    def _attributes(self, attributes: dict[str, Any], args: tuple[Any, ...]) -> dict[str, Any]:
        written: dict[str, Any] = {}
        for name, value in attributes.items():
            if not isinstance(name, str):
                continue
            name = str.__str__(name)
            same = next((index for index, one in enumerate(args) if one is value), None)
            if same is not None:
                written[name] = _Argument(same)
            elif type(value) in SCALARS:
                if not isinstance(value, str | bytes) or len(value) <= _MAX_ATTRIBUTE_BYTES:
                    written[name] = value
            else:
                with suppress(Exception):  # whatever the user's objects raise when they are pickled
                    data = self._dump(value)
                    if len(data) <= _MAX_ATTRIBUTE_BYTES:
                        written[name] = _Pickled(data, "")
        return written

    def _dump(self, value: Any) -> bytes:
        return dump(value, self._key_of, self._reference_to)

    def _reference_to(self, value: Any) -> tuple[Any, ...] | None:
        if not issubclass(type(value), BaseException):
            return None
        index = self._index(value, self._links + 1)
        if index is None:
            raise Refused("is an exception too far from the one that was raised")
        return ("error", index)


class _Reader:
    def __init__(self, records: list[_Record], find: Callable[[Key], Any]) -> None:
        self._records = records
        self._find = find
        self._made: dict[int, BaseException] = {}
        self._stand_ins: set[int] = set()

    def read(self) -> BaseException:
        # First all the objects, then what they have: they may have one another.
        for index in range(len(self._records)):
            self._make(index)
        for index, record in enumerate(self._records):
            made = self._made[index]
            if index not in self._stand_ins and not record.whole:
                self._fill(made, record)
            elif "__notes__" in record.attributes:
                with suppress(Exception):
                    _DICT.__get__(made)["__notes__"] = self._load(record.attributes["__notes__"])
            with suppress(Exception):  # a frame that can't be made again, of a file name with a null byte, say
                _TRACEBACK.__set__(made, _traceback(record.frames))
            _CAUSE.__set__(made, None if record.cause is None else self._made[record.cause])
            _CONTEXT.__set__(made, None if record.context is None else self._made[record.context])
            _SUPPRESS.__set__(made, record.suppress)
        return self._made[0]

    def _make(self, index: int) -> BaseException:
        made = self._made.get(index)
        if made is None:
            record = self._records[index]
            try:
                made = self._bare(record)
            except Exception:  # its class is not here, or has ways of its own
                made = RemoteError(record.text)
                self._stand_ins.add(index)
            self._made[index] = made
        return made

    def _bare(self, record: _Record) -> BaseException:
        if record.whole:
            made = load(record.whole, self._find, lambda pid: pid)
            if not isinstance(made, BaseException):
                raise TypeError(record.text)
            return made
        # Not by the ways in which items are found: to find that none has a name takes them 40 ms, again for each failure.
        cls = import_by_name(record.key) if isinstance(record.key, str) else self._find(record.key)
        if not issubclass(cls, BaseException):
            raise TypeError(record.text)
        if issubclass(cls, BaseExceptionGroup):
            members = [self._make(member) for member in record.members or ()]
            group: BaseException = BaseExceptionGroup.__new__(cls, record.message, members)
            return group
        return _new(cls)

    def _fill(self, error: BaseException, record: _Record) -> None:
        args: list[Any] = []
        shown: set[int] = set()
        for position, value in enumerate(record.args):
            try:
                args.append(self._load(value))
            except Exception:  # it was not pickled, a class is not here, or its __setstate__ raised
                args.append(value.shown)
                shown.add(position)

        def attribute(value: Any) -> Any:
            if not isinstance(value, _Argument):
                return self._load(value)
            if value.position in shown:
                raise LookupError(value.position)
            return args[value.position]

        _ARGS.__set__(error, tuple(args))
        attributes = _DICT.__get__(error)
        for name, value in record.attributes.items():
            with suppress(Exception):  # the same
                attributes[name] = attribute(value)
        for name, value in record.fields.items():
            with suppress(Exception):  # the same, or it can only be read
                _descriptor(type(error), name).__set__(error, attribute(value))

    def _load(self, value: Any) -> Any:
        if not isinstance(value, _Pickled):
            return value
        return load(value.data, self._find, lambda pid: self._made[pid[1]])


def _stand_in_for(error: BaseException) -> _Record:
    """Return what says no more of `error` than its class and, if it can be had, its message."""
    text = visible(type(error).__qualname__, 1_000)
    with suppress(Exception):  # the user's code
        text = _text_of(error)
    return _Record("", text, b"", [], {}, {}, "", None, None, None, False, [])


def _new(cls: Any) -> BaseException:
    """Return an exception of `cls` that has nothing yet; no code of the user's runs."""
    base = cls
    while not is_built_in(base):
        base = base.__base__
    made: BaseException = base.__new__(cls)
    return made


def _can_be_made(cls: type) -> bool:
    try:
        _new(cls)
    except TypeError:  # a class of an extension module
        return False
    return True


def _fields_of(error: BaseException) -> dict[str, Any]:
    """Return the attributes of `error` that are not in its ``__dict__``: an `OSError`'s errno, slots."""
    fields: dict[str, Any] = {}
    for base in type(error).__mro__:
        for name, descriptor in vars(base).items():
            if (
                not isinstance(descriptor, MemberDescriptorType | GetSetDescriptorType)
                or name in _SKIPPED
                or name.startswith("__")
            ):
                continue
            with suppress(Exception):  # it is not set
                value = descriptor.__get__(error)
                # An OSError whose filename is set to None shows that.
                if value is not None or not is_built_in(base):
                    fields.setdefault(name, value)
    return fields


def _descriptor(cls: type, name: str) -> Any:
    """Return what keeps the attribute that `_fields_of` has found, though a subclass may have a property of that name."""
    return next(
        vars(base)[name]
        for base in cls.__mro__
        if isinstance(vars(base).get(name), MemberDescriptorType | GetSetDescriptorType)
    )


def _text_of(error: BaseException) -> str:
    name, message = name_and_message(error)
    return f"{name}: {visible(message, _MESSAGE_CHARS)}" if message else name


def _frames_of(traceback: TracebackType | None) -> list[_Frame]:
    frames: list[_Frame] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        module = traceback.tb_frame.f_globals.get("__name__")
        line = traceback.tb_lineno or 1
        positions = next(islice(code.co_positions(), traceback.tb_lasti // 2, None), (None,) * 4)
        if positions[0] != line or None in positions:  # Python runs with -X no_debug_ranges, say
            positions = (line, line, -1, -1)
        frames.append(
            _Frame(code.co_filename, code.co_name, module if type(module) is str else None, *positions)  # type: ignore[arg-type]
        )
        traceback = traceback.tb_next
    half = _MAX_FRAMES // 2
    return frames if len(frames) <= _MAX_FRAMES else [*frames[:half], *frames[-half:]]


def _traceback(frames: list[_Frame]) -> TracebackType | None:
    """Return a traceback that names `frames`.

    Not tblib's: its frames forget where in the line they are, and the traceback's text would underline another part.
    """
    made: TracebackType | None = None
    for frame in reversed(frames):
        try:
            exec(_failing_code(frame), {"__builtins__": {}, "__file__": frame.file, "__name__": frame.module})  # noqa: S102
        except ZeroDivisionError as error:
            raised = error.__traceback__ and error.__traceback__.tb_next
            assert raised is not None
            made = TracebackType(made, raised.tb_frame, raised.tb_lasti, frame.line)
    return made


@lru_cache(maxsize=1_000)  # to compile takes 20 times as long as to run, and many items fail at the same line
def _failing_code(frame: _Frame) -> CodeType:
    """Return code that raises `ZeroDivisionError` where `frame` was."""
    tree = ast.parse("0 / 0")
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt | ast.expr):
            node.lineno, node.end_lineno = frame.line, frame.end_line
            node.col_offset, node.end_col_offset = frame.column, frame.end_column
    return compile(tree, "", "exec").replace(co_filename=frame.file, co_name=frame.function)
