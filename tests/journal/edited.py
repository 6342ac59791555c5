"""A class of items in a program that is edited between two runs: its source, its objects, and the edits."""

import linecache
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Final

from aqueue._codec import class_names

__all__ = ["EDITS", "KINDS", "Field", "Shape", "forget", "make"]

KINDS: Final = ("plain", "dataclass", "attrs", "struct", "pydantic")

_MODULES: Final = ("edited", "edited_elsewhere")
"""The modules in which the class may be."""

_HEADER: Final = """
from typing import Any, ClassVar
from aqueue import Item, Retry

"""
_IMPORTS: Final = {
    "plain": "",
    "dataclass": "import dataclasses",
    "attrs": "import attrs",
    "struct": "import msgspec",
    "pydantic": "import pydantic",
}
"""What each kind of class needs. A program that is started many times loads no more."""

_BODY: Final = """
    async def process(self, enqueue, set_desc):
        await tell(self)
"""


@dataclass(frozen=True)
class Field:
    """An attribute of the class.

    Attributes:
        name: its name.
        annotation: the name of its type.
        given: the expression that who enqueues an item passes for it; ``n`` is the item's number. Empty for none.
        default: the expression of its default. Empty for none.
        where: how a plain class has a default: as that of a ``parameter``, as a ``constant`` that `__init__` assigns,
            or in the ``body`` of the class.
        in_base: whether a base class has it.
    """

    name: str
    annotation: str
    given: str = ""
    default: str = ""
    where: str = "parameter"
    in_base: bool = False

    def value(self, number: int) -> Any:
        """Return its value in the item of that number."""
        return eval(self.given or self.default, {"n": number})


@dataclass(frozen=True)
class Policy:
    """An attribute that configures aqueue.

    Attributes:
        value: the expression of its value.
        annotation: the type that the class gives it. Empty for none.
    """

    value: str
    annotation: str = ""


