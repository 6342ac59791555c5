"""Exceptions as bytes and back, without running their `__init__`, which may take anything.

An exception is written with those that belong to it (cause, context, members of a group, those in its attributes) as a
list of records that refer to each other by index: so neither cycles nor long chains recurse. A record is made of pieces,
and if a piece can't be sent, only that piece is lost. Not tblib: its exceptions are nested in one pickle, which fails
as a whole, and its frames forget where in the line they are, so that the traceback underlines another part.
"""

import ast
import pickle
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from itertools import islice
from types import CodeType, GetSetDescriptorType, MemberDescriptorType, TracebackType
from typing import Any, Final

import msgspec

from aqueue._cluster.definitions import Refused
from aqueue._cluster.names import Key, import_by_name
from aqueue._cluster.pickles import SCALARS, KeyOf, dump, load
from aqueue._codec.object_kinds import is_built_in
from aqueue._stream.error_info import name_and_message
from aqueue.errors import RemoteError, UnsendableItem
from aqueue.text import visible, visible_repr

__all__ = ["dump_error", "load_error"]

_MAX_LINKS: Final = 50
"""How many causes, contexts and members may lead from the exception to another that is sent with it."""
_MAX_ATTRIBUTE_BYTES: Final = 1_000_000
_MAX_FRAMES: Final = 2_000
_MESSAGE_CHARS: Final = 10_000
# A class may have its own attributes with these names, or a __setattr__ that refuses them (a frozen dataclass).
_BASE: Final[Any] = vars(BaseException)
_GROUP: Final[Any] = vars(BaseExceptionGroup)

_Frame = tuple[str, str, int, int, int, int]
"""A frame's file and function, and what it evaluated: first and last line, first and last column in bytes or -1."""


class _Record(msgspec.Struct):
    """One exception.

    Attributes:
        key: the key of its class.
        text: its class and message, for a stand-in.
        whole: the pickled exception, if only pickle can make one of its class.
        args: each pickled, with a text for where that can't be loaded.
        attributes: those in its ``__dict__``, those that Python keeps elsewhere, and those in slots, pickled.
        message: a group's.
        members: a group's, by their index; None for those that are too far.
        cause, context: by their index.
        suppress: its ``__suppress_context__``.
        frames: its traceback.
    """

    key: Key
    text: str
    whole: bytes = b""
    args: list[tuple[bytes, str]] = []
    attributes: dict[str, bytes] = {}
    message: str = ""
    members: list[int | None] = []
    cause: int | None = None
    context: int | None = None
    suppress: bool = False
    frames: list[_Frame] = []


# ---- writing ----------------------------------------------------------------------------------------------------


def dump_error(error: BaseException, key_of: KeyOf) -> bytes:
    """Return `error` as bytes; never raises.

    Parameters:
        key_of: names a class, as `Definitions.key_of` does.
    """
    found = [(error, 0)]
    indices = {id(error): 0}

    def index_of(one: BaseException | None, links: int) -> int | None:
        """Return where `one` is in the list, or None if it is too far to be sent."""
        if one is not None and id(one) not in indices and links <= _MAX_LINKS:
            indices[id(one)] = len(found)
            found.append((one, links))
        return indices.get(id(one))

    records: list[_Record] = []
    for one, links in found:  # which grows meanwhile
        try:
            records.append(_record(one, key_of, partial(index_of, links=links + 1)))
        except Exception:  # the user's classes can do anything
            records.append(_Record("", _text_of(one)))
    return pickle.dumps(records, 5)


