"""Opens the output of an export: standard output, or a file that appears only once it is complete."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import click

from aqueue._history.history import History
from aqueue.text import visible

__all__ = ["cannot_write", "new_file", "open_output", "output_option", "target_of"]

output_option = click.option(
    "-o",
    "--output",
    metavar="PATH",
    type=click.Path(dir_okay=False, readable=False, path_type=str),
    help="Write to PATH instead of standard output; an existing file is replaced once the new one is complete.",
)
"""Where to write."""


@contextmanager
def open_output(path: str | None, history: History) -> Iterator[Callable[[bytes], object]]:
    """Give a function that writes bytes to the file at `path`, or to standard output if that is None or ``-``.

    A file is written under another name and moved into place at the end, so that it is never seen incomplete. It gets the
    permissions of any new file.

    Raises:
        click.UsageError: the file is the one that is read, or can't be written.
        OSError: standard output can't be written.
    """
    if path is None or path == "-":
        yield _standard_output().write
        _standard_output().flush()
        return
    target = target_of(path, history)
    try:
        if target.exists() and not target.is_file():  # a device, or a pipe: it can be written to, but not replaced
            with target.open("wb") as stream:
                yield stream.write
        else:
            with new_file(target) as new, new.open("xb") as file:
                yield file.write
    except BrokenPipeError:
        raise
    except OSError as error:
        raise cannot_write(path, visible(error.strerror or str(error), 300)) from error


def target_of(path: str, history: History) -> Path:
    """Return the file that ``--output`` names: of a link, what it leads to.

    Raises:
        click.UsageError: it is the one that is read, or its name is empty.
    """
    if not path:
        raise click.UsageError("--output is empty; name a file, or - for standard output")
    target = Path(os.path.realpath(path))
    if history.path is not None and target.exists() and target.samefile(history.path):
        raise click.UsageError(f"--output: {visible(path, 500)} is the file being read; name another file")
    return target


def cannot_write(path: str, why: str) -> click.UsageError:
    """Return the error that says that the file at `path` can't be written; `why` is safe to show."""
    return click.UsageError(
        f"--output: can't write {visible(path, 500)}: {why}; free some space, or name a file in a folder that you may "
        "write to"
    )


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Give the name of a file to make next to `target`, which it replaces at the end; after an exception it is removed."""
    # The name is chosen before the file exists: a signal that ends the command may come at any moment.
    new = target.with_name(f".{target.name[:100]}.{os.urandom(6).hex()}")
    try:
        yield new
        new.replace(target)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise


def _standard_output() -> IO[bytes]:
    sys.stdout.flush()
    return sys.stdout.buffer
