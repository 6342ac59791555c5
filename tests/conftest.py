"""What all tests share: both backends, and Hypothesis's profiles."""

import os

import pytest
from hypothesis import settings

from aqueue import Backend

# No deadline: on a busy machine one example may be slow, and that is no bug. In CI the examples are the same in every
# run, so that a change is blamed only for what it broke; elsewhere each run looks at new ones.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(params=["trio", "asyncio"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Name the event loop on which the test's run takes place; the test is run once on each."""
    name: Backend = request.param
    return name
