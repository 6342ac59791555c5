"""Where the control socket of a journal's run may be: next to the journal, or in a folder that only its user can write."""

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

from aqueue._journal.file import resolve

__all__ = ["MAX_PATH_BYTES", "Address", "addresses_of"]

MAX_PATH_BYTES: Final = 100
"""The longest path of a socket: the system's ``sun_path`` has 104 bytes on macOS and the BSDs and 108 on Linux, with a null."""

_DIGEST_BYTES: Final = 12
"""Enough that two journals of a user never share a name, and short enough for the long temporary folders of macOS."""


class Address(NamedTuple):
    """A path at which a run may have its socket.

    Attributes:
        path: where the socket is.
        is_private: whether its folder must be the user's alone; next to a journal, it is the journal's.
        is_made: whether a run makes that folder if it is missing.
    """

    path: Path
    is_private: bool = False
    is_made: bool = False

    @property
    def folder(self) -> Path:
        """The folder in which the socket is."""
        return self.path.parent

    def check_folder(self) -> None:
        """Raise if another user may have put a socket of their own at `path`, or could replace ours.

        Raises:
            OSError: the folder is missing, not a real folder, or not the user's alone.
        """
        if not self.is_private:
            return
        found = os.lstat(self.folder)
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "it is not a real folder")
        if found.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "it belongs to another user")
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise PermissionError(errno.EPERM, "other users have access to it")

    def make_folder(self) -> Path:
        """Make the folder, if it is one that a run makes, and check it; return `path`.

        Raises:
            OSError: it can't be made, or `check_folder` raises.
        """
        if self.is_made:
            with suppress(FileExistsError):
                self.folder.mkdir(mode=0o700)
        self.check_folder()
        return self.path


def addresses_of(journal: Path) -> list[Address]:
    """Return where the socket of the run of `journal` may be, in the order in which a run tries to make it.

    A client that runs with another ``XDG_RUNTIME_DIR`` or ``TMPDIR`` doesn't find a socket in these folders.

    Raises:
        NotAJournal: it can be no path to a file.
    """
    return [one for one in _addresses(resolve(journal)) if len(os.fsencode(one.path)) <= MAX_PATH_BYTES]


def _addresses(journal: Path) -> Iterator[Address]:
    yield Address(journal.with_name(f"{journal.name}.sock"))
    name = f"{blake2b(os.fsencode(journal), digest_size=_DIGEST_BYTES).hexdigest()}.sock"
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    if runtime.is_absolute():
        yield Address(runtime / name, is_private=True)
    with suppress(OSError):  # no temporary folder can be written
        shared = Path(tempfile.gettempdir())
        yield Address(shared / f"aqueue-{os.geteuid()}" / name, is_private=True, is_made=True)
