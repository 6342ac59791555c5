"""The click group of the command, its errors and exit codes, and the arguments that several subcommands share."""

import errno
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import wraps
from typing import Any, Final, NoReturn

import click

from aqueue._history.history import History
from aqueue._system.startup import heed_interrupts
from aqueue._version import __version__
from aqueue.cli._screen import say
from aqueue.errors import AqueueError
from aqueue.text import visible

__all__ = [
    "EXIT_ERROR",
    "WholeNumber",
    "app",
    "closed_at_end",
    "command",
    "finish",
    "help_of_examples",
    "json_option",
    "limit_options",
    "main",
    "run_option",
    "via_option",
]

EXIT_ERROR: Final = 2
"""The exit code for errors: a missing file, no journal, a line that can't be read, a wrong option."""

_COMPLETE: Final = "_AQUEUE_COMPLETE"
_INTERRUPTED: Final = 130
_BROKEN_PIPE: Final = 141


class _App(click.Group):
    """The group of subcommands, in the order in which a person needs them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def help_of_examples(*lines: str) -> str:
    """Return the end of a help page: examples, each on a line of its own."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


@click.group(
    cls=_App,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=help_of_examples(
        "aqueue status run.db",
        "aqueue watch run.db",
        "aqueue tail -f run.jsonl --level warning",
        "aqueue report run.db -o report.html",
        "aqueue limit run.db example.org --per-second 2",
        "aqueue skip run.db --state failed --error HTTPStatusError",
        "ssh host cat run.jsonl | aqueue failures -",
    ),
)
@click.version_option(__version__, prog_name="aqueue", message="%(prog)s %(version)s")
def app() -> None:
    """Watch, replay, inspect, export and steer runs.

    FILE is a journal (run_queue(resume="run.db")), a log (reporter="jsonl:run.jsonl"), or - for a log on standard input.
    It is only read, and reading neither slows down nor locks out a run that is still running. The subcommands that steer a run
    (pause, unpause, workers, limit, stop, retry, skip, cancel) need its journal: a live run obeys them at once, any other one
    from its resume on.

    Output to a terminal is colored. NO_COLOR=1 turns the colors off, FORCE_COLOR=1 turns them on in a pipe.
    """


class WholeNumber(click.ParamType[int | None]):
    """A whole number from `least`, and up to `most` if that is given; or `word`, which stands for None."""

    name = "N"

    def __init__(self, least: int, most: int | None = None, word: str = "") -> None:
        """Make the type; see the class for the parameters."""
        self._least = least
        self._most = most
        self._word = word

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """Return the number; fail with a message that says which numbers are allowed."""
        if isinstance(value, int):
            return value
        if self._word and value == self._word:
            return None
        number = int(value) if re.fullmatch("-?[0-9]{1,15}", value) else None
        if number is None or number < self._least or (self._most is not None and number > self._most):
            most = f"to {self._most}" if self._most is not None else "or more"
            or_word = f" or {self._word!r}" if self._word else ""
            self.fail(f"{visible(value, 100)!r} is not a whole number ({self._least} {most}){or_word}", param, ctx)
        return number


def command(short_help: str, *examples: str) -> Callable[[Callable[..., None]], click.Command]:
    """Return a decorator that makes a function the subcommand on FILE of its name; its docstring is the help."""

    def decorate(function: Callable[..., None]) -> click.Command:
        path = click.Path(allow_dash=True, path_type=str)
        with_file = click.argument("file", metavar="FILE", type=path, callback=_checked_file)(function)
        return app.command(short_help=short_help, epilog=help_of_examples(*examples))(with_file)

    return decorate


