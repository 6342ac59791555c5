"""Matches new children of one class and parent with the recorded ones; the rules are those of `aqueue._engine.adoption`."""

from collections.abc import Iterable, Iterator
from itertools import chain, count
from typing import Any, Final

import msgspec

from aqueue._codec.digests import digest_of, encoded
from aqueue._engine.changed_classes import DUMP, KEY, ChangedClasses, listed
from aqueue._engine.ended_children import TAKEN, EndedChildren, EndedDigests
from aqueue._engine.recorded_child import Comparison, Names, OneChild, RecordedChild
from aqueue.errors import AdoptionMismatch

__all__ = ["Siblings"]

_MOST_SETS: Final = 16
"""How many different sets of attributes are compared, of recorded children and of new ones.

Objects of a class that has more have no set of attributes that an edit could have changed. The limit also bounds how often
the recorded children are read: once for each set of attributes that new ones have in common with them.
"""

_encode_json: Final = msgspec.json.Encoder().encode
_decode_json: Final = msgspec.json.Decoder(dict[str, Any]).decode


class Siblings:
    """The recorded children of one class and parent that have not been enqueued again.

    Attributes:
        new: how many children were enqueued that match none of them.
    """

    def __init__(self, type: str, changes: ChangedClasses, ended: EndedChildren, what: str) -> None:
        self.new = 0
        self._type = type
        self._what = what
        self._changes = changes
        self._announced = ended.announced
        self._ended_by_key = ended.by_key.get(type) or EndedDigests()
        self._ended_by_payload = ended.by_payload.get(type) or EndedDigests()
        self._by_key: dict[str, RecordedChild] = {}
        self._by_payload: dict[bytes, list[RecordedChild]] = {}  # the first of equal children comes last
        self._totals: dict[int, int] = {}
        self._all_have_keys = not self._ended_by_payload
        self._is_surveyed = False
        self._sets: dict[Names, set[int]] = {}  # the recorded sets of attributes, and the processes that recorded them
        self._comparisons: dict[tuple[object, ...], list[Comparison]] = {}  # by the attributes of new children
        self._alike: list[RecordedChild] = []  # taken by a child with other attributes
        self._known_alike: set[bytes] = set()  # `known_by` of those in `_alike` without a key

    def add(self, child: RecordedChild) -> None:
        """Add a waiting child in front of those added so far."""
        if child.key is not None:
            self._by_key[child.key] = child
        else:
            self._all_have_keys = False
            self._know(child, child.payload)

    def _know(self, child: RecordedChild, by: bytes) -> None:
        child.known_by = by
        self._by_payload.setdefault(by, []).append(child)

    def leave_room(self) -> None:
        """Set `ended_before` of each child, after all have been added."""
        if self._ended_by_payload.left:
            for equal in self._by_payload.values():
                before = -1
                for child in reversed(equal):
                    child.ended_before = child.occurrence - before - 1
                    before = child.occurrence

    @property
    def left(self) -> int:
        """How many children have not been enqueued again."""
        waiting = len(self._by_key) + sum(map(len, self._by_payload.values()))
        return waiting + self.ended_left

    @property
    def ended_left(self) -> int:
        """How many children that are done have not been enqueued again."""
        return self._ended_by_key.left + self._ended_by_payload.left

    def waiting(self) -> Iterator[RecordedChild]:
        """Yield the children that are neither done nor enqueued again."""
        yield from self._by_key.values()
        for equal in self._by_payload.values():
            yield from reversed(equal)

    def total(self, payload: bytes) -> int:
        """Return how many children had this payload, once all of them are matched."""
        ended = self._ended_by_payload
        # Children that were taken before the survey are counted under their whole payload.
        known_by = {payload, self._known_by(payload)} if ended else ()
        return self._totals.get(hash(payload), 0) + sum(ended.total(digest_of(one)) for one in known_by)

    def match(self, key: str | None, payload: bytes) -> RecordedChild | None:
        """Remove and return the child that matches this key and payload, if any.

        Raises:
            AdoptionMismatch: the match is ambiguous.
        """
        child = self._take(payload) if key is None else self._take_keyed(key)
        if child is not None:
            return child
        if key is not None and self._all_have_keys:
            return None  # a new key is a new item
        attributes = self._changes.attributes(self._type, payload)
        shape = (*attributes, key is not None)
        comparisons = self._comparisons.get(shape)
        if comparisons is None:
            if len(self._comparisons) == _MOST_SETS:
                return None
            was_surveyed = self._is_surveyed
            comparisons = self._comparisons[shape] = self._survey(
                Names(attributes if key is None else (*attributes, KEY))
            )
            if key is None and not was_surveyed:
                child = self._take(payload)
        return child or (self._take_alike(attributes, key, comparisons) if comparisons else None)

    # ---- the same key, or the same payload ----------------------------------------------------------------------

    def _take_keyed(self, key: str) -> RecordedChild | None:
        child = self._by_key.pop(key, None)
        if child is not None:
            self._take_as_same(child)
        elif self._ended_by_key.left:
            child = _ended_child(max(0, self._ended_by_key.take(digest_of(encoded(key)))), key)
        return child

    def _take(self, payload: bytes) -> RecordedChild | None:
        known_by = self._known_by(payload)
        ended = self._ended_by_payload
        equal = self._by_payload.get(known_by)
        number = 0
        if (equal is None or equal[-1].ended_before > 0) and (ended.left or ended.alike):
            number = ended.take(digest_of(known_by))
        if equal is None:
            if number == TAKEN or known_by in self._known_alike:
                raise AdoptionMismatch(
                    f"{self._what} of class {self._type} was not enqueued: it equals a recorded item, but one with other "
                    "attributes was enqueued before it, and has already matched that item. Enqueue items that have the recorded "
                    "attributes first, or restore the old class until the run has ended. Then run the same command again"
                )
            return _ended_child(number)
        first = equal[-1]
        if number > 0:
            first.ended_before -= 1
            return _ended_child(number)
        self._take_as_same(equal.pop())
        if not equal:
            del self._by_payload[known_by]
        which = hash(payload)
        self._totals[which] = self._totals.get(which, 0) + 1
        return first

    def _take_as_same(self, child: RecordedChild) -> None:
        child.is_taken = True
        if not self._is_surveyed:  # the survey won't see it any more
            names = self._changes.attributes(self._type, child.payload)
            recorded = Names(names if child.key is None else (*names, KEY))
            self._sets.setdefault(recorded, set()).add(self._changes.process_of(child.id))

    def _known_by(self, payload: bytes) -> bytes:
        """Return the `known_by` of a new child with this payload."""
        if self._is_surveyed and b'"$unset"' in payload:
            # pydantic models with the same values are the same item, whichever of their fields were set explicitly.
            known_by = _decode_json(payload)
            known_by.pop("$unset", None)
            return _encode_json(known_by)
        return payload

    # ---- other attributes than recorded -------------------------------------------------------------------------

    def _survey(self, names: Names) -> list[Comparison]:
        """Prepare the comparison of all children with new ones that have attributes of these `names`.

        The first survey also writes each child once more as today's class would write it, with the defaults of new fields.
        """
        compare, process_of, type = self._changes.compare, self._changes.process_of, self._type
        is_first, self._is_surveyed = not self._is_surveyed, True
        comparisons: dict[tuple[int, tuple[object, ...]], Comparison | None] = {}
        waiting = sorted(self.waiting(), key=lambda child: child.id, reverse=True)
        if is_first:
            self._by_payload = {}
        for one, number, key, payload in self._recorded(waiting):
            before, now, written = compare(type, payload)
            # Without a removed attribute, two different children could look equal.
            is_whole = now is before or before.keys() <= now.keys() or DUMP in now
            if DUMP in now:  # the class has load(), which has converted it
                before = now
            if is_first and key is None and one is not None:
                known_by = self._known_by(written if is_whole else payload)
                if isinstance(one, int):
                    self._ended_by_payload.change(one, digest_of(known_by))
                else:
                    self._know(one, known_by)
            process = process_of(number)
            shape = process, (*before, key is not None)
            if shape not in comparisons:
                recorded = Names(before if key is None else (*before, KEY))
                self._sets.setdefault(recorded, set()).add(process)
                # Other values of the same attributes, or another key, make another item.
                is_another = recorded == names or KEY in recorded & names
                comparisons[shape] = None if is_another else Comparison(recorded, names)
            comparison = comparisons[shape]
            if comparison is not None and one is not None:
                comparison.add(now if is_whole else {**before, **now}, one)
        if len(self._sets) > _MOST_SETS:
            return []
        # If one process enqueued items with both sets of attributes, the difference is no edit: some items have fewer.
        unedited = self._sets.get(names, set())
        merged: dict[Names, Comparison] = {}
        for (process, _), comparison in comparisons.items():
            if comparison is not None and process not in unedited:
                merged.setdefault(comparison.recorded, comparison).merge(comparison)
        return list(merged.values())

    def _recorded(self, waiting: Iterable[RecordedChild]) -> Iterator[tuple[OneChild | None, int, str | None, bytes]]:
        """Yield all children with number, key and payload; None instead of a done child that an equal one has matched."""
        for child in chain(waiting, self._alike):
            yield child, child.id, child.key, child.payload
        places = {self._ended_by_key: count(), self._ended_by_payload: count()}
        for number, type, key, payload in self._announced():
            if type == self._type:
                ended = self._ended_by_payload if key is None else self._ended_by_key
                place = next(places[ended])
                yield place if ended.has(place) or place in ended.alike else None, number, key, payload

    def _take_alike(
        self, attributes: dict[str, Any], key: str | None, comparisons: list[Comparison]
    ) -> RecordedChild | None:
        """Take the only child with other attributes that has the same values in the common ones."""
        found: list[tuple[OneChild, Comparison]] = []
        for comparison in comparisons:
            digest = comparison.digest(attributes)
            alike = None if digest is None else comparison.alike.get(digest)
            if isinstance(alike, list):
                # Two are enough to know that the match is ambiguous. The others aren't looked at again.
                possible: list[OneChild] = []
                while alike and len(possible) < 2:
                    one = alike.pop()
                    if not self._is_the_same_as_another(one, comparison):
                        possible.append(one)
                alike += possible
                found += ((one, comparison) for one in possible)
            elif alike is not None and not self._is_the_same_as_another(alike, comparison):
                found.append((alike, comparison))
        names = tuple(attributes) if key is None else (*attributes, KEY)
        if len(found) == 1:
            child = self._take_out(*found[0])
            if child is not None:
                self._changes.name_once(self._type, found[0][1].recorded, names)
                return child
        if key is not None and self._changes.is_duplicate(self._type, key):
            return None
        if found:
            raise self._mismatch(names, f"several of them have the same {listed(found[0][1].common)}")
        if Names(names) not in self._sets and not all(one.common for one in comparisons) and self.left:
            raise self._mismatch(names, "they have no attribute in common")
        return None

    def _ended_of(self, comparison: Comparison) -> EndedDigests:
        return self._ended_by_key if KEY in comparison.recorded else self._ended_by_payload

    def _is_the_same_as_another(self, one: OneChild, comparison: Comparison) -> bool:
        """Return whether a new child with the same key or payload has taken `one`."""
        if isinstance(one, int):
            ended = self._ended_of(comparison)
            return not ended.has(one) and one not in ended.alike
        return one.is_taken and not one.is_alike

    def _take_out(self, one: OneChild, comparison: Comparison) -> RecordedChild | None:
        """Take the only match; return None if another new child has taken it before."""
        if isinstance(one, int):
            ended = self._ended_of(comparison)
            number = ended.take_at(one)
            if not number:
                return None
            ended.alike.add(one)
            child = RecordedChild(number, None, None, b"", b"")
        elif one.is_taken:
            return None
        else:
            child = one
            one.is_taken = one.is_alike = True
            self._alike.append(one)
            if one.key is not None:
                del self._by_key[one.key]
            else:
                self._known_alike.add(one.known_by)
                equal = self._by_payload[one.known_by]
                equal.remove(one)
                if not equal:
                    del self._by_payload[one.known_by]
        return child

    def _mismatch(self, names: Iterable[str], why: str) -> AdoptionMismatch:
        recorded = " or ".join(listed(one) for one in sorted(self._sets, key=sorted))
        return AdoptionMismatch(
            f"{self._what} of class {self._type} was not enqueued, since it can't be matched with the recorded items: the class "
            f"was recorded with {recorded}, and has {listed(names)} now; {why}. Give each new attribute a default for the "
            "recorded items in the class (in __init__ for a plain class), keep the old name of a renamed attribute, or restore "
            "the old class until the run has ended. Then run the same command again"
        )


def _ended_child(number: int, key: str | None = None) -> RecordedChild | None:
    return RecordedChild(number, None, key, b"", b"") if number else None
