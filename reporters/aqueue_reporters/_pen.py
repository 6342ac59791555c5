"""How displays write: a few styles, characters that the output has, and text from items made safe."""

from typing import Final, NamedTuple

from aqueue.text import visible

__all__ = ["Pen"]

_STYLES: Final = {
    "strong": (1, None),
    "quiet": (2, None),
    "accent": (None, 36),
    "good strong": (1, 32),
    "bad": (None, 31),
    "bad strong": (1, 31),
    "stopping": (1, 35),
}
"""SGR codes: bold or dim, and one of the 16 colours that every terminal theme defines and that read on light and on dark."""


class _Characters(NamedTuple):
    top_left: str = "╭"
    top_right: str = "╮"
    bottom_left: str = "╰"
    bottom_right: str = "╯"
    across: str = "─"
    down: str = "│"
    bar: str = "━"
    bar_half: str = "╸"
    bar_rest: str = "─"
    bar_open: str = "╌"
    ellipsis: str = "…"
    dot: str = "·"
    times: str = "×"
    nothing: str = "–"
    succeeded: str = "✓"
    failed: str = "✗"
    stopped: str = "■"
    spinner: str = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


_ASCII: Final = _Characters("+", "+", "+", "+", "-", "|", "#", "", ".", "-", "~", "-", "x", "-", "+", "x", "#", "|/-\\")


class Pen:
    """Styles text as ANSI, or not at all.

    Attributes:
        characters: those that the encoding has: box-drawing characters, or ASCII in their place.
        colors: whether it may use colours.
    """

    def __init__(self, *, styles: bool, colors: bool, encoding: str) -> None:
        """Make a pen.

        Parameters:
            styles: whether it may use bold and dim at all.
            colors: whether it may use colours too.
            encoding: the output's; what it can't express is replaced.
        """
        self.characters = _Characters() if _has_all(encoding, "".join(_Characters())) else _ASCII
        self.colors = colors
        self._encoding = None if _has_all(encoding, "ก漢🂡") else encoding
        self._codes: dict[str, str] = {}
        for name, (weight, color) in _STYLES.items():
            codes = [str(code) for code in (weight, color if colors else None) if code is not None and styles]
            self._codes[name] = f"\x1b[{';'.join(codes)}m" if codes else ""

    def write(self, style: str, text: str) -> str:
        """Return `text` in one of the styles; as it is if `style` is empty."""
        code = self._codes[style] if style else ""
        return f"{code}{text}\x1b[0m" if code else text

    def safe(self, text: str, max_chars: int = 1_000) -> str:
        """Return text from an item as it may be shown: on one line, cut, in characters that the output has."""
        text = visible(text, max_chars)
        return text if self._encoding is None else text.encode(self._encoding, "replace").decode(self._encoding)


def _has_all(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeError, LookupError):
        return False
    return True