def _checked_file(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not value:
        raise click.UsageError("FILE is empty; name a journal or log that a run has written", ctx)
    return value


run_option = click.option(
    "--run",
    metavar="RUN",
    default="",
    help="Which run to read if a log has several: 1 for the first, -1 for the last, or the start of its id.  [default: the last]",
)
"""Which run of a log."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
"""JSON wherever a table is printed."""


via_option = click.option("--via", type=click.Choice(("command", "page")), default="command", hidden=True)
"""By which means a person steers a run, which the run records: the page of `aqueue serve` calls the command, too."""


def limit_options(default: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that adds ``--limit`` and ``--all``; the function gets `limit`, None if neither is given."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def limited(*arguments: Any, limit: int | None, show_all: bool, **named: Any) -> None:
            function(*arguments, limit=sys.maxsize if show_all else limit, **named)

        shown = f"Show at most N.  [default: {default}; all with --json]"
        with_all = click.option("--all", "show_all", is_flag=True, help="Show all.")(limited)
        return click.option("-n", "--limit", type=WholeNumber(0), metavar="N", help=shown)(with_all)

    return decorate


def closed_at_end(history: History) -> History:
    """Return `history`, which is closed when the subcommand ends."""
    return click.get_current_context().with_resource(closing(history))


def finish(history: History, code: int = 0) -> NoReturn:
    """End the subcommand with `code`; if some lines of the file could not be read, say so and end it with 2.

    Raises:
        click.exceptions.Exit: always.
    """
    for notice in history.take_notices():
        say(notice)
    skipped = history.skipped_lines()
    if skipped:
        say(skipped)
        code = EXIT_ERROR
    raise click.exceptions.Exit(code)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the `aqueue` command and end the process with its exit code.

    The code is 0 for success; 2 if something could not be done, read or printed, as one line on standard error says; 130
    after Ctrl-C. The codes of `aqueue status` and `aqueue watch` also tell the state of the run.

    Parameters:
        args: the arguments after the command's name; by default those of this process.
    """
    # For a closed stream Python has None, with which some of its own functions fail and others write to the other stream.
    # Output must not get lost silently: a stream that can't be written to raises.
    if sys.stdout is None:
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")  # noqa: SIM115  # until the process ends
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # the same
    # An encoding that lacks a character is no reason to fail.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    with _exiting_on_signals():
        code = _run(args)
    sys.exit(code)


@contextmanager
def _exiting_on_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into `SystemExit`, so that no partly written file is left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> NoReturn:
        sys.exit(128 + number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, end) for number in numbers if signal.getsignal(number) == signal.SIG_DFL}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(args: Sequence[str] | None) -> int:
    if _COMPLETE in os.environ:  # the shell asks what there is
        try:
            app.main(prog_name="aqueue", complete_var=_COMPLETE)
        except (KeyError, ValueError):  # it is not the shell that asks
            return EXIT_ERROR
    try:
        heed_interrupts()
        try:
            # Not app.main: that prints an empty line after Ctrl-C, and has a code of its own for a pipe that nobody reads.
            with app.make_context("aqueue", list(sys.argv[1:] if args is None else args)) as context:
                app.invoke(context)
            sys.stdout.flush()
        except click.exceptions.Exit as ended:
            sys.stdout.flush()
            return ended.exit_code
        except (click.ClickException, AqueueError) as error:
            _say_error(error)
            return EXIT_ERROR
    except (KeyboardInterrupt, click.Abort):
        if sys.stderr.isatty():  # it has shown ^C on a line of its own
            print(file=sys.stderr)  # noqa: T201
        return _INTERRUPTED
    except BrokenPipeError:  # the reader has read enough
        _discard_output()
        return _BROKEN_PIPE
    except OSError as error:
        file = visible(str(error.filename or ""))
        is_output = error.errno == errno.EBADF  # a closed one, see `main`
        try:
            sys.stdout.flush()
        except OSError:
            is_output = True
            _discard_output()
        file = "standard output" if is_output else file
        say(f"{visible(error.strerror or str(error))}{f': {file}' if file else ''}")
        return EXIT_ERROR
    return 0


def _discard_output() -> None:
    """Discard what could not be printed, which Python would otherwise report when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say_error(error: click.ClickException | AqueueError) -> None:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        print(error.format_message(), file=sys.stderr)  # noqa: T201  # a command speaks
    elif isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx is not None else "aqueue"
        message = visible(" ".join(error.format_message().split()))
        say(f"{message.removesuffix('.')} (see '{command} --help')")
    else:
        say(visible(str(error)))
