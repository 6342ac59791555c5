"""The transport over Dask: the one module that knows `distributed`, apart from the processes that it starts.

Everything goes through the scheduler, the one address that must be reachable. Letters are messages to a handler in the
worker, which the scheduler passes on (``broadcast``); a lane is a task, tied to its worker. Dask's own events are not
used: they may be dropped silently.
"""

import asyncio
import importlib.metadata
import ipaddress
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

import distributed
import msgspec
from distributed.comm.core import CommClosedError

from aqueue._cluster.letters import Letter
from aqueue._cluster.local_workers import LocalWorkers
from aqueue._cluster.messages import Answer, LaneSettings
from aqueue._cluster.transport import TransportError
from aqueue._cluster.worker import HANDLER, register_handler, run_lane
from aqueue._version import __version__
from aqueue.errors import ClusterError, InvalidArgument
from aqueue.text import visible, visible_repr

__all__ = ["DaskTransport"]

CONNECT_S: Final = 10.0
"""How long the scheduler may take to answer at the start, seconds."""

ANSWER_S: Final = 5.0
"""How long the scheduler may take to answer a question about itself, seconds."""

_EXPECTED_ENDS: Final = ("retired", "close-worker", "closing-worker")
"""What the scheduler logs of a worker that is told to leave. It also marks a removal as expected."""

_FAILURES: Final = (OSError, CommClosedError, RuntimeError, ValueError, KeyError, AttributeError, TypeError)
"""What Dask's versions raise when a connection is lost, a client is closed, or no answer comes."""

_SAFE: Final = ("tls://", "wss://", "inproc://")
_LOCAL: Final = "local:"
_ADDRESS: Final = re.compile(r"([a-z]+://)?\S+:(?P<port>[0-9]{1,5})|inproc://\S+")
_INVALID_CLUSTER: Final = (
    "cluster is {}; it must be a scheduler's address such as 'tls://host:8786', 'local:4' for four worker processes on "
    "this machine, a distributed.Client, or None"
)