@dataclass(frozen=True)
class Shape:
    """What the source of the class says.

    Attributes:
        kind: one of `KINDS`.
        fields: its attributes, in their order.
        key: the expression of its key; empty for none. It has none either if nothing tells one item from another.
        policies: its policies, each with its name.
        name: the name of the class.
        module: the name of its module.
        says_previous: whether it names the names that it had.
        annotates_previous: whether those are annotated.
        previous: the names that it had.
        mixin: whether it has one more base class.
        dumps: whether it defines `dump` and `load`.
        future: whether the annotations of its module are strings.
    """

    kind: str
    fields: tuple[Field, ...]
    key: str = ""
    policies: tuple[tuple[str, Policy], ...] = ()
    name: str = "Leaf"
    module: str = _MODULES[0]
    says_previous: bool = True
    annotates_previous: bool = False
    previous: tuple[str, ...] = ()
    mixin: bool = False
    dumps: bool = False
    future: bool = False

    @property
    def full_name(self) -> str:
        """The name of the class in journals."""
        return f"{self.module}:{self.name}"

    @property
    def names(self) -> set[str]:
        """The names in journals that mean this class."""
        return {self.full_name, *(self.previous if self.says_previous else ())}

    def attributes(self, number: int) -> dict[str, Any]:
        """Return what the item of that number is known by, its key included, as JSON has it."""
        found = {field.name: field.value(number) for field in self.fields}
        if self.dumps:
            found = {"$dump": found}
        return found | ({"key": eval(self.key, {"n": number})} if self.key and self.identifying else {})

    def source(self) -> str:
        """Return the source of the module."""
        parts = ["from __future__ import annotations"] if self.future else []
        parts += [_IMPORTS[self.kind], _HEADER]
        inherited = tuple(field for field in self.fields if field.in_base)
        bases = {"struct": "msgspec.Struct, Item", "pydantic": "pydantic.BaseModel"}.get(self.kind, "Item")
        if inherited:
            parts.append(self._class("LeafBase", bases, inherited, ()))
            bases = "LeafBase"
        if self.mixin:
            parts.append("class Mixin:\n    __slots__ = ()\n    def helps(self): ...\n")
            bases = f"Mixin, {bases}"
        policies = self.policies
        if self.previous and self.says_previous:
            policies += (("previous_names", Policy(repr(self.previous), "tuple[str, ...]" * self.annotates_previous)),)
        parts.append(self._class(self.name, bases, tuple(f for f in self.fields if not f.in_base), policies))
        if self.key and self.identifying:
            key = self.key.replace("n", f"self.{self.identifying}")
            parts.append(f"    @property\n    def key(self):\n        return {key}\n")
        if self.dumps:
            values = ", ".join(f"{field.name!r}: self.{field.name}" for field in self.fields)
            given = [field.name for field in self.fields if field.given]
            parts.append(
                f"    def dump(self):\n        return {{{values}}}\n"
                "    @classmethod\n    def load(cls, data):\n"
                f"        return cls(**{{name: data[name] for name in {given} if name in data}})\n"
            )
        return "\n".join([*parts, _BODY])

    @property
    def identifying(self) -> str:
        """The name of the attribute by which one item is told from another; empty if there is none."""
        return next((field.name for field in self.fields if field.given in ("n", "str(n)")), "")

    def _class(self, name: str, bases: str, fields: tuple[Field, ...], policies: Iterable[tuple[str, Policy]]) -> str:
        """Return the head of a class and what declares its attributes."""
        lines = []
        for attribute, policy in policies:
            annotation = policy.annotation or ("ClassVar[Any]" if self.kind == "pydantic" else "")
            lines.append(f"    {attribute}{annotation and ': '}{annotation} = {policy.value}")
        if self.kind == "plain":
            lines += [f"    {f.name}: {f.annotation} = {f.default}" for f in fields if f.default and f.where == "body"]
            lines += self._init(fields)
        else:
            lines += [f"    {field.name}: {field.annotation}{self._default(field)}" for field in fields]
        # What has a default may come before what has none.
        keywords = "kw_only=True" if self.kind in ("dataclass", "attrs", "struct") else ""
        decorator = {"dataclass": f"@dataclasses.dataclass({keywords})\n", "attrs": f"@attrs.define({keywords})\n"}
        if self.kind == "struct":
            bases += f", {keywords}"
        return f"{decorator.get(self.kind, '')}class {name}({bases}):\n" + "\n".join(lines or ["    pass"]) + "\n"

    def _default(self, field: Field) -> str:
        if field.default == "[]" and self.kind in ("dataclass", "attrs"):
            return (
                " = dataclasses.field(default_factory=list)"
                if self.kind == "dataclass"
                else " = attrs.field(factory=list)"
            )
        return field.default and f" = {field.default}"

    def _init(self, own: tuple[Field, ...]) -> list[str]:
        """Return the `__init__` of a plain class that has some of the fields itself."""
        taken = [field for field in self.fields if field.given or field.where == "parameter"]
        if own and all(field.in_base for field in own):
            taken = [field for field in taken if field.in_base]
        taken.sort(key=lambda field: bool(field.default))
        parameters = "".join(f", {f.name}{f.default and ' = '}{f.default}" for f in taken)
        lines = [f"    def __init__(self{parameters}):"]
        inherited = [field for field in self.fields if field.in_base and field not in own]
        if inherited:
            passed = ", ".join(f"{field.name}={field.name}" for field in inherited if field in taken)
            lines.append(f"        super().__init__({passed})")
        for field in own:
            if field in taken:
                lines.append(f"        self.{field.name} = {field.name}")
            elif field.where == "constant":
                lines.append(f"        self.{field.name} = {field.default}")
        return [*lines, "        pass"]


def forget() -> None:
    """Forget the classes made before, as a new process has never heard of them."""
    for name in _MODULES:
        sys.modules.pop(name, None)
        linecache.cache.pop(f"<{name}.py>", None)
    for number, cls in list(class_names._defined.items()):
        if cls.__module__ in _MODULES:
            del class_names._defined[number]


def make(shape: Shape, tell: Callable[[Any], Awaitable[None]]) -> Callable[[int], Any]:
    """Load the program of `shape` in the place of the one before, and return what makes the item of a number.

    Its items tell `tell` when they run.
    """
    forget()
    module = ModuleType(shape.module)
    module.__file__ = f"<{shape.module}.py>"
    vars(module)["tell"] = tell
    sys.modules[shape.module] = module
    source = shape.source()
    linecache.cache[module.__file__] = (len(source), None, source.splitlines(keepends=True), module.__file__)
    exec(compile(source, module.__file__, "exec"), vars(module))
    cls = getattr(module, shape.name)
    return lambda number: cls(**{field.name: field.value(number) for field in shape.fields if field.given})


Edit = Callable[[Shape], Shape]


def _with(field: Field) -> Edit:
    """Return the edit that adds a field."""

    def edit(shape: Shape) -> Shape:
        others = tuple(other for other in shape.fields if other.name != field.name)
        return replace(shape, fields=(*others, field))

    return edit


def _changing(which: str, **changes: Any) -> Edit:
    """Return the edit that changes a field, if it is there."""

    def edit(shape: Shape) -> Shape:
        return replace(shape, fields=tuple(replace(f, **changes) if f.name == which else f for f in shape.fields))

    return edit


