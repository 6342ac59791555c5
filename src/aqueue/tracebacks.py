"""Tracebacks as text, cut to the frames of the user's own code."""

import os
import re
import sys
import sysconfig
from contextlib import suppress
from functools import cache
from itertools import pairwise
from typing import Final

import msgspec

__all__ = ["Frame", "is_user_file", "place", "user_frames"]

# Bars mark the frames of exceptions in a group.
_FRAME: Final = re.compile(
    r'^(?P<margin> *(?:\| *)*)File "(?P<file>.+)", line (?P<line>[0-9]{1,9}), in (?P<function>.+)$'
)
_SECTION: Final = "Traceback (most recent call last)"
_MAX_PATH_CHARS: Final = 200
_PACKAGES: Final = frozenset({"site-packages", "dist-packages"})
_COMPILED: Final = (".pyx", ".pxd", ".pxi")


class Frame(msgspec.Struct, frozen=True):
    """One frame of a traceback. Its texts are not made safe to show; `aqueue.text.visible` does that.

    Attributes:
        file: the source file's path, relative to the current folder if it is in there.
        line: the line's number, from 1.
        function: the function's name.
        code: the source of that line, without the blanks around it; empty if it was not found.
    """

    file: str
    line: int
    function: str
    code: str = ""


def place(frame: Frame) -> str:
    """Return where `frame` is, in the form that editors and terminals recognize; a long path is cut. Not made safe to show."""
    file = frame.file if len(frame.file) <= _MAX_PATH_CHARS else f"...{frame.file[3 - _MAX_PATH_CHARS :]}"
    return f"{file}:{frame.line} in {frame.function}"


def is_user_file(filename: str) -> bool:
    """Return whether the source file `filename` is the user's own: not in Python, aqueue or an installed package."""
    if filename.endswith(_COMPILED):  # Cython names the file where the package was built, not where it is installed
        return False
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

    They are those of the exception that was raised, or of the last exception in a group. If it has none in the user's
    code, they are those of its cause, or of the group.

    Parameters:
        traceback: a traceback as `traceback.format_exception` returns it; other text gives no frames. Nothing is made safe
            to show.
    """
    for section in reversed(traceback.split(_SECTION)):
        if frames := _user_frames_of(section.splitlines()):
            return frames
    return []


def _user_frames_of(lines: list[str]) -> list[Frame]:
    here = ""
    with suppress(OSError):  # the current folder is gone
        here = os.path.join(os.getcwd(), "")
    frames = []
    for line, after in pairwise([*lines, ""]):
        found = _FRAME.match(line)
        if found is not None and is_user_file(found["file"]):
            # The line of code is indented below its frame; without one the next frame follows, or the error.
            code = after[len(found["margin"]) :].strip() if after.startswith(found["margin"] + "  ") else ""
            frames.append(Frame(found["file"].removeprefix(here), int(found["line"]), found["function"], code))
    return frames
