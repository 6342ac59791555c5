"""Public docstrings agree with the code: parameters, defaults, errors, and what to do against each error."""

import ast
import builtins
import inspect
import logging
import pkgutil
import re
import textwrap
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import msgspec
import pytest

import aqueue
import aqueue.reporting
from aqueue import errors
from tests.test_public_api import MODULES

SECTIONS = re.compile(r"^(Parameters|Attributes|Class attributes|Returns|Yields|Raises):$", re.MULTILINE)

DEFAULT_WORDS = {
    # How a docstring says a default that isn't said by its value.
    (aqueue.Retry, "on"): "every `Exception`",
    (aqueue.Retry.delay_s, "chance"): "`random.random`",
    (aqueue.Item, "previous_names"): "none",
}

CONTRACTS = (
    # What is overridden is described there, once.
    aqueue.Item,
    aqueue.Reporter,
    aqueue.reporting.SuspendableReporter,
    aqueue.reporting.StillReporter,
    logging.Filter,
)


def section(docstring: str, name: str) -> dict[str, str]:
    """Return the entries of a section, such as ``Parameters:``, each with its text on one line; empty without one."""
    found = re.search(rf"^{name}:\n((?:(?:    .*)?\n?)*)", inspect.cleandoc(docstring), re.MULTILINE)
    entries: dict[str, str] = {}
    for block in re.split(r"^    (?=\S)", found[1] if found else "", flags=re.MULTILINE):
        names, colon, text = block.partition(":")
        if colon:
            entries |= {one.strip(): " ".join(text.split()) for one in names.split(",")}
    return entries


def own_members(cls: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the functions that a public class defines itself, with ``__init__`` and the like only if it has a docstring."""
    for name, value in vars(cls).items():
        function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if (
            inspect.isfunction(function)
            and not name.startswith("test_")
            and (not name.startswith("_") or (name == "__init__" and function.__doc__))
        ):
            yield f"{cls.__module__}.{cls.__qualname__}.{name}", function


def public_functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield every public function, and every public method of a public class, once, by its full name."""
    found: dict[str, Callable[..., Any]] = {}
    for module in MODULES:
        for name in getattr(module, "__all__", []):
            value = getattr(module, name)
            if not getattr(value, "__module__", "").startswith("aqueue"):
                continue
            if inspect.isfunction(value):
                found[f"{value.__module__}.{value.__qualname__}"] = value
            elif inspect.isclass(value):
                found |= dict(own_members(value))
    yield from found.items()


FUNCTIONS = dict(public_functions())
each_function = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
each_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)


def parameters_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters that a caller passes."""
    parameters = inspect.signature(function).parameters
    return {name: one for name, one in parameters.items() if name != "self"}


def is_described_elsewhere(function: Callable[..., Any]) -> bool:
    """Tell whether a function is a method of a contract's that another class has, too, or takes what `run_queue` takes."""
    if function is aqueue.async_run_queue:
        return True
    known = [getattr(contract, function.__name__, None) for contract in CONTRACTS]
    return "." in function.__qualname__ and any(known) and function not in known


def mentions(docstring: str, name: str) -> bool:
    """Tell whether a docstring says what it does with a parameter in running text: by its name in backticks."""
    return re.search(rf"`{re.escape(name)}`", docstring) is not None


@each_function
def test_each_parameter_is_described(function: Callable[..., Any]) -> None:
    """A section Parameters describes all parameters, in their order, and no others; without one, the text names each."""
    docstring = inspect.getdoc(function) or ""
    given = list(parameters_of(function))
    described = section(docstring, "Parameters")
    if described:
        # What the first line says by name need not be said again.
        assert [name for name in given if name in described] == list(described)
        assert [name for name in given if name not in described and not mentions(docstring, name)] == []
    elif not is_described_elsewhere(function):
        assert [name for name in given if not mentions(docstring, name)] == []


def shown_default(value: object) -> list[str]:
    """Return the ways in which a docstring may say a default."""
    if isinstance(value, bool) or value is None:
        return [str(value)]
    if isinstance(value, int | float):
        return [f"{value:,}", f"{value:g}", f"{value:,.0f}"] if value == int(value) else [f"{value:,}"]
    if isinstance(value, str):
        return [f'``"{value}"``', f"``{value}``"]
    return [repr(value)]


def says_default(text: str, value: object) -> bool:
    """Tell whether the description of a parameter says that `value` is its default."""
    return any(
        re.search(rf"by default {re.escape(shown)}(?!\w|[.,]\d)|{re.escape(shown)}(?: [^:;,.]*)?, the default\b", text)
        for shown in shown_default(value)
    )


def test_says_default_tells_defaults_apart() -> None:
    """What begins with the default, or only mentions it, does not say it."""
    assert says_default("seconds, by default 3,600, an hour.", 3_600.0)
    assert says_default('``"queue"``, the default, first in first out', "queue")
    assert not says_default("at least 1, by default 50.", 5)
    assert not says_default("by default 0.55", 0.5)
    assert not says_default("from 1 to 5, by default 2", 5)


def defaults_of_structs() -> Iterator[tuple[type, dict[str, object], dict[str, str]]]:
    """Yield the records that users make themselves, with the defaults of their fields and what is said of these."""
    for cls in (aqueue.Retry, aqueue.Limit):
        fields = {field.name: field.default for field in msgspec.structs.fields(cls)}
        yield cls, fields, section(cls.__doc__ or "", "Attributes")


