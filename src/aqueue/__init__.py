"""aqueue: run tree-like I/O-bound jobs with async workers, live progress and an event log."""

# The layers in pyproject.toml are the map of the modules and packages; this one re-exports what users write.

from aqueue._system import startup as _startup  # noqa: F401  # first: it is about Ctrl-C while the others are loaded

# isort: split

from aqueue._engine.context import Current, child_results, current, shared, slow_down, stop
from aqueue._engine.queues import QueueTypeName
from aqueue._engine.stopping import OnError
from aqueue._run.api import async_run_queue, run_queue
from aqueue._run.settings import Backend, Lifespan
from aqueue._version import __version__
from aqueue.errors import (
    AdoptionMismatch,
    AqueueError,
    ChildrenNotComparable,
    ClusterError,
    InvalidArgument,
    InvalidItem,
    InvalidResult,
    ItemFailures,
    ItemsNotComparable,
    JournalDamaged,
    JournalError,
    JournalExists,
    JournalLocked,
    JournalTooNew,
    LeakedCancelScope,
    MisplacedCall,
    NotAJournal,
    PayloadMismatch,
    PoisonItem,
    RecordedFailure,
    RemoteError,
    ReporterError,
    SteeringError,
    StrayCancellation,
    UnknownItemType,
    UnsendableItem,
    UnstorableItem,
)
from aqueue.item import AfterChildrenRule, EnqueueFn, Item, ItemLike, SetDescFn
from aqueue.journal import ItemResult, iter_results
from aqueue.limits import Limit, Limits
from aqueue.reporting import Reporter, ReporterSpec, RunInfo, TerminalReporter
from aqueue.result import FailureGroup, RunResult
from aqueue.retry import Retry, RetryAfter, parse_retry_after

__all__ = [
    "AdoptionMismatch",
    "AfterChildrenRule",
    "AqueueError",
    "Backend",
    "ChildrenNotComparable",
    "ClusterError",
    "Current",
    "EnqueueFn",
    "FailureGroup",
    "InvalidArgument",
    "InvalidItem",
    "InvalidResult",
    "Item",
    "ItemFailures",
    "ItemLike",
    "ItemResult",
    "ItemsNotComparable",
    "JournalDamaged",
    "JournalError",
    "JournalExists",
    "JournalLocked",
    "JournalTooNew",
    "LeakedCancelScope",
    "Lifespan",
    "Limit",
    "Limits",
    "MisplacedCall",
    "NotAJournal",
    "OnError",
    "PayloadMismatch",
    "PoisonItem",
    "QueueTypeName",
    "RecordedFailure",
    "RemoteError",
    "Reporter",
    "ReporterError",
    "ReporterSpec",
    "Retry",
    "RetryAfter",
    "RunInfo",
    "RunResult",
    "SetDescFn",
    "SteeringError",
    "StrayCancellation",
    "TerminalReporter",
    "UnknownItemType",
    "UnsendableItem",
    "UnstorableItem",
    "__version__",
    "async_run_queue",
    "child_results",
    "current",
    "iter_results",
    "parse_retry_after",
    "run_queue",
    "shared",
    "slow_down",
    "stop",
]
