"""The item classes of `tests.journal.seeds`, as they are before and after the program was edited.

They are made of source text, as the classes of a program are, in a module of their own. Those of one program at a time
are there; the others are gone, as in another process.
"""

import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from textwrap import indent
from types import ModuleType
from typing import Any, Final, Literal
from unittest import mock

from msgspec.structs import replace

from aqueue._codec import class_names
from tests.journal import seeds
from tests.journal.seeds import Bare, Seed

__all__ = ["CHANGES", "Change", "Kind", "changed_classes", "named"]

Kind = Literal["plain", "dataclass", "attrs", "struct", "pydantic"]

Change = Literal["default", "label", "key", "annotated", "renamed"]
"""What may be new: an attribute with a default, one whose values differ, a key, annotated policies, another name."""

CHANGES: Final[tuple[Change, ...]] = ("default", "label", "key", "annotated", "renamed")

_MODULE: Final = "tests.torture.edited"

_IMPORTS: Final = "import dataclasses, attrs, pydantic\n"

_HEADS: Final[dict[Kind, str]] = {
    "plain": "class {name}({base}):",
    "dataclass": "@dataclasses.dataclass\nclass {name}({base}):",
    "attrs": "@attrs.define\nclass {name}({base}):",
    "struct": "class {name}(msgspec.Struct, {base}):",
    "pydantic": "class {name}(pydantic.BaseModel, {base}):",
}


def _source(base: type[Bare], kind: Kind, changes: frozenset[Change]) -> str:
    """Return the class in the place of `base`, as it is with these changes."""
    name, former = base.__name__, f"Renamed{base.__name__}"
    if "renamed" in changes:
        name, former = former, name
    fields = ["seed: str", "saw: int = 0"]
    fields += ["more: int = 3"] if "default" in changes else []
    fields += ['label: str = ""'] if "label" in changes else []
    body = []
    if kind == "plain":
        parameters = [field for field in fields if not field.startswith("saw")]
        body += [f"def __init__(self, {', '.join(parameters)}):", "    self.saw = 0"]
        body += [f"    self.{one} = {one}" for one in (field.partition(":")[0] for field in parameters)]
    else:
        body += fields
    body += [f"previous_names: ClassVar = ({former!r},)", f"__lt__ = {base.__name__}.__lt__"]
    if "annotated" in changes:
        body += ["track_overall: bool = False", f"timeout_s: float | None = {base.timeout_s}"]
    if "key" in changes:
        body += ["@property", "def key(self):", '    return f"named {self.parsed.name}"']
    label = ', label="of " + seed.hook' if "label" in changes else ""
    body += ["@classmethod", "def of(cls, seed):", f"    return cls(seed=text_of(seed){label})"]
    head = _HEADS[kind].format(name=name, base=base.__name__)
    return f"{head}\n{indent(chr(10).join(body), '    ')}\nmade = {name}\n"


@lru_cache(2_000)
def _class(base: str, kind: Kind, changes: frozenset[Change]) -> Any:
    module = ModuleType(_MODULE)
    vars(module).update(vars(seeds))
    vars(module)["__name__"] = _MODULE
    sys.modules[_MODULE] = module
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydantic's, where an annotated policy takes the place of another
            exec(_IMPORTS + _source(vars(seeds)[base], kind, changes), vars(module))
    finally:
        del sys.modules[_MODULE]
    return vars(module)["made"]


@contextmanager
def changed_classes(kind: Kind, changes: frozenset[Change], of: Iterable[Seed]) -> Iterator[None]:
    """Have the items `of` these seeds be of the classes of a program with these changes; those of no other are there."""
    bases = {seeds.class_of(seed) for seed in of}
    family: dict[type[Bare], Any] = {base: _class(base.__name__, kind, changes) for base in bases}
    _forget()
    # Classes that were made before for such a program are defined once more, as it were.
    class_names._defined.update(zip(count(-len(family)), family.values()))
    seeds.makes.append(lambda base, seed: family[base].of(seed))
    try:
        # Looking through all modules for a class that was renamed, which is none of `Item`'s, takes most of the time.
        with mock.patch("aqueue._codec.class_names._top_level_classes", return_value=()):
            yield
    finally:
        seeds.makes.pop()
        _forget()


def _forget() -> None:
    """Let no class of any such program be known."""
    for number, cls in list(class_names._defined.items()):
        if cls.__module__ == _MODULE:
            del class_names._defined[number]


def named(program: Seed) -> Seed:
    """Return `program` with a name of its own for each seed in it, by which it is told from all others, and no keys."""
    numbers = count(1)

    def name(seed: Seed) -> Seed:
        return replace(seed, name=next(numbers), key=0, children=tuple(map(name, seed.children)))

    return name(program)