def _without(name: str) -> Edit:
    """Return the edit that removes a field."""
    return lambda shape: replace(shape, fields=tuple(field for field in shape.fields if field.name != name))


def _policy(name: str, value: str, annotation: str = "") -> Edit:
    """Return the edit that sets a policy; one without a value is removed."""

    def edit(shape: Shape) -> Shape:
        others = tuple(other for other in shape.policies if other[0] != name)
        return replace(shape, policies=(*others, (name, Policy(value, annotation))) if value else others)

    return edit


def _now(**changes: Any) -> Edit:
    return lambda shape: replace(shape, **changes)


def _moved(*, says_previous: bool, **changes: Any) -> Edit:
    """Return the edit that gives the class another name or place."""

    def edit(shape: Shape) -> Shape:
        changed = replace(shape, says_previous=says_previous, **changes)
        previous = dict.fromkeys((*shape.previous, shape.full_name))
        return replace(changed, previous=tuple(name for name in previous if name != changed.full_name))

    return edit


def _base_first(fields: Iterable[Field]) -> tuple[Field, ...]:
    """Return fields in the order in which a class has them: those of its base class first."""
    return tuple(sorted(fields, key=lambda field: not field.in_base))


def _bases(*names: str) -> Edit:
    """Return the edit that moves these fields, and no others, to a base class."""
    return lambda shape: replace(
        shape, fields=_base_first(replace(field, in_base=field.name in names) for field in shape.fields)
    )


EDITS: Final[dict[str, Edit]] = {
    "add a parameter with a default": _with(Field("lang", "str", default="'en'")),
    "add a constant": _with(Field("tries", "int", default="0", where="constant")),
    "add a list": _with(Field("seen", "list", default="[]", where="constant")),
    "add a declared default": _with(Field("lang", "str", default="'en'", where="body")),
    "add one with a default, and pass another value": _with(Field("lang", "str", given="'fr'", default="'en'")),
    "add one with a default, and pass values that differ": _with(Field("size", "int", given="n * 10", default="0")),
    "add one without a default": _with(Field("size", "int", given="n * 10")),
    "add a second constant": _with(Field("depth", "int", default="1", where="constant")),
    "remove lang": _without("lang"),
    "remove size": _without("size"),
    "remove site": _without("site"),
    "remove the number": _without("number"),
    "rename the number": _changing("number", name="num"),
    "rename the number, with a default": _changing("number", name="num", default="0"),
    "rename the number back": _changing("num", name="number", default=""),
    "rename site": _changing("site", name="host"),
    "rename lang": _changing("lang", name="language"),
    "reorder": lambda shape: replace(shape, fields=_base_first(shape.fields[::-1])),
    "change the number's type": _changing("number", annotation="str", given="str(n)", default=""),
    "change a default": _changing("lang", default="'de'"),
    "change a default's type": _changing("tries", annotation="str", default="'0'"),
    "add a key": _now(key="f'k{n}'"),
    "change the key": _now(key="f'x{n}'"),
    "remove the key": _now(key=""),
    "add track_overall": _policy("track_overall", "True"),
    "annotate track_overall": _policy("track_overall", "True", "bool"),
    "declare track_overall": _policy("track_overall", "True", "ClassVar[bool]"),
    "add timeout_s": _policy("timeout_s", "30.0"),
    "annotate timeout_s": _policy("timeout_s", "30.0", "float"),
    "change timeout_s": _policy("timeout_s", "60.0", "float"),
    "remove timeout_s": _policy("timeout_s", ""),
    "add retry": _policy("retry", "Retry(attempts=2)"),
    "annotate retry": _policy("retry", "Retry(attempts=3)", "Any"),
    "annotate after_children_rule": _policy("after_children_rule", "'all_done'", "str"),
    "rename the class": _moved(says_previous=True, name="Sheet"),
    "rename the class back": _moved(says_previous=True, name="Leaf"),
    "rename the class, and forget its previous name": _moved(says_previous=False, name="Sheet"),
    "annotate the previous names": _now(annotates_previous=True),
    "move the class": _moved(says_previous=True, module=_MODULES[1]),
    "move the class, and forget where it was": _moved(says_previous=False, module=_MODULES[1]),
    "add a base class that has the number": _bases("number"),
    "add a base class that has others": _bases("site", "lang"),
    "take the base class away": _bases(),
    "add a mixin": _now(mixin=True),
    "make the annotations strings": _now(future=True),
    "define dump and load": _now(dumps=True),
    "remove dump and load": _now(dumps=False),
    **{f"make it {kind}": _now(kind=kind) for kind in KINDS},
}
"""What a user does to the class, each by what it is called."""