def _record(error: BaseException, key_of: KeyOf, index_of: Callable[[BaseException | None], int | None]) -> _Record:
    cls = type(error)

    def reference_to(value: Any) -> tuple[Any, ...] | None:
        # Not isinstance(): that asks the object for its __class__, which may raise.
        if not issubclass(type(value), BaseException):
            return None
        index = index_of(value)
        if index is None:
            raise Refused("is an exception too many causes or contexts away from the one that was raised")
        return ("error", index)

    def dumped(value: Any) -> bytes:
        try:
            return dump(value, key_of, reference_to)
        except Exception:  # the user's code, while it is pickled
            return b""

    key: Key | None = None
    with suppress(Refused, UnsendableItem):  # the coordinator may know it
        key = key_of(cls)
    whole, message, members = b"", "", []
    if issubclass(cls, BaseExceptionGroup):
        message = str.__str__(_GROUP["message"].__get__(error))
        members = [index_of(member) for member in _GROUP["exceptions"].__get__(error)]
    else:
        try:
            _new(cls)
        except TypeError:  # a class of an extension module
            with suppress(Exception):  # then it gets a stand-in
                whole = dump(error, key_of, lambda _: None)
    values = {**_values_of_fields(error), **_BASE["__dict__"].__get__(error)}
    pieces = {str.__str__(name): dumped(value) for name, value in values.items() if isinstance(name, str)}
    return _Record(
        key=f"{cls.__module__}:{cls.__qualname__}" if key is None else key,
        text=_text_of(error),
        whole=whole,
        args=[
            (dumped(value), "" if type(value) in SCALARS else visible_repr(value))
            for value in _BASE["args"].__get__(error)
        ],
        attributes={name: piece for name, piece in pieces.items() if 0 < len(piece) <= _MAX_ATTRIBUTE_BYTES},
        message=message,
        members=members,
        cause=index_of(_BASE["__cause__"].__get__(error)),
        context=index_of(_BASE["__context__"].__get__(error)),
        suppress=_BASE["__suppress_context__"].__get__(error),
        frames=_frames_of(_BASE["__traceback__"].__get__(error)),
    )


def _text_of(error: BaseException) -> str:
    """Return the class of `error` and, if its `__str__` works, its message."""
    with suppress(Exception):  # the user's code
        name, message = name_and_message(error)
        return f"{name}: {visible(message, _MESSAGE_CHARS)}" if message else name
    return visible(type(error).__qualname__, 1_000)


def _values_of_fields(error: BaseException) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, field in _fields_of(type(error)).items():
        with suppress(Exception):  # it is not set
            value = field.__get__(error)
            # An OSError whose filename is set to None prints it.
            if value is not None or not is_built_in(field.__objclass__):
                values[name] = value
    return values


# ---- reading ----------------------------------------------------------------------------------------------------


def load_error(data: bytes, find: Callable[[Key], Any]) -> BaseException:
    """Return the exception that `dump_error` has written, or a `RemoteError` that stands for it; never raises.

    Parameters:
        find: returns the class that a key names.
    """
    text = "an exception that could not be read"
    try:
        records: list[_Record] = pickle.loads(data)  # noqa: S301  # a lane's
        text = records[0].text
        return _load(records, find)
    except Exception:  # the user's classes can do anything
        return RemoteError(text)


def _load(records: list[_Record], find: Callable[[Key], Any]) -> BaseException:
    made: dict[int, BaseException] = {}
    stand_ins: set[int] = set()

    def make(index: int) -> BaseException:
        if index not in made:
            try:
                made[index] = _bare(records[index], find, make)
            except Exception:  # the class is missing or can't be made, or a group's member is missing
                made[index] = RemoteError(records[index].text)
                stand_ins.add(index)
        return made[index]

    def loaded(piece: bytes) -> Any:
        return load(piece, find, lambda pid: make(pid[1]))

    def argument(piece: tuple[bytes, str]) -> Any:
        try:
            return loaded(piece[0])
        except Exception:  # it was not pickled, a class is not here, or its __setstate__ raised
            return piece[1]

    for index, record in enumerate(records):
        error = make(index)
        is_bare = index not in stand_ins and not record.whole
        if is_bare:
            _BASE["args"].__set__(error, tuple(map(argument, record.args)))
        fields = _fields_of(type(error))
        for name, piece in record.attributes.items():
            with suppress(Exception):  # as for an argument, or it can only be read
                if is_bare and name in fields:
                    fields[name].__set__(error, loaded(piece))
                elif is_bare or name == "__notes__":
                    _BASE["__dict__"].__get__(error)[name] = loaded(piece)
        with suppress(Exception):  # a frame that can't be made again, of a file name with a null byte, say
            _BASE["__traceback__"].__set__(error, _traceback(record.frames))
        _BASE["__cause__"].__set__(error, None if record.cause is None else make(record.cause))
        _BASE["__context__"].__set__(error, None if record.context is None else make(record.context))
        _BASE["__suppress_context__"].__set__(error, record.suppress)
    return made[0]


