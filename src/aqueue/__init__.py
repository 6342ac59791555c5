"""aqueue: run tree-like I/O-bound jobs with async workers, live progress and an event log."""

# The layers, each of which imports only those before it:
#
#   events, text                what happens, as data; untrusted text made safe
#   result, errors              what a run came to; everything that is raised
#   item, view, reporting       what users write; a run folded from its events; the Reporter protocol
#   _context, _codec            what an item's code may ask; results to JSON and back
#   _loop, _signals             reaching into the loop from outside; SIGINT, SIGTERM, SIGHUP
#   _bus, _tree, _queues        hands events to reporters; who waits for whom; the order of items
#   _engine                     workers, hooks, failing, stopping
#   _run                        run_queue, async_run_queue: wires the rest
#
# Beside them: log_context (log records that name the item) and testing (for those who write reporters).
# This module only re-exports.

from aqueue._context import Current, child_results, current, shared, stop
from aqueue._engine import OnError
from aqueue._queues import QueueTypeName
from aqueue._run import Backend, Lifespan, async_run_queue, run_queue
from aqueue._version import __version__
from aqueue.errors import (
    AqueueError,
    InvalidArgument,
    InvalidItem,
    InvalidResult,
    ItemFailures,
    ItemsNotComparable,
    MisplacedCall,
    RecordedFailure,
    ReporterError,
    StrayCancellation,
)
from aqueue.item import AfterChildrenRule, EnqueueFn, Item, ItemLike, SetDescFn
from aqueue.reporting import Reporter, ReporterSpec, RunInfo, TerminalReporter
from aqueue.result import RunResult

__all__ = [
    "AfterChildrenRule",
    "AqueueError",
    "Backend",
    "Current",
    "EnqueueFn",
    "InvalidArgument",
    "InvalidItem",
    "InvalidResult",
    "Item",
    "ItemFailures",
    "ItemLike",
    "ItemsNotComparable",
    "Lifespan",
    "MisplacedCall",
    "OnError",
    "QueueTypeName",
    "RecordedFailure",
    "Reporter",
    "ReporterError",
    "ReporterSpec",
    "RunInfo",
    "RunResult",
    "SetDescFn",
    "StrayCancellation",
    "TerminalReporter",
    "__version__",
    "async_run_queue",
    "child_results",
    "current",
    "run_queue",
    "shared",
    "stop",
]
