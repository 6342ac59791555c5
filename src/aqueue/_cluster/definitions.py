"""Sends lanes the classes and functions that they can't import, and gives each a number that both sides know it by.

A lane gets such a class by value, made again from its code. The coordinator never does: it would be left with two classes
where its program has one (cloudpickle even overwrites the first). So what comes back names a class by its number, or by
its name in the coordinator's program.
"""

import copyreg
import functools
import inspect
import os
import pickle
import sys
from collections.abc import Callable
from io import BytesIO
from types import CodeType, FunctionType
from typing import Any, Final
from uuid import uuid4
from weakref import WeakValueDictionary

import cloudpickle  # type: ignore[import-untyped]  # it ships no annotations

from aqueue._cluster import names
from aqueue._cluster.names import Definition, Key, is_definition, is_found_by_name, name_of, travels_by_value
from aqueue._cluster.pickles import load
from aqueue._codec.class_names import defined_items, resolve_type
from aqueue._stream.error_info import name_and_message
from aqueue.errors import InvalidArgument, UnknownItemType, UnsendableItem
from aqueue.text import visible

__all__ = ["Definitions", "LaneDefinitions", "Refused", "SentDefinitions", "error_text"]


class Refused(Exception):
    """A value can't be sent. The message continues a sentence that begins with the name of the value."""


def error_text(error: BaseException) -> str:
    """Return the class and message of `error`, safe to show; never raises, even if its `__str__` does."""
    name, (_, message) = type(error).__qualname__, name_and_message(error)
    return visible(f"{name}: {message}" if message else name, 500)


class Definitions:
    """Knows classes and functions by numbers or names; the base of both sides."""

    def __init__(self) -> None:
        self._by_number: dict[int, Any] = {}
        # By id, since a metaclass may redefine equality. With the object, which keeps the id from being reused.
        self._keys: dict[int, tuple[Definition, Key | None]] = {}
        self._by_name: dict[str, Any] = {}

    def key_of(self, definition: Definition) -> Key | None:
        """Return the key of a class or function; None if both sides can import it.

        Raises:
            Refused: it is a function without a name by which it could be found, or one that only this worker has.
            UnsendableItem: its code can't be sent.
        """
        known = self._keys.get(id(definition))
        if known is None:
            known = self._keys[id(definition)] = (definition, self._new_key(definition))
        return known[1]

    def name_or_number(self, cls: type) -> Key:
        """Return the key of a class, which is its name if both sides can import it.

        Raises:
            Refused, UnsendableItem: as in `key_of`.
        """
        key = self.key_of(cls)
        return name_of(cls) if key is None else key

    def find(self, key: Key) -> Any:
        """Return the class or function that `key` names.

        Raises:
            LookupError, AttributeError, ImportError: there is none.
        """
        if isinstance(key, int):
            return self._by_number[key]
        found = self._by_name.get(key)
        if found is None:
            found = self._by_name[key] = self._look_up(key)
        return found

    def _new_key(self, definition: Definition) -> Key | None:
        raise NotImplementedError

    def _look_up(self, name: str) -> Any:
        return names.import_by_name(name)


class SentDefinitions(Definitions):
    """The coordinator's side: sends what the lanes can't import, with a number for each.

    Attributes:
        pickled: all definitions so far, in the order in which lanes must get them.
    """

    def __init__(self, lifespan: Callable[..., Any] | None) -> None:
        super().__init__()
        self.pickled: list[bytes] = []
        self.lifespan = lifespan
        self._id = uuid4().hex
        _BY_ID[self._id] = self
        script = sys.modules.get("__mp_main__")
        if script is not None and script.__name__ == "__mp_main__":  # one that multiprocessing has started again
            cloudpickle.register_pickle_by_value(script)
        if lifespan is not None:
            by_value = is_definition(lifespan) and travels_by_value(lifespan)
            try:
                self._send(lifespan=lifespan, with_items=by_value)
            except Exception as error:  # the user's code, while it is pickled
                raise InvalidArgument(
                    f"lifespan can't be sent to the worker processes: {error_text(error)}; move it to a module that they can "
                    "import, and create everything that it needs inside it"
                ) from error

    def _new_key(self, definition: Definition) -> Key | None:
        if isinstance(definition, FunctionType) and not is_found_by_name(definition):
            raise Refused(_NAMELESS.format(visible(definition.__qualname__, 100)))
        if not travels_by_value(definition):
            return None
        try:
            self._send(definition)
            return self._keys[id(definition)][1]
        except Exception as error:  # the user's code, while it is pickled
            used = _unpicklable_use(definition)
            raise UnsendableItem(
                f"{visible(name_of(definition), 300)} can't be sent to another process: its code uses "
                f"{f'{used}, which' if used else 'something that'} can't be pickled ({error_text(error)}); move the class to a "
                "module that the worker processes can import, or create what it uses in the lifespan"
            ) from error

    def _look_up(self, name: str) -> Any:
        try:
            return resolve_type(name)
        except UnknownItemType:
            return names.import_by_name(name)

    def _send(self, wanted: Any = None, *, lifespan: Any = None, with_items: bool = True) -> None:
        """Pickle a definition or the lifespan to be sent, and number what goes with it.

        Functions of one module share its globals in the lane if they are pickled together: so all items of the script
        are sent with the first of them.
        """
        together = [
            cls
            for cls in (defined_items() if with_items else ())
            if cls.__module__ in names.SCRIPT_MODULES
            and id(cls) not in self._keys
            and cls is not wanted
            and _can_be_pickled(cls)
        ]
        first = len(self._by_number)
        file = BytesIO()
        pickler = _DefinitionsPickler(file, self._keys, first)
        # The numbered ones are complete once all else is written.
        pickler.dump((wanted, together, lifespan, pickler.numbered))
        self.pickled.append(pickle.dumps((os.getpid(), self._id, first, len(pickler.numbered), file.getvalue())))
        for number, definition in pickler.numbered:
            self._by_number[number] = definition
            self._keys[id(definition)] = (definition, number)


