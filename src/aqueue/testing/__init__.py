"""For tests: `EventRecorder`, a reporter that keeps what happened, and `ReporterSuite`, which any reporter must pass.

Each module imports only from those above it:

- `_recorder`: `EventRecorder` keeps a real run's events
- `_replay`: gives such a run to a reporter
- `_scripted_runs`: legal streams of events of runs that nobody ran
- `_suite`: `ReporterSuite` does so with all of them
"""

from aqueue.testing._recorder import EventRecorder
from aqueue.testing._replay import replay
from aqueue.testing._suite import ReporterSuite

__all__ = ["EventRecorder", "ReporterSuite", "replay"]