class DaskTransport:
    """Reaches the workers of a Dask cluster; see `aqueue._cluster.transport.Transport`.

    Attributes:
        address: the scheduler's.
        loop: the client's event loop; set by `open`.
    """

    loop: asyncio.AbstractEventLoop

    def __init__(self, cluster: "str | distributed.Client", *, allow_insecure: bool) -> None:
        """Make a transport; `open` connects it.

        Parameters:
            cluster: the scheduler's address, ``local:N``, or a client.
            allow_insecure: whether a scheduler on another machine may be reached without TLS.

        Raises:
            InvalidArgument: `cluster` is not allowed.
        """
        self.address = ""
        self._local: LocalWorkers | None = None
        self._client: Any = None
        self._first: Any = None  # its event loop stays in use when the client is replaced
        self._owns_client = isinstance(cluster, str)
        self._is_closed = False
        self._security: Any = None
        if isinstance(cluster, str) and cluster.startswith(_LOCAL):
            self._local = LocalWorkers(_count(cluster))
            return
        if isinstance(cluster, distributed.Client):
            if cluster.asynchronous:
                raise InvalidArgument("cluster is an asynchronous Client; pass one made with asynchronous=False")
            scheduler: Any = cluster.scheduler
            if scheduler is None:
                raise InvalidArgument("cluster is a closed Client; pass a connected one")
            self._client, self._security, self.address = cluster, cluster.security, str(scheduler.address)
        elif isinstance(cluster, str) and (found := _ADDRESS.fullmatch(cluster)) and int(found["port"] or 0) <= 65_535:
            self.address = cluster
        else:
            raise InvalidArgument(_INVALID_CLUSTER.format(visible_repr(cluster)))
        if not (allow_insecure or self.address.startswith(_SAFE) or _is_loopback(self.address)):
            raise InvalidArgument(
                f"cluster is {visible_repr(self.address)}, a scheduler on another machine without TLS, and anyone who can "
                "reach its port can run programs on the cluster and on this machine; use a tls:// address, or pass "
                "allow_insecure=True if you trust everyone on the network"
            )

    # ---- opening and closing ------------------------------------------------------------------------------------

    def open(self) -> None:
        """Connect, and check the workers that are there; blocks."""
        if self._local is not None:
            try:
                self._local.start()
            except (OSError, RuntimeError) as error:
                raise ClusterError(f"worker processes can't be started on this machine: {error}") from error
            self.address = self._local.address
            self._security = self._local.security
        if self._client is None:
            try:
                self._client = self._connect()
            except Exception as error:  # Dask may raise anything; with odd settings, AssertionError
                raise ClusterError(
                    f"the scheduler at {visible(self.address, 200)} can't be reached: {_one_line(error)}; check that it is "
                    "running, that the address is right and, with tls://, that Dask's configuration has the certificates, or "
                    "pass a distributed.Client"
                ) from error
            if self._is_closed:  # by another thread, which may not have seen the client
                self.close()
                raise ClusterError("the run ended before it was connected to the cluster")
        self._first = self._client
        self.loop = self._first.loop.asyncio_loop
        try:
            problems = asyncio.run_coroutine_threadsafe(self._check_all(), self.loop).result()
        except TransportError as error:
            raise ClusterError(
                f"the scheduler at {visible(self.address, 200)} does not answer: {error}; check that it is running and "
                "reachable"
            ) from error
        if problems:
            reasons = "; ".join(
                f"{visible(address, 200)}: {problem}" for address, problem in sorted(problems.items())[:5]
            )
            several = f"{len(problems):,} worker processes" if len(problems) > 1 else "a worker process"
            raise ClusterError(f"{several} of the cluster at {visible(self.address, 200)} can't run items: {reasons}")

    def _connect(self) -> Any:
        if self.address.startswith("tls://"):
            # Dask's client, if it finds no certificates, keeps the program from ending for 20 s.
            security = self._security or distributed.Security()  # type: ignore[no-untyped-call]
            if security.get_connection_args("client").get("ssl_context") is None:
                raise ValueError("Dask's configuration has no certificates for TLS")
        return distributed.Client(  # type: ignore[no-untyped-call]
            self.address,
            security=self._security,
            timeout=CONNECT_S,
            set_as_default=False,
            name="aqueue",
        )

    def close(self) -> None:
        """Disconnect, and end the worker processes that were started here; blocks."""
        self._is_closed = True
        first, client = self._first, self._client
        with suppress(*_FAILURES):
            if first is not None and client is not first:
                asyncio.run_coroutine_threadsafe(_close(client), self.loop).result(5)
        with suppress(*_FAILURES):
            if self._owns_client and (first or client) is not None:
                (first or client).close(timeout=2)
        if self._local is not None:
            self._local.close()

    async def reconnect(self) -> None:
        """Make a new client where the old one has given up."""
        if self._client.status != "closed":
            return
        # The old client's loop keeps running: links live in it.
        with _failures_as_transport_errors():
            self._client = await distributed.Client(  # type: ignore[no-untyped-call]
                self.address,
                security=self._security,
                timeout=CONNECT_S,
                set_as_default=False,
                asynchronous=True,
            )

    # ---- worker processes ---------------------------------------------------------------------------------------

    async def members(self) -> Mapping[str, bool]:
        """Return the addresses of the workers, each with whether it takes new work."""
        with _failures_as_transport_errors():
            async with asyncio.timeout(ANSWER_S):
                every = await self._scheduler.ncores()
                running = await self._scheduler.ncores_running()
        return {address: address in running for address in every}

    async def has_died(self, address: str) -> bool:
        """Return whether a worker that is gone has died by itself, according to the scheduler's log.

        One that was retired or closed has not; of one that a new scheduler has never seen, nothing is known.
        """
        with _failures_as_transport_errors():
            async with asyncio.timeout(ANSWER_S):
                events = await self._scheduler.events(topic=address)
        was_told = has_died = False
        for _, event in events:
            action = event.get("action")
            if action == "add-worker":
                was_told = False
            elif action in _EXPECTED_ENDS:
                was_told = True
            elif action == "remove-worker":
                has_died = not (was_told or event.get("expected"))
        return has_died

    @property
    def _scheduler(self) -> Any:
        scheduler = self._client.scheduler
        if scheduler is None:  # the client has given up
            raise TransportError("the connection to the scheduler is closed")
        return scheduler

    async def _check_all(self) -> dict[str, str]:
        """Return what is wrong with the workers that can't run items. One that doesn't answer now may do so later."""

        async def check(address: str) -> str:
            with suppress(TransportError, TimeoutError):
                async with asyncio.timeout(CONNECT_S):
                    return await self._why_unusable(address)
            return ""

        members = await self.members()
        found = await asyncio.gather(*map(check, members))
        return {address: problem for address, problem in zip(members, found, strict=True) if problem}

    async def prepare(self, address: str, settings: LaneSettings) -> str:
        """Check a worker, register the handler for letters, and end the lanes of earlier coordinators of the run."""
        problem = await self._why_unusable(address)
        if not problem:
            await self._run(register_handler, address, settings.run_id, settings.coordinator)
        return problem

    async def _why_unusable(self, address: str) -> str:
        """Return why the worker can't run items; empty if it can."""
        theirs: Any = await self._run(platform.python_version, address)
        here = platform.python_version()
        if not isinstance(theirs, str) or theirs.split(".")[:2] != here.split(".")[:2]:
            return f"it has Python {visible(str(theirs), 100)}, and your program {here}; use the same minor version for both"
        try:
            version = await self._run(importlib.metadata.version, address, "aqueue")
        except importlib.metadata.PackageNotFoundError:
            return f"aqueue is not installed there; install aqueue {__version__} with its extra dask"
        if version != importlib.metadata.version("aqueue"):
            return (
                f"it has aqueue {visible(str(version), 100)}, and your program {__version__}; install the same version"
            )
        return ""

    async def _run(self, function: Any, address: str, *arguments: Any) -> Any:
        with _failures_as_transport_errors():
            replies = await self._client.run(
                function, *arguments, workers=[address], on_error="return", asynchronous=True
            )
        reply = replies.get(address)
        if isinstance(reply, importlib.metadata.PackageNotFoundError):
            raise reply
        if isinstance(reply, BaseException):
            raise TransportError(_one_line(reply)) from reply
        return reply

    # ---- lanes --------------------------------------------------------------------------------------------------

    async def run_lane(self, address: str, settings: LaneSettings) -> list[Letter]:
        """Run a lane as a task of the worker."""
        future = self._client.submit(
            run_lane,
            msgspec.msgpack.encode(settings),
            key=settings.lane,
            workers=[address],
            allow_other_workers=False,
            pure=False,
            retries=0,
        )
        gathering = asyncio.ensure_future(self._client.gather(future, asynchronous=True))
        gathering.add_done_callback(lambda done: done.cancelled() or done.exception())  # else asyncio logs it
        try:
            # Shielded: a gather that is cancelled leaves tasks behind that log errors.
            letters = await asyncio.shield(gathering)
        except Exception as error:  # the worker died, or the scheduler is lost
            raise TransportError(_one_line(error)) from error
        finally:
            with suppress(Exception):
                future.release()
        return [(number, content) for number, content in letters]

    async def exchange(
        self, address: str, lane: str, letters: list[Letter], acknowledged: int, wait_s: float
    ) -> Answer:
        """Hand letters to a lane and take its own, through the scheduler."""
        message = {"op": HANDLER, "lane": lane, "letters": letters, "acknowledged": acknowledged, "wait_s": wait_s}
        with _failures_as_transport_errors():
            replies = await self._scheduler.broadcast(msg=message, workers=[address], on_error="return_pickle")
            reply = replies[address]
            if isinstance(reply, dict) and "incarnation" in reply:
                return msgspec.convert(reply, Answer)
        raise TransportError("the worker process did not answer")


async def _close(client: Any) -> None:
    await client.close(timeout=2)


@contextmanager
def _failures_as_transport_errors() -> Iterator[None]:
    try:
        yield
    except _FAILURES as error:
        raise TransportError(_one_line(error)) from error


def _count(cluster: str) -> int:
    number = cluster.removeprefix(_LOCAL)
    if not number.isascii() or not number.isdigit() or not 1 <= int(number[:6]) <= 1_000:
        raise InvalidArgument(
            f"cluster is {visible_repr(cluster)}; after 'local:' write the number of worker processes, 1 to 1,000, as in "
            "'local:4'"
        )
    return int(number)


def _is_loopback(address: str) -> bool:
    host = address.rpartition("://")[2].rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _one_line(error: BaseException) -> str:
    return visible(f"{type(error).__name__}: {error}", 500)
