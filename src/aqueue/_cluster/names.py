"""Names classes and functions, finds them by name, and says which of them other processes can import."""

import functools
import importlib
import sys
from operator import attrgetter
from types import FunctionType
from typing import Any, Final, TypeGuard

import cloudpickle  # type: ignore[import-untyped]  # it ships no annotations

__all__ = [
    "CACHED_FUNCTION",
    "SCRIPT_MODULES",
    "Definition",
    "Key",
    "import_by_name",
    "is_definition",
    "is_found_by_name",
    "name_of",
    "travels_by_value",
]

Definition = type | FunctionType
"""A class or a function; a function with a cache, which is of another class, is taken for one as well."""

CACHED_FUNCTION: Final = type(functools.cache(len))
"""The class of what `functools.cache` and `functools.lru_cache` make."""

Key = int | str
"""Names a class or function: the number that the coordinator gave it, or its name as ``module:qualname``."""

SCRIPT_MODULES: Final = ("__main__", "__mp_main__")
"""The module that a script is; the second is its name where multiprocessing has started it again."""


def is_definition(value: object) -> TypeGuard[Definition]:
    """Return whether `value` is a class or a function written in Python, with a cache or not."""
    cls = type(value)
    return cls is FunctionType or cls is CACHED_FUNCTION or issubclass(cls, type)


def name_of(definition: Definition) -> str:
    """Return the name of a class or function, as ``module:qualname``."""
    return f"{definition.__module__}:{definition.__qualname__}"


def travels_by_value(definition: Definition) -> bool:
    """Return whether lanes need `definition` by value, since they may be unable to import it; by cloudpickle's rules."""
    module: Any = getattr(definition, "__module__", None)
    if module == "builtins":  # pickle handles those that have no name there
        return False
    if not isinstance(module, str) or module in SCRIPT_MODULES or not is_found_by_name(definition):
        return True
    registered = cloudpickle.list_registry_pickle_by_value()
    return bool(registered) and any(module == name or module.startswith(f"{name}.") for name in registered)


def is_found_by_name(definition: Definition) -> bool:
    """Return whether a loaded module has `definition` under its name."""
    found: object = sys.modules.get(definition.__module__)
    for part in definition.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is definition


def import_by_name(name: str) -> Any:
    """Return what ``module:qualname`` names; a module is imported for it, but not the script.

    Raises:
        AttributeError, ImportError: there is none.
    """
    module, _, qualname = name.partition(":")
    found = sys.modules["__main__"] if module in SCRIPT_MODULES else importlib.import_module(module)
    return attrgetter(qualname)(found)
