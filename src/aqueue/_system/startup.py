"""The start of the `aqueue` command: Ctrl-C while its modules are loaded ends it without a traceback.

Loading them takes most of the start, and Python imports the package before any module in it. So this module, which the
package imports first, checks `sys.argv` for the `aqueue` command. A Ctrl-C before that is out of reach.
"""

import os
import signal
import sys
import threading

__all__ = ["heed_interrupts"]


def _is_command() -> bool:
    name, *arguments = getattr(sys, "argv", None) or [""]  # a program that embeds Python may have none
    if name == "-m":  # as long as Python is looking for the module's file
        return sys.orig_argv[-len(arguments) - 1].removeprefix("-m") == "aqueue"
    return os.path.basename(name) in {"aqueue", "aqueue.exe"}


_is_command_starting = (
    signal.getsignal(signal.SIGINT) is signal.default_int_handler
    and threading.current_thread() is threading.main_thread()
    and _is_command()
)
if _is_command_starting:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def heed_interrupts() -> None:
    """Let Ctrl-C raise `KeyboardInterrupt` again; called by the command when it is ready for that."""
    if _is_command_starting and signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