_BY_ID: Final[WeakValueDictionary[str, SentDefinitions]] = WeakValueDictionary()
"""The instances in this process, by the id that is pickled with their definitions."""


class LaneDefinitions(Definitions):
    """A lane's side: knows what it was sent by the coordinator's numbers.

    Attributes:
        lifespan: the run's, once it was sent.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lifespan: Callable[..., Any] | None = None

    def define(self, definitions: bytes) -> None:
        """Register what the coordinator has sent.

        Raises:
            UnsendableItem: it can't be made here; a module is missing, say.
        """
        pid, sender, first, count, data = pickle.loads(definitions)  # noqa: S301  # the coordinator's
        living = _BY_ID.get(sender) if pid == os.getpid() else None
        if living is not None:
            # The lane is a thread of the coordinator's process: unpickling would overwrite the program's own classes.
            self.lifespan = living.lifespan
            numbered = [(number, living.find(number)) for number in range(first, first + count)]
        else:
            try:
                _, _, lifespan, numbered = load(data, self.find)
            except Exception as error:  # the user's code, while it is unpickled
                raise UnsendableItem(
                    f"a worker process can't create the classes that it was sent: {error_text(error)}; install the modules "
                    "that they use there, in the versions that your program has"
                ) from error
            self.lifespan = lifespan or self.lifespan
        for number, definition in numbered:
            self._by_number[number] = definition
            self._keys[id(definition)] = (definition, number)

    def _new_key(self, definition: Definition) -> Key | None:
        if not travels_by_value(definition):
            return None
        name = name_of(definition)
        if "<locals>" in name or name.endswith("<lambda>"):
            is_class = isinstance(definition, type)
            text = (
                "is of class {}, which was defined inside a function, in the worker process" if is_class else _NAMELESS
            )
            raise Refused(text.format(visible(definition.__qualname__, 100)))
        return name  # a global of something that was sent, so that the coordinator has it


_NAMELESS: Final = "is a lambda or local function ({}), which another process can't find by name"


class _DefinitionsPickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle ships no annotations
    """Writes definitions by value, except those that have been sent before, and numbers them.

    Attributes:
        numbered: the classes and functions that were written, with their numbers.
    """

    def __init__(self, file: BytesIO, sent: dict[int, tuple[Definition, Key | None]], first: int) -> None:
        super().__init__(file, protocol=5)
        self.numbered: list[tuple[int, Any]] = []
        self._sent = sent
        self._first = first

    def persistent_id(self, value: Any) -> int | None:
        sent = self._sent.get(id(value)) if is_definition(value) else None
        return None if sent is None else sent[1]  # type: ignore[return-value]  # the coordinator's keys are numbers

    def reducer_override(self, value: Any) -> Any:
        if type(value) is CodeType:
            # cloudpickle drops the file name of the code, which tracebacks show.
            make, arguments = self.dispatch_table[CodeType](value)
            return make, tuple(value.co_filename if one == "<dynamic-code>" else one for one in arguments)
        reduced = super().reducer_override(value)
        if reduced is NotImplemented and getattr(value, "__module__", None) in names.SCRIPT_MODULES:
            reduced = _by_value(value)
        if (
            reduced is not NotImplemented
            and is_definition(value)
            and travels_by_value(value)
            and (isinstance(value, type) or is_found_by_name(value))
        ):
            self.numbered.append((self._first + len(self.numbered), value))
        return reduced


def _by_value(value: Any) -> Any:
    """Return a reduction by value of a script's object that pickle and cloudpickle would reduce to its name.

    Such are functions with a cache, type aliases, `NewType`s, and any object whose ``__reduce__`` returns a name.
    """
    if type(value) is names.CACHED_FUNCTION:
        return _cached, (value.__wrapped__, value.cache_parameters())
    if not isinstance(value.__reduce_ex__(5), str):
        return NotImplemented
    cls = type(value)
    if cls.__name__ == "TypeAliasType":
        return _type_alias, (cls, value.__name__, value.__value__, value.__type_params__)
    return copyreg.__newobj__, (cls,), object.__getstate__(value)  # type: ignore[attr-defined]


def _cached(function: Callable[..., Any], parameters: Any) -> Any:
    return functools.lru_cache(**parameters)(function)


def _type_alias(cls: Any, name: str, value: Any, parameters: Any) -> Any:
    return cls(name, value, type_params=parameters)


def _can_be_pickled(value: object) -> bool:
    try:
        cloudpickle.dumps(value)
    except Exception:  # the user's code, while it is pickled
        return False
    return True


def _unpicklable_use(definition: Definition) -> str:
    """Return the name of a global that keeps `definition` from being pickled, if it is found."""
    for function in (definition, *vars(definition).values()):
        if isinstance(function, FunctionType):
            used = inspect.getclosurevars(function)
            for name, value in {**used.globals, **used.nonlocals}.items():
                if not is_definition(value) and not _can_be_pickled(value):
                    return visible(name, 100)
    return ""
