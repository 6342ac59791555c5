"""What the state of an object is, whatever its class: how it is read, and how an equal object is made from it.

No `__init__`, `__new__` or `__post_init__` is called for that, except by a msgspec Struct, which can't be made without.
"""

import dis
import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any, ClassVar, Final, NamedTuple

from aqueue._codec.annotations import annotated_names, annotations_of, classes_in
from aqueue._codec.values import Unwritable, is_plain_text

__all__ = ["Default", "MissingField", "State", "assigned_by_init", "cached_names", "call", "check_name", "same"]

_JUMPS: Final = frozenset({*dis.hasjrel, *dis.hasjabs})

Default = Callable[[object], object]
"""Returns the value of an attribute that was not recorded; it gets the object, or None before there is one."""


class MissingField(Exception):
    """A field that has no default was not recorded."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class State:
    """How objects of one class are read and made; one is made for each class, and its subclasses for each kind of class.

    Attributes:
        cls: the class.
        fields: the fields that the class declares, in their order, each with its default; None if it has none.
        declares: whether `fields` are all that a new object has. Otherwise any attribute is one, and all are sorted.
        optional: fields without a default that an object may yet lack.
        parts: what `read` may return beside fields.
        policies: of a class of items, what it says to aqueue, by name: it is neither read nor given to `make`.
    """

    parts: ClassVar[frozenset[str]] = frozenset({"$extra"})

    def __init__(self, cls: type, policies: Mapping[str, Any]) -> None:
        self.cls = cls
        self.policies = policies
        self.fields: dict[str, Default | None] = {}
        self.declares = True
        self.optional: frozenset[str] = frozenset()
        self._annotations: dict[str, Any] | None = None
        self._classes: dict[str, dict[str, type | None]] = {}

    def read(self, value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the object's fields, and what else it has: attributes by name, in parts whose names begin with ``$``.

        Raises:
            Unwritable: the object has something that can't be read or restored.
        """
        raise NotImplementedError

    def make(self, fields: dict[str, Any], parts: dict[str, Any]) -> Any:
        """Return an object with these fields and parts; fields that are not given have their defaults.

        Raises:
            MissingField: a field without a default is not given.
        """
        raise NotImplementedError

    def outline(self, names: tuple[str, ...]) -> dict[str, Any] | None:
        """Return what `read` finds in an object that is made of fields of these `names`: None for those, else defaults.

        Returns None if that depends on more than the names: a field is gone, or has a default that is made each time.

        Raises:
            MissingField: a field without a default is not among them.
        """
        if not self.fields.keys() >= set(names):
            return None
        outline: dict[str, Any] = {}
        for name, default in self.fields.items():
            if name in names:
                outline[name] = None
            elif isinstance(default, functools.partial) and default.func is same:
                outline[name] = default.args[0]
            elif isinstance(default, functools.partial) and (default.args[0] is list or default.args[0] is dict):
                outline[name] = default(None)
            elif default is not None:
                return None
            elif name not in self.optional:
                raise MissingField(name)
        return outline

    def classes(self, attribute: str) -> dict[str, type | None]:
        """Return the classes that the attribute's annotation names, by their names; None for one that two have."""
        found = self._classes.get(attribute)
        if found is None:
            if self._annotations is None:
                self._annotations = self._read_annotations()
            found = self._classes[attribute] = {}
            for cls in classes_in(self._annotations.get(attribute), self.cls):
                found[cls.__name__] = None if cls.__name__ in found else cls
        return found

    def _declare(self, fields: dict[str, Default | None]) -> None:
        self.fields = {name: default for name, default in fields.items() if name not in self.policies}

    def _read_annotations(self) -> dict[str, Any]:
        return annotations_of(self.cls)

    def _in_order(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the declared fields among `values` in the order of declaration, taken out of `values`."""
        found = {}
        for name in self.fields:
            if name in values:
                found[name] = values.pop(name)
            elif name not in self.optional:
                raise Unwritable(f"attribute {name!r} is not set")
        return found


def cached_names(cls: type) -> set[str]:
    """Return the attributes that only keep what objects of `cls` have computed from the others.

    They are the cached properties that no function in the body of the class or a base assigns, and that no subclass of
    the one which defines them annotates. An object doesn't say whether a value was computed or set. Computing the value
    again to compare it can be slow, or open a connection. Storing any value that is there gives two equal items different
    payloads as soon as the property of one of them has been read.
    """
    found: set[str] = set()
    overridden: set[str] = set()
    for base in cls.__mro__:
        own = {name for name, value in vars(base).items() if isinstance(value, functools.cached_property)}
        found |= (own | _cached_in_slots(base)) - overridden
        overridden |= vars(base).keys() | annotated_names(base)
    return found.difference(_assigned_names(cls)) if found else found


def _cached_in_slots(cls: type) -> set[str]:
    """Return the cached properties that attrs has put into slots of `cls`, where they look like any slot.

    What computes them is a ``__getattr__`` that attrs has written, and given their functions by name.
    """
    getter = vars(cls).get("__getattr__")
    if "__attrs_attrs__" not in vars(cls) or not isinstance(getter, FunctionType):
        return set()
    given = inspect.signature(getter).parameters.get("cached_properties")
    return set(given.default) if given is not None and isinstance(given.default, dict) else set()


def _assigned_names(cls: type) -> Iterator[str]:
    for base in cls.__mro__:
        for value in vars(base).values():
            for function in _functions_in(value):
                if isinstance(function, FunctionType):
                    yield from _assigned_in(function, is_method=not isinstance(value, classmethod | staticmethod))


def _assigned_in(function: FunctionType, *, is_method: bool) -> Iterator[str]:
    """Yield the attributes that `function` assigns, if it is a method those of its first argument, `self`."""
    first = function.__code__.co_varnames[:1]
    for assignment in _assignments(function):
        if not is_method or assignment.holder in first:
            yield assignment.name


class _Assignment(NamedTuple):
    """A step of a function that assigns an attribute.

    Attributes:
        name: the attribute.
        holder: the variable whose attribute it is; None if that is no variable.
        value: the variable that is assigned, or the constant, in a tuple; None if it is something else.
        is_sure: whether each call that returns has passed here, once.
    """

    name: str
    holder: str | None
    value: str | tuple[object] | None
    is_sure: bool


def _assignments(function: FunctionType) -> Iterator[_Assignment]:
    steps = list(dis.get_instructions(function))
    # The offset from which on it is not sure; with a try or with block (what has a handler), it never is.
    unsure = 0 if any(step.opname == "PUSH_EXC_INFO" for step in steps) else sys.maxsize
    joined = 0  # where the branches so far are one again
    loaded: list[str | tuple[object]] = []  # by the steps right before
    for step in steps:
        if step.is_jump_target:
            loaded = []
        names = step.argval if isinstance(step.argval, tuple) else (step.argval,)
        match step.opname:
            case "STORE_ATTR":
                value, holder = [None, None, *loaded][-2:]
                is_sure = joined <= step.offset < unsure
                yield _Assignment(step.argval, holder if isinstance(holder, str) else None, value, is_sure)
                loaded = []
            case "LOAD_CONST" | "LOAD_SMALL_INT":
                loaded.append((step.argval,))
            case "BUILD_LIST" | "BUILD_MAP" if step.arg == 0:
                loaded.append(([] if step.opname == "BUILD_LIST" else {},))
            case "EXTENDED_ARG" | "NOP":
                pass
            # From Python 3.13 on one step may load two variables, or store one and load another.
            case opname if opname.startswith("STORE_FAST_LOAD"):
                loaded = [names[-1]]
            case opname if opname.startswith(("LOAD_FAST", "LOAD_DEREF")):
                loaded += names
            case opname:
                loaded = []
                if opname.startswith("RETURN_"):
                    unsure = min(unsure, step.offset)
                elif step.opcode in _JUMPS:
                    joined = max(joined, step.argval)


def assigned_by_init(cls: type) -> dict[str, object]:
    """Return what `cls.__init__` assigns to attributes if it is not given something else: always, and nothing else.

    Those are constants, and the defaults of parameters that it stores as they are. It is not run to find them. What
    another function assigns that it calls, such as the `__init__` of a base class, is not among them.
    """
    init = inspect.getattr_static(cls, "__init__")
    if not isinstance(init, FunctionType) or inspect.getattr_static(cls, "__setattr__") is not object.__setattr__:
        return {}
    code = init.__code__
    parameters = reversed(code.co_varnames[: code.co_argcount])
    defaults = dict(zip(parameters, reversed(init.__defaults__ or ()), strict=False)) | (init.__kwdefaults__ or {})
    used: list[str] = []
    assigned: list[str] = []
    for step in dis.get_instructions(init):
        names = step.argval if isinstance(step.argval, tuple) else (step.argval,)
        if "ATTR" in step.opname or "METHOD" in step.opname:
            used.append(step.argval)
            if not step.opname.startswith("LOAD_"):
                assigned.append(step.argval)
        elif step.opname.startswith(("STORE_FAST", "DELETE_FAST")):
            for name in names[: step.opname.count("STORE_FAST") or 1]:
                defaults.pop(name, None)
    for name in code.co_cellvars:  # another function may assign it
        defaults.pop(name, None)
    found: dict[str, object] = {}
    for name, holder, value, is_sure in _assignments(init):
        if is_sure and holder in code.co_varnames[:1]:
            if isinstance(value, tuple):
                [found[name]] = value
            elif value in defaults:
                found[name] = defaults[value]
    # One that is assigned again has another value by then, and so may what can be changed if it is looked up.
    return {
        name: value
        for name, value in found.items()
        if (used if isinstance(value, list | dict | set) else assigned).count(name) == 1
    }


def _functions_in(value: object) -> tuple[object, ...]:
    match value:
        case FunctionType():
            return value, inspect.unwrap(value)
        case property():
            return value.fget, value.fset
        case functools.cached_property():
            return (value.func,)
        case classmethod() | staticmethod():
            return (value.__func__,)
        case _:
            return ()


@functools.lru_cache(1_024)  # it is asked for each attribute of each item, of which most have a few names in common
def check_name(name: object) -> None:
    """Raise `Unwritable` if no attribute by this name is ever stored or restored."""
    if (
        type(name) is not str
        or name.startswith("$")
        or (name.startswith("__") and name.endswith("__"))
        or not is_plain_text(name)
    ):
        raise Unwritable(f"attribute {name!r} has a name that can't be restored")


def same(value: object, made: object) -> object:
    """Return `value`; with it bound, a `Default`."""
    return value


def call(factory: Callable[[], object], made: object) -> object:
    """Return what `factory` makes; with it bound, a `Default`."""
    return factory()