def test_the_defaults_of_run_queue_are_those_that_its_docstring_says() -> None:
    """Each parameter with a default says which, and it is the real one."""
    described = section(inspect.getdoc(aqueue.run_queue) or "", "Parameters")
    wrong = [
        name
        for name, parameter in parameters_of(aqueue.run_queue).items()
        if parameter.default is not parameter.empty and not says_default(described[name], parameter.default)
    ]
    assert wrong == []


def test_async_run_queue_has_the_parameters_of_run_queue() -> None:
    """With the same defaults, in the same order; only `backend` is decided by the caller's loop."""
    expected = parameters_of(aqueue.run_queue)
    del expected["backend"]
    assert parameters_of(aqueue.async_run_queue) == expected


@pytest.mark.parametrize("cls", [aqueue.Retry, aqueue.Limit])
def test_the_defaults_of_policies_are_those_that_their_docstrings_say(cls: Any) -> None:
    """Each field says its default, and it is the real one."""
    [(_, fields, described)] = [one for one in defaults_of_structs() if one[0] is cls]
    wrong = [
        name
        for name, default in fields.items()
        if DEFAULT_WORDS.get((cls, name), "\0") not in described[name] and not says_default(described[name], default)
    ]
    assert wrong == []


def test_the_defaults_of_item_are_those_that_its_docstring_says() -> None:
    """Each class attribute with a default says which, and it is the real one."""
    described = section(aqueue.Item.__doc__ or "", "Class attributes")
    assert set(described) == set(aqueue.Item.__annotations__)
    wrong = [
        name
        for name, text in described.items()
        if hasattr(aqueue.Item, name)
        and DEFAULT_WORDS.get((aqueue.Item, name), "\0") not in text
        and not says_default(text, getattr(aqueue.Item, name))
    ]
    assert wrong == []


def test_the_defaults_of_parse_retry_after_are_those_that_its_docstring_says() -> None:
    """Each parameter with a default says which, and it is the real one."""
    described = section(inspect.getdoc(aqueue.parse_retry_after) or "", "Parameters")
    for name, parameter in parameters_of(aqueue.parse_retry_after).items():
        if parameter.default is not parameter.empty:
            assert says_default(described[name], parameter.default), name


def raised_directly(function: Callable[..., Any]) -> set[str]:
    """Return the names of the classes that a function raises in its own body, not in a handler or a nested function."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return {
        node.exc.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name)
        if node.exc.func.id[:1].isupper()
    } - {"NotImplementedError"}


def checks_arguments(function: Callable[..., Any]) -> bool:
    """Tell whether a function has a number checked, by what raises InvalidArgument."""
    return re.search(r"\bcheck_(number|is_one_of)\(", inspect.getsource(function)) is not None


@each_function
def test_each_error_raised_directly_is_documented(function: Callable[..., Any]) -> None:
    """What a public function raises itself is in its section Raises."""
    docstring = inspect.getdoc(function) or ""
    raised = raised_directly(function) | ({"InvalidArgument"} if checks_arguments(function) else set())
    documented = set(section(docstring, "Raises"))
    assert raised - documented == set()


@each_function
def test_each_documented_error_exists(function: Callable[..., Any]) -> None:
    """The names in a section Raises are those of exceptions of aqueue's or of Python's."""
    known = vars(errors) | vars(builtins)
    for name in section(inspect.getdoc(function) or "", "Raises"):
        cls = pkgutil.resolve_name(name) if "." in name else known.get(name)
        assert inspect.isclass(cls), name
        assert issubclass(cls, BaseException), name


@each_function
def test_first_lines_are_sentences(function: Callable[..., Any]) -> None:
    """A docstring begins with one line that ends with a full stop or a colon, and its sections have known names."""
    first, _, rest = (inspect.getdoc(function) or "").partition("\n")
    assert first[-1:] in ".:", first
    assert rest == "" or rest.startswith("\n") or first.endswith(".")
    headed = re.findall(r"^([A-Z][a-z ]+):$", rest, re.MULTILINE)
    assert [name for name in headed if not SECTIONS.fullmatch(f"{name}:")] == []


def exceptions_of(module: ModuleType) -> Iterator[type[BaseException]]:
    """Yield the exception classes that a public module exports."""
    for name in getattr(module, "__all__", []):
        value = getattr(module, name)
        if inspect.isclass(value) and issubclass(value, BaseException):
            yield value


@each_module
def test_every_error_says_what_to_do(module: ModuleType) -> None:
    """The docstring of each public exception ends with a paragraph that begins "What to do: ", and has it only once."""
    for cls in exceptions_of(module):
        docstring = inspect.cleandoc(cls.__dict__["__doc__"] or "")
        paragraphs = docstring.split("\n\n")
        assert len(paragraphs) > 1, cls
        assert re.match(r"What to do: [a-z]", paragraphs[-1]), cls
        assert paragraphs[-1].endswith("."), cls
        assert docstring.count("What to do:") == 1, cls


def test_every_error_is_in_the_tree_of_errors() -> None:
    """The module's docstring shows each class, below the one that it derives from, with the built-in class it also is."""
    lines = re.findall(
        r"^([│├└─ ]*)(\w+)(?: \((\w+)\))? ", (errors.__doc__ or "").partition("\nAqueueError")[2], re.MULTILINE
    )
    assert {name for _, name, _ in lines} | {"AqueueError"} == set(errors.__all__)
    for margin, name, built_in in lines:
        cls = getattr(errors, name)
        above = errors.JournalError if margin.startswith("│   ") else errors.AqueueError
        assert above in cls.__bases__, name
        others = {base.__name__ for base in cls.__bases__ if base is not above}
        assert others == ({built_in} if built_in else set()), name
