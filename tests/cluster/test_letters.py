"""Letters come once each and in order, whatever becomes of the exchanges; and all that is in them comes back as it was.

What is in them is `_cluster.messages`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqueue._cluster import letters as module
from aqueue._cluster.letters import Inbox, Letter, Outbox, split_into_letters
from aqueue._cluster.messages import (
    Ancestors,
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
    encode_orders,
    encode_reports,
    size_of_report,
)


@contextmanager
def limits(**values: int) -> Iterator[None]:
    """Have letters be small."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setattr(module, name, value)
        yield


class Side:
    """One side of a connection, as links and lanes are: it writes, and takes what the other has written."""

    def __init__(self) -> None:
        self.outbox = Outbox()
        self.inbox = Inbox()
        self.written: list[bytes] = []
        self.taken: list[bytes] = []

    def write(self, content: bytes) -> None:
        self.written.append(content)
        self.outbox.write(content)

    def take(self, letters: list[Letter], acknowledged: int) -> None:
        self.outbox.acknowledge(acknowledged)
        self.taken += self.inbox.take(letters)


contents = st.binary(max_size=6)
steps = st.lists(
    st.tuples(st.just("write"), st.integers(0, 1), contents)
    | st.tuples(st.sampled_from(["arrives", "is lost", "arrives later", "arrives twice"]), st.integers(0, 1))
    | st.tuples(st.just("late"), st.integers(0, 30)),
    max_size=60,
)


@given(steps, st.integers(1, 12), st.sampled_from([1, 2, 1_000]))
def test_each_letter_is_taken_once_and_in_order(taken: list[Any], at_once: int, early: int) -> None:
    """However messages are lost, doubled, and brought out of order, in both directions."""
    sides = [Side(), Side()]
    underway: list[tuple[int, list[Letter], int]] = []

    def message(to: int) -> tuple[int, list[Letter], int]:
        here = sides[1 - to]
        return to, here.outbox.to_send(), here.inbox.acknowledged

    def arrive(to: int, sent: list[Letter], acknowledged: int) -> None:
        sides[to].take(sent, acknowledged)

    with limits(MAX_BYTES_AT_ONCE=at_once, _MAX_EARLY=early):
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
                assert sides[here].inbox.acknowledged == len(sides[here].taken)
        for _ in range(2 * len(taken) + 2):
            arrive(*message(0))
            arrive(*message(1))
    for here, there in ((0, 1), (1, 0)):
        assert sides[here].taken == sides[there].written
        assert len(sides[there].outbox) == 0
        assert sides[there].outbox.all() == sides[there].outbox.to_send() == []


@given(st.lists(contents, max_size=20), st.integers(-1, 25))
def test_what_is_acknowledged_is_forgotten(written: list[bytes], number: int) -> None:
    """All letters up to the number, and no others; an acknowledgement that comes late changes nothing."""
    outbox = Outbox()
    for content in written:
        outbox.write(content)
    outbox.acknowledge(number)
    outbox.acknowledge(number - 3)
    kept = [(one, content) for one, content in enumerate(written, 1) if one > number]
    assert outbox.all() == kept
    assert len(outbox) == len(kept)
    outbox.write(b"next")
    assert outbox.all()[-1] == (len(written) + 1, b"next")


@given(st.lists(contents, min_size=1, max_size=20), st.integers(0, 20))
def test_what_is_sent_in_one_go_is_bounded(written: list[bytes], at_once: int) -> None:
    """By bytes; but there is always one letter, however long it is, and no other is left out that would have had room."""
    outbox = Outbox()
    for content in written:
        outbox.write(content)
    with limits(MAX_BYTES_AT_ONCE=at_once):
        sent = outbox.to_send()
    assert sent == outbox.all()[: len(sent)]
    assert len(sent) >= 1
    assert len(sent) == 1 or sum(len(content) for _, content in sent) <= at_once
    if len(sent) < len(written):
        assert sum(map(len, written[: len(sent) + 1])) > at_once


@given(st.lists(st.integers(0, 12), max_size=40), st.integers(1, 5), st.integers(1, 20))
def test_messages_are_put_into_letters_in_their_order(sizes: list[int], count: int, most: int) -> None:
    """Each letter has no more of them than it may, and no more bytes, unless a single one is longer."""
    with limits(MAX_BYTES=most):
        made = [*split_into_letters(sizes, lambda size: size, count)]
    assert [size for some, _ in made for size in some] == sizes
    for some, size in made:
        assert sum(some) == size
        assert 1 <= len(some) <= count
        assert len(some) == 1 or size <= most
    for (some, size), (following, _) in pairwise(made):
        assert len(some) == count or size + following[0] > most


@given(st.lists(st.tuples(st.integers(-5, 3_000), contents), max_size=30))
def test_letters_that_nobody_has_written_do_no_harm(letters: list[Letter]) -> None:
    """What is not next is kept or dropped, and what is kept is bounded."""
    inbox = Inbox()
    given_out = inbox.take(letters)
    assert inbox.acknowledged == len(given_out)
    assert all(number <= inbox.acknowledged + 1_000 for number in inbox._early)


# ---- what is in letters -------------------------------------------------------------------------------------------

numbers = st.integers(0, 2**63 - 1)
blobs = st.binary(max_size=300)
texts = st.text(max_size=300)

ORDERS: dict[type, st.SearchStrategy[Order]] = {
    Define: st.builds(Define, blobs),
    Begin: st.builds(Begin),
    Ancestors: st.builds(Ancestors, st.dictionaries(numbers, blobs, max_size=3)),
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
    assert decode_orders(encode_orders(orders)) == orders


@given(st.lists(st.one_of(*REPORTS.values()), max_size=8))
def test_reports_come_back_as_they_were(reports: list[Report]) -> None:
    """Each is of its class again, with the same in it."""
    assert decode_reports(encode_reports(reports)) == reports


@given(st.one_of(*REPORTS.values()))
def test_the_size_of_a_report_is_told_about_right(report: Report) -> None:
    """It is at most a little less than what it takes, and at most four times as much."""
    real = len(encode_reports([report]))
    told = size_of_report(report)
    assert real - 30 <= told <= 4 * real + 20
