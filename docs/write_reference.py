"""Write the parts of docs/reference/*.md that are made from the code: ``make reference``.

A page marks each such part by two comments. What stands between them is replaced:

- ``<!-- reference: aqueue.run_queue aqueue.retry -->`` … ``<!-- end of reference -->``: the signature and the docstring
  of each name. A module stands for its own docstring and everything that it exports.
- ``<!-- table: errors -->`` … ``<!-- end of table -->``: one of the tables in `TABLES`.

The result is plain Markdown, so that a forge, an editor and the built site show the same. Each name has a heading, and
each name in single backquotes in a docstring becomes a link to its heading, if there is one.
"""

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from aqueue import Item, errors
from aqueue.events import EVENT_TYPES, Event

FOLDER = Path(__file__).parent / "reference"
PART = re.compile(r"(<!-- (reference|table): (.+?) -->\n).*?(<!-- end of \2 -->)", re.DOTALL)
SECTION = re.compile(r"^(Parameters|Attributes|Class attributes|Returns|Yields|Raises):$", re.MULTILINE)
WIDTH = 120
BY_MODULE = {"aqueue.steering"}  # whose functions are called by its name, as in steering.pause()
LONGEST_ALIAS = 200  # a constant's value that takes more than this many characters is left out

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef | ast.Assign | ast.AnnAssign


# --- The names and where they are defined ---


class Name(NamedTuple):
    """A public name: its definition, and where the reference has it."""

    module: str  # that defines it
    node: Definition
    docstring: str
    page: str


class Scope(NamedTuple):
    """Where a docstring stands: what a name in it may mean."""

    page: str
    module: str
    owner: str  # the class, or ""
    own: frozenset[str]  # parameters and fields: never links


def names_in(target: str) -> list[str]:
    """Return the public names that an entry of a ``reference`` comment stands for."""
    value = pkgutil.resolve_name(target)
    return [f"{target}.{name}" for name in value.__all__] if inspect.ismodule(value) else [target]


def definition(module: str, name: str) -> tuple[str, Definition, str]:
    """Return the module that defines a name, the definition and its docstring, following imports."""
    body = ast.parse(inspect.getsource(importlib.import_module(module))).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() if node.name == name:
                return module, node, ast.get_docstring(node) or ""
            case ast.Assign(targets=[ast.Name(id=target)]) | ast.AnnAssign(target=ast.Name(id=target)):
                if target == name:
                    return module, node, string_in(after)
            case ast.ImportFrom(module=str(source)) if any(one.name == name for one in node.names):
                return definition(source, name)
    raise LookupError(f"{module} does not define {name}")


def string_in(node: ast.stmt | None) -> str:
    """Return the string that a statement is, or ""."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return inspect.cleandoc(node.value.value)
    return ""


def key_of(full: str) -> str:
    """Return the heading of a name: the name without its module, or with the last part of that."""
    module, _, name = full.rpartition(".")
    if module in BY_MODULE and inspect.isfunction(pkgutil.resolve_name(full)):
        return f"{module.rpartition('.')[2]}.{name}"
    return name


def find_names() -> dict[str, Name]:
    """Return what all pages document, by their headings: no two may be the same."""
    found: dict[str, Name] = {}
    for page in sorted(FOLDER.glob("*.md")):
        for _, kind, targets, _ in PART.findall(page.read_text(encoding="utf-8")):
            if kind == "reference":
                for full in (full for target in targets.split() for full in names_in(target)):
                    module, _, name = full.rpartition(".")
                    key = key_of(full)
                    if key in found:
                        raise ValueError(f"{page.name} documents {key}, and so does {found[key].page}")
                    found[key] = Name(*definition(module, name), page.name)
    return found


NAMES = find_names()


def methods(node: ast.ClassDef, *, properties: bool) -> Iterator[Function]:
    """Yield the public methods, or the properties, that a class defines and describes."""
    for one in node.body:
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(one):
            decorators = {ast.unparse(decorator) for decorator in one.decorator_list}
            if not one.name.startswith("_") and properties == bool(decorators & {"property", "cached_property"}):
                yield one


def constructor(node: ast.ClassDef) -> ast.FunctionDef | None:
    """Return the `__init__` of a class, if it takes anything."""
    for one in node.body:
        if isinstance(one, ast.FunctionDef) and one.name == "__init__" and parameters(one) != {"self"}:
            return one
    return None


def fields(node: ast.ClassDef) -> dict[str, tuple[str, str]]:
    """Return the public fields of a class: by the name, how each is written, and its docstring if it has one."""
    found = {}
    for one, after in zip(node.body, [*node.body[1:], None], strict=True):
        match one:
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                if not name.startswith("_"):
                    found[name] = code(one), string_in(after)
    return found


# --- Code ---


def code(node: ast.AST) -> str:
    """Return a node as code, with double quotes."""
    text = ast.unparse(node)
    return re.sub(r"'([^'\"]*)'", r'"\1"', text)


def unquoted(node: ast.expr | None) -> str:
    """Return an annotation as code; one that is a string, without its quotes."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return code(ast.parse(node.value, mode="eval"))
    return "" if node is None else code(node)


