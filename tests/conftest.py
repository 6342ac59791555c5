"""What all tests share: both backends, and Hypothesis's profiles."""

import asyncio
import os
import signal

import pytest
from hypothesis import settings

from aqueue import Backend
from tests import low_thresholds  # noqa: F401  # few items stay in memory, and resumes begin with a snapshot

# No deadline: on a busy machine one example may be slow, and that is no bug. In CI the examples are the same in every
# run, so that a change is blamed only for what it broke; elsewhere each run looks at new ones.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# Where asyncio's loop is to be uvloop, it must be, or every test would pass without that.
if "on_uvloop" in os.environ.get("PYTHONPATH", ""):
    loop = asyncio.new_event_loop()
    assert type(loop).__module__ == "uvloop", loop
    loop.close()

# What the tests start inherits what is ignored here: `nohup` ignores SIGHUP, and shells the SIGINT of a job in the
# background. Runs respect that, and so would not be stopped by the signals that the tests send.
for number, default in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, default)


@pytest.fixture(params=["trio", "asyncio"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Name the event loop on which the test's run takes place; the test is run once on each."""
    name: Backend = request.param
    return name
