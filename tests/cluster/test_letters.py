"""Letters come once each and in order, whatever becomes of the exchanges; and all that is in them comes back as it was.

What is in them is `_cluster.messages`.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqueue._cluster import letters as module
from aqueue._cluster.letters import Inbox, Letter, Outbox
from aqueue._cluster.messages import (
    AttemptEnded,
    Begin,
    Cancel,
    Define,
    Described,
    End,
    Enqueued,
    LaneEnded,
    Order,
    Ready,
    Report,
    Run,
    SlowDownAsked,
    StopAsked,
    Warned,
    decode_orders,
    decode_reports,
    encode,
)


@contextmanager
def limits(**values: int) -> Iterator[None]:
    """Have letters be small."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setattr(module, name, value)
        yield


def messages_of(contents: Iterable[bytes]) -> list[bytes]:
    """Return the messages in letters with these contents."""
    return [message for content in contents for message in msgspec.msgpack.decode(content, type=list[bytes])]


class Side:
    """One side of a connection, as links and lanes are: it writes, and takes what the other has written."""

    def __init__(self) -> None:
        self.outbox = Outbox()
        self.inbox = Inbox()
        self.written: list[bytes] = []
        self.taken: list[bytes] = []

    def write(self, content: bytes) -> None:
        self.written.append(content)
        self.outbox.write(encode(content))

    def take(self, letters: list[Letter], acknowledged: int) -> None:
        self.outbox.acknowledge(acknowledged)
        self.taken += messages_of(self.inbox.take(letters))


contents = st.binary(max_size=6)
steps = st.lists(
    st.tuples(st.just("write"), st.integers(0, 1), contents)
    | st.tuples(st.sampled_from(["arrives", "is lost", "arrives later", "arrives twice"]), st.integers(0, 1))
    | st.tuples(st.just("late"), st.integers(0, 30)),
    max_size=60,
)


@given(steps, st.integers(1, 12), st.integers(1, 30))
def test_each_letter_is_taken_once_and_in_order(taken: list[Any], most: int, at_once: int) -> None:
    """However messages are lost, doubled, and brought out of order, in both directions."""
    sides = [Side(), Side()]
    underway: list[tuple[int, list[Letter], int]] = []

    def message(to: int) -> tuple[int, list[Letter], int]:
        here = sides[1 - to]
        return to, here.outbox.to_send(), here.inbox.acknowledged

    def arrive(to: int, sent: list[Letter], acknowledged: int) -> None:
        sides[to].take(sent, acknowledged)

    with limits(MAX_BYTES=most, MAX_BYTES_AT_ONCE=at_once):
        for step in taken:
            match step:
                case "write", side, content:
                    sides[side].write(content)
                case "arrives", to:
                    arrive(*message(to))
                case "is lost", to:
                    message(to)
                case "arrives later", to:
                    underway.append(message(to))
                case "arrives twice", to:
                    underway.append(message(to))
                    arrive(*underway[-1])
                case "late", number if underway:
                    arrive(*underway.pop(number % len(underway)))
            for here, there in ((0, 1), (1, 0)):
                assert sides[here].taken == sides[there].written[: len(sides[here].taken)]
        for _ in range(2 * len(taken) + 2):
            arrive(*message(0))
            arrive(*message(1))
    for here, there in ((0, 1), (1, 0)):
        assert sides[here].taken == sides[there].written
        assert len(sides[there].outbox) == 0
        assert sides[there].outbox.to_send() == []
        assert sides[there].outbox.num_bytes == 0


@given(st.lists(contents, max_size=20), st.integers(-1, 25))
def test_what_is_acknowledged_is_forgotten(written: list[bytes], number: int) -> None:
    """All letters up to the number, and no others; an acknowledgement that comes late changes nothing."""
    outbox = Outbox()
    with limits(MAX_BYTES=1):
        for content in written:
            outbox.write(encode(content))
        outbox.to_send()
        outbox.acknowledge(number)
        outbox.acknowledge(number - 3)
        kept = [(one, encode([content])) for one, content in enumerate(written, 1) if one > number]
        assert outbox.to_send(1e9) == kept
        assert len(outbox) == len(kept)
        assert outbox.num_bytes == sum(len(content) for _, content in kept)
        outbox.write(encode(b"next"))
        assert outbox.to_send(1e9)[-1] == (len(written) + 1, encode([b"next"]))