def signature(node: Function, module: str) -> str:
    """Return the first line of a function in a module, or one line per parameter if that would be long."""

    def parameter(one: ast.arg, default: ast.expr | None) -> str:
        text = f"{one.arg}: {unquoted(one.annotation)}" if one.annotation else one.arg
        if default is None:
            return text
        value = code(default)
        if value.startswith("_"):  # a private constant: its value
            value = repr(getattr(importlib.import_module(module), value))
        return f"{text} = {value}" if one.annotation else f"{text}={value}"

    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    shown = [parameter(one, default) for one, default in zip(positional, defaults, strict=True)]
    if arguments.posonlyargs:
        shown.insert(len(arguments.posonlyargs), "/")
    if arguments.vararg or arguments.kwonlyargs:
        shown.append(f"*{parameter(arguments.vararg, None) if arguments.vararg else ''}")
    shown += [parameter(*both) for both in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    if arguments.kwarg:
        shown.append(f"**{parameter(arguments.kwarg, None)}")
    start = f"{'async ' * isinstance(node, ast.AsyncFunctionDef)}def {node.name}("
    end = f") -> {unquoted(node.returns)}: ..."
    line = start + ", ".join(shown) + end
    return line if len(line) <= 88 else "\n".join([start, *(f"    {one}," for one in shown), end]).replace("/,,", "/,")


def class_code(node: ast.ClassDef, module: str) -> str:
    """Return the outline of a class in a module: its bases, its fields, and how it is made if it says so."""
    bases = [code(base) for base in node.bases if code(base) != "msgspec.Struct"]
    first = f"class {node.name}({', '.join(bases)}):" if bases else f"class {node.name}:"
    inside = "\n".join(text for text, _ in fields(node).values())
    made = constructor(node)
    if made:
        inside += "\n" * 2 * bool(inside) + signature(made, module)
    return f"{first}\n{textwrap.indent(inside, '    ')}" if inside else f"{first} ..."


def fence(text: str) -> str:
    """Return code as a block that the tests only compile."""
    return f"<!-- not-run: from the code -->\n```python\n{text}\n```"


# --- Docstrings ---


def inline(text: str, scope: Scope) -> str:
    """Return a paragraph of a docstring as one line of Markdown, its names as links."""

    def replaced(match: re.Match[str]) -> str:
        return f"`{match[1]}`" if match[1] else link(match[2], scope)

    return re.sub(r"``(.+?)``|`([^`]+)`", replaced, " ".join(text.split()))


def link(name: str, scope: Scope) -> str:
    """Return a name as a link to its heading in the reference; as code if it has none."""
    short = re.sub(r"^aqueue(_\w+)?(\.[a-z_]+)*\.(?=\w+(\.\w+)?$)", "", name.removesuffix("()"))
    first, _, member = short.partition(".")
    owner = NAMES.get(scope.owner)
    if short in scope.own:
        return f"`{name}`"
    if owner and name == short and has_method(owner, short):
        first, member = scope.owner, short
    in_module = f"{scope.module.rpartition('.')[2]}.{short}"
    if in_module in NAMES:
        first, member = in_module, ""
    found = NAMES.get(first)
    if found is None or (name.islower() and name == first and not is_near(name, scope)):
        return f"`{name}`"
    page = "" if found.page == scope.page else found.page
    return f"[`{name}`]({page}#{(first + member * has_method(found, member)).lower().replace('.', '')})"


def has_method(name: Name, method: str) -> bool:
    """Tell whether a name is that of a class with such a method, which has a heading then."""
    return isinstance(name.node, ast.ClassDef) and any(
        one.name == method for one in methods(name.node, properties=False)
    )


def is_near(name: str, scope: Scope) -> bool:
    """Tell whether a lower-case word means a function: one of `aqueue` itself, or of the same module."""
    return NAMES[name].module == scope.module or name in importlib.import_module("aqueue").__all__


def markdown(docstring: str, scope: Scope) -> Iterator[str]:
    """Yield the blocks of a docstring as Markdown."""
    docstring = docstring.partition("Each module imports only")[0]
    for block in re.split(r"\n\n(?=\S)", docstring.strip()):
        first, _, rest = block.partition("\n")
        if SECTION.fullmatch(first):
            yield f"**{first}**"
            yield from section(first[:-1], textwrap.dedent(rest), scope)
        elif "├──" in block:
            yield f"```text\n{block}\n```"
        elif "::\n" in block:
            text, _, example = block.partition("::\n")
            yield wrapped(inline(text, scope) + ":")
            yield fence(textwrap.dedent(example).strip())
        elif block.startswith("- "):
            yield "\n".join(wrapped(inline(one, scope), "  ") for one in re.split(r"\n(?=- )", block))
        else:
            yield wrapped(re.sub(r"^What to do:", "**What to do:**", inline(block, scope)))


def section(title: str, text: str, scope: Scope) -> Iterator[str]:
    """Yield the entries of a section as a list; as a paragraph where they have no names."""
    if title in {"Returns", "Yields"}:
        yield wrapped(inline(text, scope))
        return
    entries = []
    for entry in re.split(r"\n(?=\S)", text.strip()):
        names, _, said = entry.partition(":")
        shown = [link(one, scope) if title == "Raises" else f"`{one}`" for one in names.split(", ")]
        entries.append(item(", ".join(shown), inline(said, scope)))
    yield "\n".join(entries)


def item(name: str, text: str) -> str:
    """Return an entry of a list."""
    return wrapped(f"- {name}: {text}", "  ")


def wrapped(text: str, indent: str = "") -> str:
    """Return a paragraph in lines of at most 120 characters, none of which looks like the start of a list."""
    text = re.sub(r"(?<=.) (?=([-+*>#]|\d+[.)]) )", "\0", text)
    lines = textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\0", " ")


# --- The reference of a name ---


def reference(targets: str, page: str, level: int) -> Iterator[str]:
    """Yield what a ``reference`` comment stands for, under headings of a level."""
    for target in targets.split():
        value = pkgutil.resolve_name(target)
        if inspect.ismodule(value):
            yield from markdown(inspect.getdoc(value) or "", Scope(page, target, "", frozenset()))
        for full in names_in(target):
            yield from entry(key_of(full), level)


def entry(name: str, level: int) -> Iterator[str]:
    """Yield the heading of a name, its code, and its docstring."""
    module, node, docstring, page = NAMES[name]
    scope = Scope(page, module, "", frozenset())
    yield heading(name, level)
    if isinstance(node, ast.ClassDef):
        yield from class_entry(node, docstring, scope, level)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield fence(signature(node, module))
        yield from markdown(docstring, scope._replace(own=parameters(node) | {name}))
    else:
        text = re.sub(r": Final(\[(.+?)\])?(?= =|$)", lambda match: f": {match[2]}" if match[2] else "", code(node))
        yield fence(text if len(text) <= LONGEST_ALIAS else text.partition(" = ")[0])
        yield from markdown(docstring, scope)


def class_entry(node: ast.ClassDef, docstring: str, scope: Scope, level: int) -> Iterator[str]:
    """Yield what there is to say of a class below its heading."""
    own = fields(node)
    scope = scope._replace(owner=node.name, own=frozenset([*own, node.name]))
    yield fence(class_code(node, scope.module))
    yield from markdown(docstring, scope)
    made = constructor(node)
    said = (ast.get_docstring(made) if made else None) or ""
    sections = SECTION.search(said)
    if sections:  # what it takes and raises; that it makes one is plain
        yield from markdown(said[sections.start() :], scope)
    said_of = {name: text for name, (_, text) in own.items() if text}
    said_of |= {one.name: ast.get_docstring(one) or "" for one in methods(node, properties=True)}
    if said_of:
        yield "**Attributes:**" if "Attributes:" not in docstring else "**Properties:**"
        yield "\n".join(item(f"`{name}`", inline(text, scope)) for name, text in said_of.items())
    tests = [one for one in methods(node, properties=False) if one.name.startswith("test_")]
    if tests:
        yield "**Tests:**"
        yield "\n".join(item(f"`{one.name}`", inline(ast.get_docstring(one) or "", scope)) for one in tests)
    for one in methods(node, properties=False):
        if one in tests:
            continue
        yield heading(f"{node.name}.{one.name}", level + 1)
        decorators = "".join(f"@{code(one)}\n" for one in one.decorator_list)
        yield fence(decorators + signature(one, scope.module))
        yield from markdown(ast.get_docstring(one) or "", scope._replace(own=scope.own | parameters(one) | {one.name}))


def parameters(node: Function) -> frozenset[str]:
    """Return the names of a function's parameters."""
    return frozenset(one.arg for one in ast.walk(node.args) if isinstance(one, ast.arg))


def heading(name: str, level: int) -> str:
    """Return a heading."""
    return f"{'#' * level} `{name}`"


# --- Tables ---


def events_table() -> Iterator[tuple[str, ...]]:
    """Yield one row per event: its name, when it happens, and the fields that only some events have."""
    yield "Event", "When", "Fields (and `seq` and `at`)"
    for name, cls in EVENT_TYPES.items():
        own = [field for field in cls.__struct_fields__ if field not in Event.__struct_fields__]
        when = inline((inspect.getdoc(cls) or "").splitlines()[0], scope_of(cls, "events.md"))
        yield f"[`{name}`](#{cls.__name__.lower()})", when, ", ".join(f"`{field}`" for field in own)


def errors_table() -> Iterator[tuple[str, ...]]:
    """Yield one row per error: its name, its docstring's first line, and the paragraph that says what to do."""
    yield "Error", "When", "What to do"
    for name in errors.__all__:
        scope = scope_of(getattr(errors, name), "errors.md")
        first, _, rest = (inspect.getdoc(getattr(errors, name)) or "").partition("\n\n")
        remedy = re.search(r"What to do:\s+(.*?)(?:\n\n|\Z)", rest, re.DOTALL)
        if remedy is None:
            raise ValueError(f"the docstring of {name} says nothing after 'What to do:'")
        yield f"[`{name}`](#{name.lower()})", inline(first, scope), inline(remedy[1][0].upper() + remedy[1][1:], scope)


def scope_of(cls: type, page: str) -> Scope:
    """Return the scope of a class's docstring."""
    return Scope(page, cls.__module__, cls.__name__, frozenset())


# What an item's class may define. For those that `Item` annotates, type and default are taken from there.
ITEM_ATTRIBUTES = {
    "process": (
        "async method",
        "required",
        "[does one unit of work](../howto/write-items.md), enqueues children, returns a result",
    ),
    "after_children_processed": (
        "async method",
        "does nothing",
        "[the hook](../howto/write-items.md#results-and-what-happens-after-the-children): runs when all below is done",
    ),
    "after_children_rule": ("", "", 'whether the hook also runs when a descendant has failed: `"all_done"`'),
    "track_overall": ("", "", "whether items of this class count in the overall progress bar"),
    "retry": ("", "that of `run_queue`", "[which exceptions are retried](../howto/failures.md), how often and when"),
    "timeout_s": ("", "that of `run_queue`", "[how long one attempt may take](../howto/failures.md#timeouts), seconds"),
    "key": (
        "`str | None`",
        "`None`",
        "[duplicates](../howto/write-items.md): a second item of the same class and key is dropped",
    ),
    "group": (
        "`str | None`",
        "`None`",
        "[the group whose limit applies](../howto/limits.md), such as the host of the item's URL",
    ),
    "__lt__": ("method", "none", "[the order](../howto/write-items.md#the-order-of-items) in a priority queue"),
    "previous_names": ("", "", "[names that the class had](../howto/items.md) when it wrote journals that you resume"),
    "dump": (
        "method",
        "all attributes",
        "`dump(self)` returns [what the journal stores](../howto/items.md) of an item",
    ),
    "load": ("class method", "sets the attributes", "`load(cls, data)` returns an item made from what `dump` returned"),
}


def item_attributes_table() -> Iterator[tuple[str, ...]]:
    """Yield one row per attribute or method by which an item's class says something to aqueue."""
    yield "Name", "Type", "Default", "Meaning"
    node = NAMES["Item"].node
    assert isinstance(node, ast.ClassDef)
    annotated = {
        one.target.id: one.annotation
        for one in node.body
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
    }
    missing = annotated.keys() - ITEM_ATTRIBUTES
    if missing:
        raise ValueError(f"describe in ITEM_ATTRIBUTES what Item annotates: {', '.join(sorted(missing))}")
    for name, (kind, default, meaning) in ITEM_ATTRIBUTES.items():
        if name in annotated:
            kind = f"`{code(annotated[name]).removeprefix('ClassVar[').removesuffix(']')}`"
            if hasattr(Item, name):
                value = getattr(Item, name)
                default = f'`"{value}"`' if isinstance(value, str) else f"`{value!r}`"
        yield f"`{name}`", kind, default, meaning


TABLES: dict[str, Callable[[], Iterator[tuple[str, ...]]]] = {
    "errors": errors_table,
    "events": events_table,
    "attributes of an item": item_attributes_table,
}


def table(name: str) -> str:
    """Return a table as Markdown."""
    head, *rows = ([cell.replace("|", "\\|") for cell in row] for row in TABLES[name]())
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


# --- The pages ---


def written(page: Path) -> str:
    """Return the text of a page with all its parts as they must be."""
    text = page.read_text(encoding="utf-8")

    def replaced(match: re.Match[str]) -> str:
        begin, kind, what, end = match.groups()
        if kind == "table":
            return f"{begin}\n{table(what)}\n\n{end}"
        above = re.findall(r"^(#+) ", text[: match.start()], re.MULTILINE)
        return "\n\n".join([begin.rstrip(), *reference(what, page.name, len(above[-1]) + 1), end])

    return PART.sub(replaced, text)


def main() -> None:
    """Write every page that isn't as it must be."""
    for page in sorted(FOLDER.glob("*.md")):
        text = written(page)
        if text != page.read_text(encoding="utf-8"):
            page.write_text(text, encoding="utf-8")
            print(f"wrote {page}")


if __name__ == "__main__":
    main()
