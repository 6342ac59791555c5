"""Finds the classes that the annotation of an attribute names: only objects of those may be stored there."""

import contextlib
import enum
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args, get_origin, is_typeddict

if sys.version_info >= (3, 14):
    from annotationlib import Format, get_annotations

    # Annotations are evaluated when they are read. One that can't be evaluated (it names what only a type checker
    # imports) would make all annotations of its class unreadable; as a forward reference, only that one is left out.
    _annotations = functools.partial(get_annotations, format=Format.FORWARDREF)
else:
    _annotations = inspect.get_annotations

__all__ = ["annotated_names", "annotations_of", "class_annotations", "classes_in", "is_class_variable"]


def annotations_of(cls: type) -> dict[str, Any]:
    """Return the annotation of each attribute: of the class and its bases, else of `__init__`'s parameter of that name.

    One that can't be resolved (a name that only type checkers import, or one local to a function) is left out.
    """
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        init = vars(base).get("__init__")
        if isinstance(init, types.FunctionType):
            found.update(_resolved(init, cls))
    found.pop("return", None)
    return found | class_annotations(cls)


def class_annotations(cls: type) -> dict[str, Any]:
    """Return the annotations in the bodies of the class and its bases, without those that can't be resolved."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        found.update(_resolved(base, cls))
    return found


def annotated_names(cls: type) -> set[str]:
    """Return the names that are annotated in the body of the class itself."""
    try:
        return set(_annotations(cls))
    except Exception:  # from Python 3.14 on, evaluating them is the user's code
        return set()


def is_class_variable(annotation: Any) -> bool:
    """Return whether the annotation is ClassVar: it says nothing about attributes of objects."""
    return annotation is ClassVar or get_origin(annotation) is ClassVar


def classes_in(annotation: Any, cls: type) -> set[type]:
    """Return every class that the annotation of an attribute of `cls` names, at any depth; `Self` names `cls`."""
    found: set[type] = set()
    seen: set[int] = set()
    todo = [annotation]
    for one in todo:  # it grows in the loop
        if id(one) in seen:  # such as a TypedDict or an alias that names itself
            continue
        seen.add(id(one))
        origin = get_origin(one)
        if origin is Literal:
            found.update(type(value) for value in get_args(one) if isinstance(value, enum.Enum))
        elif origin is not None:
            todo += (origin, *get_args(one))
        elif is_typeddict(one):
            todo += _resolved(one, one).values()
        elif one is Self:
            found.add(cls)
        elif isinstance(one, type):
            found.add(one)
        elif isinstance(one, list | tuple):  # the parameters of a Callable
            todo += one
        elif isinstance(one, TypeVar):
            todo += (one.__bound__, *one.__constraints__)
        else:  # a NewType or a `type` alias
            todo += (getattr(one, name) for name in ("__supertype__", "__value__") if hasattr(one, name))
    return found


def _resolved(owner: type | Callable[..., Any], cls: type) -> dict[str, Any]:
    try:
        raw = _annotations(owner)
    except Exception:  # from Python 3.14 on, evaluating them is the user's code
        return {}
    module = sys.modules.get(owner.__module__)
    names = {} if module is None else vars(module)
    resolved: dict[str, Any] = {}
    for name, annotation in raw.items():
        one = types.SimpleNamespace(__annotations__={name: annotation})
        with contextlib.suppress(Exception):  # evaluating the user's annotation may raise anything
            resolved.update(typing.get_type_hints(one, names, {cls.__name__: cls}))
    return resolved