def _bare(record: _Record, find: Callable[[Key], Any], make: Callable[[Any], BaseException]) -> BaseException:
    """Return the exception with no attributes yet; a group has its members."""
    if record.whole:
        error: BaseException = load(record.whole, find)
        if not isinstance(error, BaseException):
            raise TypeError(record.text)
        return error
    # Not the way item classes are found: that takes 40 ms for each failure if nothing has the name.
    cls = import_by_name(record.key) if isinstance(record.key, str) else find(record.key)
    if issubclass(cls, BaseExceptionGroup):
        group: BaseException = BaseExceptionGroup.__new__(cls, record.message, list(map(make, record.members)))
        return group
    return _new(cls)


def _new(cls: Any) -> BaseException:
    """Return an exception of `cls` without attributes; runs no code of the user's."""
    base = cls
    while not is_built_in(base):
        base = base.__base__
    made: BaseException = base.__new__(cls)
    return made


def _fields_of(cls: type) -> dict[str, Any]:
    """Return what keeps the attributes that are not in an exception's ``__dict__``: an `OSError`'s errno, slots."""
    return {
        name: field
        for base in reversed(cls.__mro__)
        for name, field in vars(base).items()
        if isinstance(field, MemberDescriptorType | GetSetDescriptorType)
        and not name.startswith("__")
        and name not in ("args", "exceptions")
    }


# ---- tracebacks -------------------------------------------------------------------------------------------------


def _frames_of(traceback: TracebackType | None) -> list[_Frame]:
    frames: list[_Frame] = []
    while traceback is not None:
        code, line = traceback.tb_frame.f_code, traceback.tb_lineno or 1
        positions: Any = next(islice(code.co_positions(), traceback.tb_lasti // 2, None), (None,))
        if positions[0] != line or None in positions:  # Python runs with -X no_debug_ranges, say
            positions = (line, line, -1, -1)
        frames.append((code.co_filename, code.co_name, *positions))
        traceback = traceback.tb_next
    half = _MAX_FRAMES // 2
    return frames if len(frames) <= _MAX_FRAMES else [*frames[:half], *frames[-half:]]


def _traceback(frames: list[_Frame]) -> TracebackType | None:
    """Return a traceback that names `frames`."""
    made: TracebackType | None = None
    for frame in reversed(frames):
        try:
            exec(_failing_code(*frame), {"__builtins__": {}})  # noqa: S102
        except ZeroDivisionError as error:
            raised = error.__traceback__ and error.__traceback__.tb_next
            assert raised is not None
            made = TracebackType(made, raised.tb_frame, raised.tb_lasti, frame[2])
    return made


@lru_cache(maxsize=1_000)  # to compile takes 20 times as long as to run, and many items fail at the same line
def _failing_code(file: str, function: str, line: int, end_line: int, column: int, end_column: int) -> CodeType:
    """Return code that raises `ZeroDivisionError` at this place."""
    tree = ast.parse("0 / 0")
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt | ast.expr):
            node.lineno, node.end_lineno, node.col_offset, node.end_col_offset = line, end_line, column, end_column
    return compile(tree, "", "exec").replace(co_filename=file, co_name=function)
