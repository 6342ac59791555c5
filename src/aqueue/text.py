"""Text from items, made safe to show: nothing in it can steer a terminal or break a log line."""

import re
import unicodedata
from collections.abc import Iterable

__all__ = ["DESCRIPTION_MAX_CHARS", "first_line", "short_names", "visible", "visible_repr", "without_surrogates"]

DESCRIPTION_MAX_CHARS = 1_000
"""The length of a description, in characters; a longer one is cut when it is set."""

# The characters that a terminal or a bidirectional layout acts on instead of showing them: control (Cc), format
# (Cf: bidi overrides, tags, invisible operators), lone surrogates (Cs), line and paragraph separators (Zl, Zp).
# Joiners (U+200C, U+200D) stay: Persian, Indic scripts and emoji need them, and they move nothing.
_ACTED_ON = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")
_SURROGATE = re.compile("[\ud800-\udfff]")


def visible(text: str, max_chars: int | None = None) -> str:
    r"""Return `text` on one line, with every character that a terminal would act on written as a Python escape.

    An escape character becomes the four characters ``\x1b``, a newline ``\n``, a right-to-left override
    ``\u202e``, a lone surrogate ``\ud800``. Text that is safe already is returned as it is.

    Parameters:
        text: any string, however long.
        max_chars: the most characters to return, at least 1; a longer text is cut and ends with ``…``. None doesn't cut.
    """
    is_cut = max_chars is not None and len(text) > max_chars
    if is_cut:
        text = text[:max_chars]  # escaping only lengthens, so nothing past that can be part of the answer
    if not text.isprintable():
        text = "".join(
            c.encode("unicode_escape").decode() if unicodedata.category(c) in _ACTED_ON and c not in _JOINERS else c
            for c in text
        )
    if max_chars is not None and (is_cut or len(text) > max_chars):
        text = text[: max_chars - 1] + "…"
    return text


def visible_repr(value: object) -> str:
    """Return the `repr` of `value`, safe to show and at most 200 characters, even if its `__repr__` raises."""
    try:
        text = repr(value)
    except Exception:  # the user's code, or a structure too deep for it
        text = f"an object of class {type(value).__qualname__}"
    return visible(text, 200)


def first_line(message: str) -> str:
    """Return the first line of an exception's message that isn't blank, without the blanks around it; not made safe to show.

    Some clients add links to their documentation on further lines.

    Parameters:
        message: the message, however long.
    """
    return message.strip().partition("\n")[0].rstrip()


def without_surrogates(text: str) -> str:
    """Return `text` with each lone surrogate replaced by U+FFFD, so that it can be encoded as UTF-8."""
    return _SURROGATE.sub("\ufffd", text)


def short_names(types: Iterable[str]) -> dict[str, str]:
    """Return the shortest name of each class that no other class has; not made safe to show.

    Parameters:
        types: the names of classes, as ``module:qualname``.

    Returns:
        The short name by the full one.
    """
    names: dict[str, str] = {}
    left = list(types)
    for separator in ("<locals>.", ":"):  # the name of the class, then its qualname
        by_name: dict[str, list[str]] = {}
        for type in left:
            by_name.setdefault(type.rpartition(":")[2].rpartition(separator)[2] or type, []).append(type)
        names |= {same[0]: name for name, same in by_name.items() if len(same) == 1}
        left = [type for type in left if type not in names]
    return names | {type: type for type in left}
