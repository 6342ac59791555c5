"""The messages between coordinator and lane, in MessagePack: orders to the lane, reports from it.

Code that uses more than a few of them imports the module, not the classes.
"""

from typing import Final, Literal

import msgspec


class LaneSettings(msgspec.Struct, frozen=True):
    """The settings with which a lane starts.

    Attributes:
        run_id: the run's name.
        coordinator: identifies the coordinator among those that the run has had: a resume brings a new one.
        number: identifies the lane among the coordinator's.
        backend: the event loop, ``trio`` or ``asyncio``.
        has_journal: whether items must be storable in a journal.
        lease_s: after how long without hearing from the coordinator it ends by itself, seconds.
    """

    run_id: str
    coordinator: str
    number: int
    backend: str
    has_journal: bool
    lease_s: float

    @property
    def lane(self) -> str:
        """The lane's name."""
        return f"aqueue-{self.run_id}-{self.coordinator}-{self.number}"


class Answer(msgspec.Struct, frozen=True):
    """A lane's answer to an exchange of letters.

    Attributes:
        process: identifies the process: another may get the same address.
        incarnation: identifies the lane among those of the same name; empty if there is none of that name.
        acknowledged: the number of the last of the coordinator's letters that it has taken.
        letters: its own, those that were not acknowledged.
    """

    process: str
    incarnation: str
    acknowledged: int
    letters: list[tuple[int, bytes]]


# ---- orders ---------------------------------------------------------------------------------------------------------


class Define(msgspec.Struct, frozen=True, array_like=True, tag_field="kind", tag=1):
    """Register classes and functions that later items refer to; see `aqueue._cluster.definitions`."""

    definitions: bytes


class Run(msgspec.Struct, frozen=True, array_like=True, tag_field="kind", tag=3):
    """Run the `process` of an item.

    Attributes:
        order: names this attempt.
        item: the item's number.
        type: its class, as ``module:qualname``.
        attempt: which try it is, from 1.
        worker: the worker's number.
        identity: the item's identity, the same in every rerun; empty without a journal.
        attempts_left: how many attempts may follow.
        timeout_s: how long it may take, seconds; None for no limit.
        needs_state: whether its hook will need the state that `process` leaves it with.
        data: the item.
        ancestors: those that the item refers to, and that these refer to, by number, the farthest first: each then
            finds the objects that it refers to. One within the other, a long chain of them would be too deep to load.
    """

    order: int
    item: int
    type: str
    attempt: int
    worker: int
    identity: bytes
    attempts_left: int
    timeout_s: float | None
    needs_state: bool
    data: bytes
    ancestors: dict[int, bytes]


class Begin(msgspec.Struct, frozen=True, array_like=True, tag_field="kind", tag=6):
    """Enter the lifespan: all definitions that it needs have been sent."""


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag_field="kind", tag=4):
    """Cancel all running items, and end."""


class End(msgspec.Struct, frozen=True, array_like=True, tag_field="kind", tag=5):
    """End once all items have run: no more orders follow."""


Order = Define | Begin | Run | Cancel | End

# ---- reports --------------------------------------------------------------------------------------------------------


class Ready(msgspec.Struct, frozen=True, array_like=True, tag_field="kind", tag=1):
    """The lane has entered its lifespan, and takes items."""

    host: str
    pid: int


class Enqueued(msgspec.Struct, frozen=True, array_like=True, tag_field="kind", tag=2):
    """An item enqueued a child."""

    order: int
    data: bytes


class Described(msgspec.Struct, frozen=True, array_like=True, tag_field="kind", tag=3):
    """An item set its description."""

    order: int
    text: str


Outcome = Literal["returned", "raised", "cancelled"]


class AttemptEnded(msgspec.Struct, frozen=True, array_like=True, tag_field="kind", tag=4):
    """An attempt has ended.

    Attributes:
        order: which.
        outcome: how.
        result: what `process` returned, as JSON; empty for None.
        state: the item's state, if it has changed.
        error: what `process` raised.
    """

    order: int
    outcome: Outcome
    result: bytes = b""
    state: bytes | None = None
    error: bytes = b""


class StopAsked(msgspec.Struct, frozen=True, array_like=True, tag_field="kind", tag=5):
    """An item called `aqueue.stop`."""

    order: int
    reason: str


class SlowDownAsked(msgspec.Struct, frozen=True, array_like=True, tag_field="kind", tag=6):
    """An item called `aqueue.slow_down`."""

    order: int
    group: str
    seconds: float


class Warned(msgspec.Struct, frozen=True, array_like=True, tag_field="kind", tag=7):
    """A warning for the user."""

    text: str


class LaneEnded(msgspec.Struct, frozen=True, array_like=True, tag_field="kind", tag=8):
    """The lane has ended; its last report.

    Attributes:
        error: what `lifespan` raised; empty if nothing.
    """

    error: bytes = b""


OfAttempt = Enqueued | Described | AttemptEnded | StopAsked | SlowDownAsked
Report = Ready | OfAttempt | Warned | LaneEnded

encode: Final = msgspec.msgpack.Encoder().encode
decode_orders: Final = msgspec.msgpack.Decoder(list[Order]).decode
decode_reports: Final = msgspec.msgpack.Decoder(list[Report]).decode
