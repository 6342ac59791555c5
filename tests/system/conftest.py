"""Programs under a pseudo-terminal are started as in `tests/processes`."""

from tests.processes.conftest import gates, start

__all__ = ["gates", "start"]
