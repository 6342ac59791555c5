"""Every figure, by part."""

from tests.benchmarks.figure import Part
from tests.benchmarks.parts.cluster import CLUSTER
from tests.benchmarks.parts.engine import ENGINE
from tests.benchmarks.parts.journal import JOURNAL, LARGE_JOURNAL
from tests.benchmarks.parts.others import CRAWLS, TASKS
from tests.benchmarks.parts.policies import FEATURES, POLICIES
from tests.benchmarks.parts.reporters import REPORTERS
from tests.benchmarks.parts.serving import SERVING

PARTS: tuple[Part, ...] = (ENGINE, REPORTERS, FEATURES, POLICIES, JOURNAL, SERVING, CLUSTER, CRAWLS, TASKS)

LARGE: tuple[Part, ...] = (LARGE_JOURNAL,)
"""Those for which an ordinary run has no time."""
