"""Names classes for a journal, and finds the classes of recorded names among those that are defined: nothing is imported."""

import inspect
import itertools
import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any, Final, TypeGuard
from weakref import WeakValueDictionary

from aqueue._codec.policies import previous_names
from aqueue.errors import UnknownItemType
from aqueue.text import visible

__all__ = ["defined_items", "has_process", "previous_names_of", "register", "resolve_type", "type_name"]

# Every subclass of Item that is alive, in the order of definition. Its name is not the key: a decorator that makes a
# new class of it (``@dataclass(slots=True)``) gives it its full name only later.
_defined: Final[WeakValueDictionary[int, type]] = WeakValueDictionary()
_definition_numbers: Final = itertools.count()


def type_name(cls: type) -> str:
    """Return the name of a class in events: ``module:qualname``, made safe to show."""
    return visible(f"{cls.__module__}:{cls.__qualname__}", 1_000)


def register(cls: type) -> None:
    """Remember a class of items that is being defined, so that a resumed run finds it by its name."""
    _defined[next(_definition_numbers)] = cls


def defined_items() -> list[type]:
    """Return the subclasses of `Item` that this program has defined and still holds, in the order of definition."""
    return list(_defined.values())


def previous_names_of(cls: type) -> tuple[str, ...]:
    """Return the `previous_names` of `cls`, as ``module:qualname``; it doesn't inherit those of its bases."""
    names = previous_names(cls)
    if isinstance(names, str):
        names = (names,)
    if not isinstance(names, tuple | list | set | frozenset):
        return ()
    return tuple(name if ":" in name else f"{cls.__module__}:{name}" for name in names if isinstance(name, str))


def resolve_type(name: str) -> type:
    """Return the class with the recorded name `name` (``module:qualname``).

    Subclasses of `Item` are found wherever they were defined, the latest definition of a name first; other classes only at
    the top level of a module that is imported already, or nested in such a class. If no class has the name, the class with
    that name in its `previous_names` is returned. No code of the classes or modules is run for this.

    Raises:
        UnknownItemType: no class of this program has the name, or several have it in their `previous_names`.
    """
    latest = {type_name(cls): cls for cls in defined_items()}  # the last definition of each name
    found = latest.get(name) or _in_module(name)
    if found is not None:
        return found
    renamed = _renamed(name, latest)
    if len(renamed) == 1:
        return renamed[0]
    if renamed:
        claims = ", ".join(sorted(type_name(cls) for cls in renamed))
        raise UnknownItemType(
            f"{visible(name, 300)} is in the previous_names of several item classes ({claims}); keep it in one of them"
        )
    raise UnknownItemType(
        f"this program doesn't define the item class {visible(name, 300)}; import its module before the run or, if the "
        f"class was renamed, give the renamed class the attribute previous_names = ({visible(name, 300)!r},)"
    )


def has_process(cls: type) -> bool:
    """Return whether `cls` has an async `process`, without running its code."""
    process: Any = inspect.getattr_static(cls, "process", None)
    if isinstance(process, staticmethod | classmethod):
        process = process.__func__
    if isinstance(process, FunctionType):
        process = inspect.unwrap(process)
    return inspect.iscoroutinefunction(process)


def _in_module(name: str) -> type | None:
    module_name, _, qualname = name.partition(":")
    names = _names_in(sys.modules.get(module_name))
    found: object = None
    for part in qualname.split("."):
        found = names.get(part)
        if not _is_class(found):
            return None
        names = dict(vars(found))
    return found if _is_class(found) and type_name(found) == name and has_process(found) else None


def _is_class(value: object) -> TypeGuard[type]:
    """Return whether `value` is a class, without asking it: a lazy module would load itself."""
    return issubclass(type(value), type)


def _names_in(module: object) -> dict[str, Any]:
    """Return the names in `module`; none if it isn't a module, or only claims to be one, as cffi's libraries do."""
    if not issubclass(type(module), ModuleType):
        return {}
    try:
        # Not vars(): a module that is loaded lazily would load itself when it is asked.
        names: dict[str, Any] = object.__getattribute__(module, "__dict__")
    except AttributeError:
        return {}
    return names


def _renamed(name: str, latest: dict[str, type]) -> list[type]:
    """Return the classes with `name` in their `previous_names`."""
    classes = [*latest.values(), *_top_level_classes()]
    return list({id(cls): cls for cls in classes if name in previous_names_of(cls)}.values())


def _top_level_classes() -> Iterator[type]:
    """Yield the classes of items at the top level of modules that have `previous_names`."""
    for module_name, module in list(sys.modules.items()):
        for value in list(_names_in(module).values()):
            if (
                _is_class(value)
                and ("previous_names" in vars(value) or "previous_names" in vars(value).get("__pydantic_fields__", ()))
                and value.__module__ == module_name
                and has_process(value)
            ):
                yield value
