"""The settings of a run: the arguments of `run_queue`, checked before anything happens."""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import msgspec

from aqueue._arguments import SECONDS, WHOLE_NUMBER, accepts, check_number, check_one_of, is_path, not_allowed
from aqueue._engine.item_class import Policies
from aqueue._engine.queues import QUEUE_TYPES, QueueTypeName
from aqueue._engine.stopping import OnError, StopLimits
from aqueue._verbs import MAX_WORKERS
from aqueue.errors import ClusterError, InvalidArgument, MisplacedCall
from aqueue.item import ItemLike
from aqueue.limits import Limit, Limits
from aqueue.reporting import Reporter, ReporterSpec, resolve_reporters
from aqueue.retry import Retry
from aqueue.text import visible_repr

if TYPE_CHECKING:
    import distributed

__all__ = ["SPILL_AFTER", "Backend", "Lifespan", "Settings"]

Backend = Literal["trio", "asyncio"]
"""The event loop that a run uses."""

Lifespan = Callable[[], AbstractAsyncContextManager[Any]]
"""A function that returns an async context manager; what that yields is `aqueue.shared()`."""


SPILL_AFTER: Final = 100_000
"""How many waiting items are kept in memory by default: some 60 MB."""


class Settings(msgspec.Struct, frozen=True):
    """The arguments of `run_queue`, by the same names. `checked` raises if they are not allowed."""

    initial_items: Iterable[ItemLike]
    num_workers: int
    queue_type_name: QueueTypeName
    graceful_ctrl_c: bool
    reporter: ReporterSpec
    on_error: OnError
    lifespan: Lifespan | None
    journal: "str | os.PathLike[str] | None"
    resume: "str | os.PathLike[str] | None"
    retry: Retry | None
    timeout_s: float | None
    limits: Limits | None
    stop_after_s: float | None
    max_items: int | None
    max_failures: int | None
    grace_s: float | None
    spill_after: int | None
    retry_failed: bool
    only: Callable[[str], object] | None
    cluster: "str | distributed.Client | None"
    allow_insecure: bool
    control: bool
    backend: Backend | None = None  # None in the caller's own loop

    @property
    def policies(self) -> Policies:
        """The policies of all classes that have none of their own."""
        return Policies(self.retry, self.timeout_s)

    @property
    def stop_limits(self) -> StopLimits:
        """The limits that stop the run."""
        return StopLimits(self.stop_after_s, self.max_items, self.max_failures, self.grace_s)

    @property
    def runs_again(self) -> Callable[[str], object]:
        """Return, for the name of an item class, whether its items that are recorded as failed are run again."""
        return self.only or (lambda _: self.retry_failed)

    def checked(self) -> list[Reporter]:
        """Check everything, and return the reporters.

        Raises:
            MisplacedCall: Python's global interpreter lock is off.
            InvalidArgument: something is not allowed; the message names it.
            ClusterError: Dask is not installed.
            ReporterError: a reporter can't be loaded.
        """
        # Threads share lists, relying on that lock for each operation. Nothing has been tested without it.
        if hasattr(sys, "_is_gil_enabled") and not sys._is_gil_enabled():  # noqa: SLF001  # the documented way to ask
            raise MisplacedCall(
                "aqueue needs Python's global interpreter lock, which is off in this free-threaded build; start Python "
                "with PYTHON_GIL=1 in its environment, or with -X gil=1"
            )
        if isinstance(self.initial_items, str | bytes) or not isinstance(self.initial_items, Iterable):
            raise not_allowed("initial_items", self.initial_items, "an iterable of items, such as a list")
        check_number("num_workers", self.num_workers, 1, MAX_WORKERS, kind=WHOLE_NUMBER)
        check_one_of("queue_type_name", self.queue_type_name, list(QUEUE_TYPES))
        for name in ("graceful_ctrl_c", "retry_failed", "allow_insecure", "control"):
            if not isinstance(getattr(self, name), bool):
                raise not_allowed(name, getattr(self, name), "True or False")
        check_one_of("on_error", self.on_error, get_args(OnError))
        if self.lifespan is not None and not accepts(self.lifespan):
            allowed = "a function without arguments that returns an async context manager, or None"
            raise not_allowed("lifespan", self.lifespan, allowed)
        self._check_paths()
        self.policies.check("")
        self._check_limits()
        self._check_cluster()
        return resolve_reporters(self.reporter)

    def _check_paths(self) -> None:
        for name, path in (("journal", self.journal), ("resume", self.resume)):
            if path is not None and not is_path(path):
                raise not_allowed(name, path, "the path of a file, or None")
        if self.journal is not None and self.resume is not None:
            raise InvalidArgument(
                "journal and resume are both given; pass journal for a new run, or resume to continue one"
            )
        if self.only is not None and (not accepts(self.only, "module:Class") or iscoroutinefunction(self.only)):
            allowed = (
                "a function, not async, that takes the name of an item class, such as 'shop:Page', and returns whether to "
                "retry its failed items, or None"
            )
            raise not_allowed("only", self.only, allowed)
        if self.only is not None and not self.retry_failed:
            raise InvalidArgument(
                "only and retry_failed=False are both given; pass only to retry some of the failed items, or "
                "retry_failed=False to retry none"
            )
        if self.resume is None and (self.only is not None or not self.retry_failed):
            raise InvalidArgument(
                f"{'retry_failed=False' if self.only is None else 'only'} applies to the failed items of a recorded run; pass "
                "resume=…, that run's journal (which need not exist yet), or leave it out"
            )

    def _check_cluster(self) -> None:
        if self.cluster is None:
            if self.allow_insecure:
                raise InvalidArgument("allow_insecure=True applies to the connection to a cluster; pass cluster=…, too")
            return
        try:
            from aqueue._cluster.dask_transport import DaskTransport  # Dask is for those who have a cluster
        except ImportError as error:
            if (error.name or "").partition(".")[0] not in {"cloudpickle", "dask", "distributed"}:
                raise
            raise ClusterError(
                "a run on a cluster needs Dask's distributed; install aqueue with its extra: pip install "
                "'/path/to/aqueue[dask]'"
            ) from error

        DaskTransport(self.cluster, allow_insecure=self.allow_insecure)

    def _check_limits(self) -> None:
        limits = self.limits
        if isinstance(limits, Mapping):
            for name, limit in limits.items():
                if not isinstance(name, str) or not isinstance(limit, Limit):
                    raise InvalidArgument(
                        f"limits has {visible_repr(name)}: {visible_repr(limit)}; it must map each group, a string, to an "
                        "aqueue.Limit"
                    )
        elif limits is not None and not accepts(limits, "group"):
            allowed = (
                "a dict from group to aqueue.Limit, or a function that takes the group and returns an aqueue.Limit or None, "
                "or None"
            )
            raise not_allowed("limits", limits, allowed)
        check_number("stop_after_s", self.stop_after_s, 0, kind=SECONDS, or_none=True)
        check_number("max_items", self.max_items, 1, kind=WHOLE_NUMBER, or_none=True)
        check_number("max_failures", self.max_failures, 1, kind=WHOLE_NUMBER, or_none=True)
        check_number("grace_s", self.grace_s, 0, kind=SECONDS, or_none=True)
        check_number("spill_after", self.spill_after, 1, kind=WHOLE_NUMBER, or_none=True)
        if self.spill_after not in {None, SPILL_AFTER}:
            if self.journal is None and self.resume is None:
                raise InvalidArgument(
                    "spill_after keeps waiting items in the journal, but this run has none; pass journal=… or resume=…, or "
                    "leave it out"
                )
            if self.queue_type_name == "priority":
                raise InvalidArgument(
                    'spill_after has no effect with queue_type_name="priority", which compares items in memory; leave it out'
                )
        if self.max_failures is not None and self.on_error == "stop":
            raise InvalidArgument(
                'max_failures needs on_error="continue": with on_error="stop" the first failure stops the run'
            )
