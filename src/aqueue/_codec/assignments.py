"""Finds what the functions of a class assign to attributes: from their bytecode, without running them."""

import dis
import functools
import inspect
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from types import FunctionType
from typing import Final

from aqueue._codec.annotations import annotated_names

__all__ = ["assigned_by_init", "cached_names"]

_JUMPS: Final = frozenset({*dis.hasjrel, *dis.hasjabs})


def cached_names(cls: type) -> set[str]:
    """Return the attributes that only keep what objects of `cls` have computed from the others.

    They are the cached properties that no function in the body of the class or of a base assigns, and that no subclass of
    the defining class annotates. An object doesn't say whether a value was computed or set. Computing the value again for a
    comparison can be slow, or open a connection. Storing any value that is there would give two equal items different
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

    They are computed by a ``__getattr__`` that attrs has written, which gets their functions by name.
    """
    getter = vars(cls).get("__getattr__")
    if "__attrs_attrs__" not in vars(cls) or not isinstance(getter, FunctionType):
        return set()
    given = inspect.signature(getter).parameters.get("cached_properties")
    return set(given.default) if given is not None and isinstance(given.default, dict) else set()


def _assigned_names(cls: type) -> Iterator[str]:
    """Yield what methods in `cls` and its bases assign to attributes of `self`, and other functions to those of any object."""
    for base in cls.__mro__:
        for value in vars(base).values():
            for function in _functions_in(value):
                if isinstance(function, FunctionType):
                    self_name = function.__code__.co_varnames[:1]
                    steps = [step for step in dis.get_instructions(function) if step.opname != "EXTENDED_ARG"]
                    for before, step in pairwise(steps):
                        if step.opname == "STORE_ATTR" and (
                            isinstance(value, classmethod | staticmethod) or _variables(before)[-1:] == self_name
                        ):
                            yield step.argval


def _functions_in(value: object) -> tuple[object, ...]:
    if isinstance(value, property):
        return value.fget, value.fset
    if isinstance(value, functools.cached_property):
        return (value.func,)
    if isinstance(value, classmethod | staticmethod):
        return (value.__func__,)
    return (value, inspect.unwrap(value)) if isinstance(value, FunctionType) else ()


def assigned_by_init(cls: type) -> dict[str, object]:
    """Return what `cls.__init__` assigns to attributes by default, by their name.

    These are constants, and the defaults of parameters that it stores as they are, where each call assigns them exactly
    once. It is not run to find them. What the functions that it calls assign, such as the `__init__` of a base class,
    is not found.
    """
    init = inspect.getattr_static(cls, "__init__")
    if not isinstance(init, FunctionType) or inspect.getattr_static(cls, "__setattr__") is not object.__setattr__:
        return {}
    code = init.__code__
    steps = list(dis.get_instructions(init))
    if any(step.opname == "PUSH_EXC_INFO" for step in steps):  # within try and with, a step may not complete
        return {}
    parameters = reversed(code.co_varnames[: code.co_argcount])
    defaults = dict(zip(parameters, reversed(init.__defaults__ or ()), strict=False)) | (init.__kwdefaults__ or {})
    changed = set(code.co_cellvars)  # variables that this function, or one in it, may assign
    for step in steps:
        if step.opname.startswith(("STORE_FAST", "DELETE_FAST")):
            changed.update(_variables(step)[: step.opname.count("STORE_FAST") or 1])
    users = [step for step in steps if "ATTR" in step.opname or "METHOD" in step.opname]
    uses = Counter(step.argval for step in users)
    assignments = Counter(step.argval for step in users if not step.opname.startswith("LOAD_"))
    found = {}
    for name, value in _sure_assignments(steps, code.co_varnames[:1]):
        if isinstance(value, tuple):
            [found[name]] = value
        elif value in defaults and value not in changed:
            found[name] = defaults[value]
    # An attribute that is assigned again may have another value by then. A mutable value may be changed wherever the
    # attribute is used.
    return {
        name: value
        for name, value in found.items()
        if (uses if isinstance(value, list | dict | set) else assignments)[name] == 1
    }


def _sure_assignments(
    steps: list[dis.Instruction], self_name: tuple[str, ...]
) -> Iterator[tuple[str, str | tuple[object]]]:
    """Yield the attributes of the variable `self_name` that each call assigns, unless it raises.

    Each comes with the variable that is assigned, or with the constant, in a tuple.
    """
    joined = 0  # the offset where the branches so far have joined again
    loaded: list[
        str | tuple[object]
    ] = []  # what the steps right before have loaded: variables, and constants in tuples
    for step in steps:
        if step.is_jump_target:
            loaded = []
        match step.opname:
            case "STORE_ATTR":
                if len(loaded) >= 2 and loaded[-1] in self_name and step.offset >= joined:
                    yield step.argval, loaded[-2]
                loaded = []
            case "LOAD_CONST" | "LOAD_SMALL_INT":
                loaded.append((step.argval,))
            case "BUILD_LIST" | "BUILD_MAP" if step.arg == 0:
                loaded.append(([] if step.opname == "BUILD_LIST" else {},))
            case "EXTENDED_ARG" | "NOP":
                pass
            # From Python 3.13 on one step may load two variables, or store one and load another.
            case opname if opname.startswith("STORE_FAST_LOAD"):
                loaded = [_variables(step)[-1]]
            case opname if opname.startswith(("LOAD_FAST", "LOAD_DEREF")):
                loaded += _variables(step)
            case opname if opname.startswith("RETURN_"):
                return
            case _:
                loaded = []
                if step.opcode in _JUMPS:
                    joined = max(joined, step.argval)


def _variables(step: dis.Instruction) -> tuple[str, ...]:
    return step.argval if isinstance(step.argval, tuple) else (step.argval,)
