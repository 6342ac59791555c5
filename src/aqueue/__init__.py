"""aqueue: run tree-like I/O-bound jobs with async workers, live progress and an event log."""

# The layers, each of which imports only those before it:
#
#   events, text, tracebacks    what happens, as data; untrusted text made safe; where the user's own code was
#   result, errors              what a run came to; everything that is raised
#   retry, limits               the policies, as data: further attempts, what a group may do
#   item, view, reporting       what users write; a run folded from its events; the Reporter protocol
#   _context, _codec            what an item's code may ask; results to JSON and back
#   _payload, _payload_writer,  items to JSON and back: whole items; their attributes written
#   _payload_reader, _flat      and read one by one; most items, which are plain data, at once
#   _state, _plain_state,       what there is to write of an object of each kind of class
#   _state_kinds
#   _tags, _types, _annotations single values, the names of classes, what annotations say
#   _outline                    what tells items apart that can't be stored
#   _loop, _signals             reaching into the loop from outside; SIGINT, SIGTERM, SIGHUP
#   _journal, _journal_file     the recorded events: written and read; the file itself
#   _bus, _tree, _queues        hands events on; who waits for whom; the order of items
#   _timers                     calls functions when their time has come
#   _keys, _ledger, _adoption   which keys are taken; what is recorded of an item; how it is known again
#   _attempt, _failures         one try of an item's method, and what its code may call; what failed for good
#   _offers, _groups            the groups that may start an item now; a queue that passes over the others
#   _watchdog                   tells which code keeps the loop to itself
#   _retrying, _timeouts        items that are tried again, and their waits; attempts that take too long
#   _engine                     workers, hooks, failing, stopping
#   _recording, _crashes,       the recorded events folded; what was running at crashes; what is left put back
#   _resume                     into an engine
#   _execution                  what the engine and a place elsewhere, where items run, ask of each other
#   _cluster                    such places: the worker processes of a Dask cluster
#   _settings                   what run_queue is given, checked
#   _run                        run_queue, async_run_queue: wires the rest
#
# Beside them: journal (reads results), log_context (log records that name the item) and testing (for those who write
# reporters).
# This module only re-exports.

from aqueue._context import Current, child_results, current, shared, slow_down, stop
from aqueue._engine import OnError
from aqueue._groups import Limits
from aqueue._queues import QueueTypeName
from aqueue._run import async_run_queue, run_queue
from aqueue._settings import Backend, Lifespan
from aqueue._version import __version__
from aqueue.errors import (
    AqueueError,
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
    MisplacedCall,
    NotAJournal,
    PayloadMismatch,
    PoisonItem,
    RecordedFailure,
    RemoteError,
    ReporterError,
    StrayCancellation,
    UnknownItemType,
    UnsendableItem,
    UnstorableItem,
)
from aqueue.item import AfterChildrenRule, EnqueueFn, Item, ItemLike, SetDescFn
from aqueue.journal import ItemResult, iter_results
from aqueue.limits import Limit
from aqueue.reporting import Reporter, ReporterSpec, RunInfo, TerminalReporter
from aqueue.result import FailureGroup, RunResult
from aqueue.retry import Retry, RetryAfter, parse_retry_after

__all__ = [
    "AfterChildrenRule",
    "AqueueError",
    "Backend",
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
