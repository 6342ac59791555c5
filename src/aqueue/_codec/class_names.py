"""Names classes for a journal, and finds the class of a recorded name: only if it is defined, since nothing is imported."""

import inspect
import itertools
import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any, Final, TypeGuard, TypeVar
from weakref import WeakValueDictionary

from aqueue._codec.policies import previous_names
from aqueue.errors import UnknownItemType
from aqueue.text import visible

__all__ = ["defined_items", "has_process", "previous_names_of", "register", "resolve_type", "type_name"]

_T = TypeVar("_T")

# Every subclass of Item that is alive, in the order of definition. Its name is not the key: a decorator that makes a
# new class of it (``@dataclass(slots=True)``) gives it its full name only later.
_defined: Final[WeakValueDictionary[int, type]] = WeakValueDictionary()
_definition_numbers: Final = itertools.count()


def type_name(cls: type) -> str:
    """Return the name of a class as events carry it: ``module:qualname``, made safe to show."""
    return visible(f"{cls.__module__}:{cls.__qualname__}", 1_000)


def register(cls: type) -> None:
    """Remember a class of items, which is just being defined, so that a resumed run finds it by its name."""
    _defined[next(_definition_numbers)] = cls


def defined_items() -> list[type]:
    """Return every subclass of `Item` that this program has defined and still has, in the order of definition."""
    return list(_defined.values())


def previous_names_of(cls: type) -> tuple[str, ...]:
    """Return the names that `cls` says it had, as ``module:qualname``; those of its bases are not its own."""
    names = previous_names(cls)
    if isinstance(names, str):
        names = (names,)
    if not isinstance(names, tuple | list | set | frozenset):
        return ()
    return tuple(name if ":" in name else f"{cls.__module__}:{name}" for name in names if isinstance(name, str))


def resolve_type(name: str) -> type:
    """Return the class that `name` (``module:qualname``) stands for.

    Subclasses of `Item` are found wherever they were defined, the latest definition of a name first; other classes at
    the top level of a module that is imported already, or nested in such a class. If no class has the name, the one
    is taken whose `previous_names` say that it had. No code of the classes or modules is run for this.

    Raises:
        UnknownItemType: no class of this program has or had the name, or several had it.
    """
    latest = {type_name(cls): cls for cls in defined_items()}  # of one name, the last stays
    found = latest.get(name) or _in_module(name)
    if found is not None:
        return found
    renamed = _renamed(name, latest)
    if len(renamed) == 1:
        return renamed[0]
    if renamed:
        claims = ", ".join(sorted(type_name(cls) for cls in renamed))
        raise UnknownItemType(
            f"{visible(name, 300)} is in the previous_names of several item classes ({claims}); leave it in those of one"
        )
    raise UnknownItemType(
        f"{visible(name, 300)} is no item class that this program has defined; import its module before the run, or, "
        f"if it was renamed, add the class attribute previous_names = ({visible(name, 300)!r},) to the class it is now"
    )


def has_process(cls: type) -> bool:
    """Return whether `cls` itself has an async `process`, without running any code of its."""
    process: Any = inspect.getattr_static(cls, "process", None)
    if isinstance(process, staticmethod | classmethod):
        process = process.__func__
    if isinstance(process, FunctionType):
        process = inspect.unwrap(process)
    return inspect.iscoroutinefunction(process)


def _in_module(name: str) -> type | None:
    module_name, _, qualname = name.partition(":")
    found: object = sys.modules.get(module_name)
    if not _is_a(found, ModuleType):
        return None
    names = _names_in(found)
    for part in qualname.split("."):
        found = names.get(part)
        if not _is_a(found, type):
            return None
        names = dict(vars(found))
    assert isinstance(found, type)
    return found if type_name(found) == name and has_process(found) else None


def _is_a(value: object, cls: type[_T]) -> TypeGuard[_T]:
    """Tell whether `value` is made of `cls`, without asking it: what stands for a module not loaded yet would load it."""
    return issubclass(type(value), cls)


def _names_in(module: ModuleType) -> dict[str, Any]:
    # Not vars(): a module that is loaded lazily would load itself when it is asked.
    try:
        names: dict[str, Any] = object.__getattribute__(module, "__dict__")
    except AttributeError:  # what only says that it is a module, as cffi's libraries do
        return {}
    return names


def _renamed(name: str, latest: dict[str, type]) -> list[type]:
    """Return the classes of today whose `previous_names` hold `name`."""
    return list(
        {id(cls): cls for cls in [*latest.values(), *_top_level_classes()] if name in previous_names_of(cls)}.values()
    )


def _top_level_classes() -> Iterator[type]:
    for module_name, module in list(sys.modules.items()):
        if _is_a(module, ModuleType):
            for value in list(_names_in(module).values()):
                if (
                    _is_a(value, type)
                    and (
                        "previous_names" in vars(value)
                        or "previous_names" in vars(value).get("__pydantic_fields__", ())
                    )
                    and value.__module__ == module_name
                    and has_process(value)
                ):
                    yield value
