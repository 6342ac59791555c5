"""Tracebacks as text, cut to the frames of the user's own code."""

import os
import re
import sys
import sysconfig
from functools import cache
from typing import Final

import msgspec

__all__ = ["Frame", "is_user_file", "user_frames"]

_FRAME: Final = re.compile(r'^ *(?:\| *)*File "(?P<file>.+)", line (?P<line>\d+), in (?P<function>.+)$')
_SECTION: Final = "Traceback (most recent call last)"
_PACKAGES: Final = frozenset({"site-packages", "dist-packages"})


class Frame(msgspec.Struct, frozen=True):
    """One frame of a traceback.

    Attributes:
        file: the source file's path, relative to the current folder if it is in that.
        line: the line's number, from 1.
        function: the function's name.
        code: that line of source, without the blanks around it; empty if it was not to be had.
    """

    file: str
    line: int
    function: str
    code: str = ""


def is_user_file(filename: str) -> bool:
    """Tell whether a source file is the user's own: of no installed package, not Python's and not aqueue's."""
    if filename.startswith("<") or not _PACKAGES.isdisjoint(filename.replace("\\", "/").split("/")):
        return False
    return not filename.startswith(_foreign_folders())


@cache
def _foreign_folders() -> tuple[str, ...]:
    folders = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    for name in ("aqueue", "aqueue_reporters", "aqueue_migrations"):
        module = sys.modules.get(name)
        if module is not None and module.__file__:
            folders.add(os.path.dirname(module.__file__))
    return tuple(os.path.join(folder, "") for folder in folders)


def user_frames(traceback: str) -> list[Frame]:
    """Return the frames of the user's own code in `traceback`, the outermost first.

    Of a chain of exceptions only the last counts, the one that was raised.

    Parameters:
        traceback: as `traceback.format_exception` gives it; text that is none gives no frames. None of it is made safe
            to show.
    """
    section = traceback[max(traceback.rfind(_SECTION), 0) :]
    lines = section.splitlines()
    frames = []
    for number, line in enumerate(lines):
        found = _FRAME.match(line)
        if found is not None and is_user_file(found["file"]):
            after = lines[number + 1].strip() if number + 1 < len(lines) else ""
            code = "" if _FRAME.match(after) or set(after) <= set("^~ ") else after
            frames.append(Frame(_short(found["file"]), int(found["line"]), found["function"], code))
    return frames


def _short(path: str) -> str:
    here = os.path.join(os.getcwd(), "")
    return path.removeprefix(here)
