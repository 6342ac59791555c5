"""For tests: `EventRecorder`, a reporter that keeps what happened, and `ReporterSuite`, which any reporter must pass."""

# _recorder keeps a real run's events; _scripted_runs writes those of runs that nobody ran; _replay gives such a run to a
# reporter; _suite does so with all of them.

from aqueue.testing._recorder import EventRecorder
from aqueue.testing._replay import replay
from aqueue.testing._suite import ReporterSuite

__all__ = ["EventRecorder", "ReporterSuite", "replay"]
