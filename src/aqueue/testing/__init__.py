"""For tests: `EventRecorder`, a reporter that records what happened, and `ReporterSuite`, which any reporter must pass.

Each module imports only from those above it:

- `_recorder`: `EventRecorder` keeps a real run's events
- `_replay`: gives a reporter a run from its events
- `_scripted_runs`: made-up runs, as their events
- `_suite`: `ReporterSuite` gives them to a reporter
"""

from aqueue.testing._recorder import EventRecorder
from aqueue.testing._replay import replay
from aqueue.testing._suite import ReporterSuite

__all__ = ["EventRecorder", "ReporterSuite", "replay"]
