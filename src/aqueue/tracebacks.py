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

# Within an exception group, what its frames stand in is marked by bars.
_FRAME: Final = re.compile(
    r'^(?P<margin> *(?:\| *)*)File "(?P<file>.+)", line (?P<line>[0-9]{1,9}), in (?P<function>.+)$'
)
_SECTION: Final = "Traceback (most recent call last)"
_MAX_PATH_CHARS: Final = 200
_PACKAGES: Final = frozenset({"site-packages", "dist-packages"})
_COMPILED: Final = (".pyx", ".pxd", ".pxi")


class Frame(msgspec.Struct, frozen=True):
    """One frame of a traceback. Its texts are as they were found; `aqueue.text.visible` makes them safe to show.

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


def place(frame: Frame) -> str:
    """Return where `frame` is, as editors and terminals find it; of a long path the end. It is not made safe."""
    file = frame.file if len(frame.file) <= _MAX_PATH_CHARS else f"...{frame.file[3 - _MAX_PATH_CHARS :]}"
    return f"{file}:{frame.line} in {frame.function}"


def is_user_file(filename: str) -> bool:
    """Tell whether the source file called `filename` is the user's own: of no installed package, not Python's or aqueue's."""
    if filename.endswith(_COMPILED):  # named from where the package was built, not from where it is installed
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

    Of a chain of exceptions only the last counts, the one that was raised; of an exception group, the last exception
    in it. Where that has no such frames, what comes before it counts: its cause, or the group.

    Parameters:
        traceback: as `traceback.format_exception` gives it; text that is none gives no frames. None of it is made safe
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
