"""A shell in a few lines: runs one command as the foreground job of the terminal that it is given, and says what came of it.

Started as ``python -I -S foreground.py REPORT_FD CONTROL_FD COMMAND…`` with the terminal as standard input, output and
error, and no session of its own yet. What a shell does around a job matters to what is tested: the job is no session
leader (else the kernel would hang up and reset the terminal at its end), typed keys such as ^C reach it and only it,
and at its end the shell prints its prompt where the cursor is.
"""

import contextlib
import fcntl
import json
import os
import signal
import sys
import termios

PROMPT = b"next-prompt$ "


def main() -> None:
    """Run the command; report one JSON line when it stops and one when it ends, and stay until told to go."""
    report, control = int(sys.argv[1]), int(sys.argv[2])
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # to take the terminal back from the background
    before = termios.tcgetattr(0)
    job = os.fork()
    if job == 0:
        os.setpgid(0, 0)
        os.tcsetpgrp(0, os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.close(report)
        os.close(control)
        os.execvp(sys.argv[3], sys.argv[3:])  # what is tested is named by the test
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.setpgid(job, job)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a key that is pressed just when the job has ended
    # As a shell does when its terminal goes away.
    signal.signal(signal.SIGHUP, lambda number, frame: os.killpg(job, signal.SIGHUP))

    def say(**news: object) -> None:
        os.write(report, json.dumps(news).encode() + b"\n")

    say(pid=job)
    while True:
        _, status = os.waitpid(job, os.WUNTRACED)
        with contextlib.suppress(OSError, termios.error):  # the terminal may be gone
            os.tcsetpgrp(0, os.getpid())
            os.write(1, PROMPT)
        if not os.WIFSTOPPED(status):
            break
        say(stopped=True)
        command = os.read(control, 1)
        os.write(1, b"fg\n" if command == b"f" else b"bg\n" + PROMPT)
        if command == b"f":
            os.tcsetpgrp(0, job)
        os.killpg(job, signal.SIGCONT)
        say(stopped=False)
    try:
        same = termios.tcgetattr(0) == before
    except termios.error:
        same = None
    say(exit=os.waitstatus_to_exitcode(status), termios_restored=same)
    os.read(control, 1)  # until then the terminal must not be hung up


main()
