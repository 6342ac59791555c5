"""Finds what the functions of a class assign to attributes: from their bytecode, without running them."""

import dis
import functools
import inspect
import sys
from collections.abc import Iterator
from types import FunctionType
from typing import Final, NamedTuple

from aqueue._codec.annotations import annotated_names

__all__ = ["assigned_by_init", "cached_names"]

_JUMPS: Final = frozenset({*dis.hasjrel, *dis.hasjabs})


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
