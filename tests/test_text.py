"""Text made safe: what comes out can neither steer a terminal nor break a line."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqueue.text import first_line, visible, without_surrogates
from tests.strategies import hostile_text, long_hostile_text

ACTED_ON = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(hostile_text | long_hostile_text)
def test_nothing_is_left_that_a_terminal_acts_on(text: str) -> None:
    """No control, format, surrogate or separator character is left; joiners, which move nothing, are."""
    left = {character for character in visible(text, 5_000) if unicodedata.category(character) in ACTED_ON}

    assert left <= {"\u200c", "\u200d"}


@given(hostile_text | long_hostile_text)
def test_it_is_one_line(text: str) -> None:
    """Nothing that anything takes for the end of a line is left."""
    assert len(visible(text, 5_000).splitlines()) <= 1


@given(hostile_text, st.integers(1, 200))
def test_it_is_no_longer_than_asked(text: str, max_chars: int) -> None:
    """It has at most max_chars characters; what was cut ends with an ellipsis and is the beginning of the whole."""
    whole = visible(text[:1_000])
    cut = visible(text[:1_000], max_chars)

    assert len(cut) <= max_chars
    assert cut == whole or (cut[-1] == "…" and whole.startswith(cut[:-1]))


@given(hostile_text)
def test_safe_text_is_returned_as_it_is(text: str) -> None:
    """Making safe text safe again changes nothing."""
    safe = visible(text, 5_000)

    assert safe == visible(safe)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"])))
def test_ordinary_text_is_returned_as_it_is(text: str) -> None:
    """Letters, marks, numbers, punctuation and symbols of every script are shown."""
    assert text == visible(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x9b", r"\x9b"),
        ("\u202e", r"\u202e"),
        ("\u2028", r"\u2028"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("[/red]", "[/red]"),
        ("漢字\u3000é", "漢字\u3000é"),
        ("\u0915\u094d\u200d\u0937", "\u0915\u094d\u200d\u0937"),  # Devanagari with a joiner
    ],
)
def test_escapes_are_those_of_python(text: str, shown: str) -> None:
    """A person can tell what it was."""
    assert shown == visible(text)


@given(hostile_text)
def test_text_without_surrogates_can_be_encoded(text: str) -> None:
    """Each lone surrogate becomes one replacement character, and nothing else changes."""
    result = without_surrogates(text)
    result.encode()

    assert len(result) == len(text)
    assert all(
        new == old or (new == "\ufffd" and "\ud800" <= old <= "\udfff") for new, old in zip(result, text, strict=True)
    )


@pytest.mark.parametrize(
    ("message", "first"),
    [
        ("404 Not Found\nFor more information check: https://example.org", "404 Not Found"),
        ("\n\n  1 validation error \r\nname", "1 validation error"),
        ("one", "one"),
        (" \n\t", ""),
        ("", ""),
    ],
)
def test_first_line_of_a_message_is_the_first_that_says_something(message: str, first: str) -> None:
    """Some clients add links to their documentation, and some begin with an empty line."""
    assert first_line(message) == first