@given(st.lists(contents, min_size=1, max_size=20), st.integers(1, 30), st.integers(0, 40))
def test_what_is_sent_is_bounded(written: list[bytes], most: int, at_once: int) -> None:
    """By bytes, in a letter and in one go; but there is always one, however long, and nothing is left out that has room."""
    outbox = Outbox()
    with limits(MAX_BYTES=most, MAX_BYTES_AT_ONCE=at_once):
        for content in written:
            outbox.write(encode(content))
        sent = outbox.to_send()
    letters = outbox.to_send(1e9)
    assert messages_of(content for _, content in letters) == written
    sizes = [[len(encode(message)) for message in messages_of([content])] for _, content in letters]
    assert all(sum(size) <= most or len(size) == 1 for size in sizes)
    assert all(sum(size) + following[0] > most for size, following in pairwise(sizes))
    assert sent == letters[: len(sent)]
    assert len(sent) == 1 or sum(len(content) for _, content in sent) <= at_once
    if len(sent) < len(letters):
        assert sum(len(content) for _, content in letters[: len(sent) + 1]) > at_once


@given(st.lists(st.tuples(st.integers(-5, 3_000), contents), max_size=30))
def test_letters_that_nobody_has_written_do_no_harm(letters: list[Letter]) -> None:
    """What is not next is dropped."""
    inbox = Inbox()
    given_out = inbox.take(letters)
    assert inbox.acknowledged == len(given_out)


# ---- what is in letters -------------------------------------------------------------------------------------------

numbers = st.integers(0, 2**63 - 1)
blobs = st.binary(max_size=300)
texts = st.text(max_size=300)

ORDERS: dict[type, st.SearchStrategy[Order]] = {
    Define: st.builds(Define, blobs),
    Begin: st.builds(Begin),
    Run: st.builds(
        Run,
        numbers,
        numbers,
        texts,
        numbers,
        numbers,
        blobs,
        numbers,
        st.none() | st.floats(0, allow_nan=False, allow_infinity=False),
        st.booleans(),
        blobs,
        st.dictionaries(numbers, blobs, max_size=3),
    ),
    Cancel: st.builds(Cancel),
    End: st.builds(End),
}

REPORTS: dict[type, st.SearchStrategy[Report]] = {
    Ready: st.builds(Ready, texts, numbers),
    Enqueued: st.builds(Enqueued, numbers, blobs),
    Described: st.builds(Described, numbers, texts),
    AttemptEnded: st.builds(
        AttemptEnded, numbers, st.sampled_from(["returned", "raised", "cancelled"]), blobs, st.none() | blobs, blobs
    ),
    StopAsked: st.builds(StopAsked, numbers, texts),
    SlowDownAsked: st.builds(SlowDownAsked, numbers, texts, st.floats(0, 1e9)),
    Warned: st.builds(Warned, texts),
    LaneEnded: st.builds(LaneEnded, blobs),
}


def test_all_messages_are_tried() -> None:
    """Each order and each report that there is stands in the tables of this file."""
    assert set(ORDERS) == set(get_args(Order))
    assert set(REPORTS) == set(get_args(Report))


@given(st.lists(st.one_of(*ORDERS.values()), max_size=8))
def test_orders_come_back_as_they_were(orders: list[Order]) -> None:
    """Each is of its class again, with the same in it."""
    assert decode_orders(encode(orders)) == orders


@given(st.lists(st.one_of(*REPORTS.values()), max_size=8))
def test_reports_come_back_as_they_were(reports: list[Report]) -> None:
    """Each is of its class again, with the same in it."""
    assert decode_reports(encode(reports)) == reports
