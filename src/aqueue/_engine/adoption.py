"""Adoption: a parent that runs again enqueues its children again, and each is matched with the recorded one.

A child with a key matches the recorded one with the same type and key. Another matches by type and payload, the first
such child with the first recorded, the second with the second, and so on.

The program may have been edited in between. A child whose class has other attributes than recorded matches by those that
both have, if they fit one recorded child and one new one only. Where they don't tell, nothing is enqueued, since guessing
would lose a child or run one twice (`AdoptionMismatch`).
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, count
from operator import itemgetter
from typing import Any, Final, Protocol

import msgspec

from aqueue._codec.class_names import previous_names_of
from aqueue._codec.digests import DIGEST_BYTES, KeySet, digest_of, encoded
from aqueue._engine.tree import Node
from aqueue._system.notice import warn
from aqueue.errors import AdoptionMismatch, UnknownItemType
from aqueue.text import visible

__all__ = ["Announced", "ChangedClasses", "EndedChildren", "RecordedChild", "RecordedChildren"]


class RecordedChild(msgspec.Struct, gc=False, eq=False):
    """A child that an earlier attempt of its parent enqueued.

    Attributes:
        id: its number.
        node: its node; None if its subtree has ended well, so that nothing is left to do.
        key: its key, if it has one.
        payload: its payload as it was announced, by which it is known again.
        state: its latest recorded payload: another one if it was adopted with other attributes.
        occurrence: how many earlier children of its parent had the same type and payload.
        ended_before: how many of those have ended and are to be matched after the equal one before it, and before it.
        known_by: its payload as today's class writes it, once that has been asked for.
        is_taken: whether it was enqueued again.
        is_alike: whether it was so with another set of attributes.
    """

    id: int
    node: Node | None
    key: str | None
    payload: bytes
    state: bytes
    occurrence: int = 0
    ended_before: int = 0
    known_by: bytes = b""
    is_taken: bool = False
    is_alike: bool = False


_TAKEN: Final = -1

_KEY: Final = "$key"
"""Stands for the key among the names of attributes; no attribute has such a name."""

_DUMP: Final = "$dump"
"""What `aqueue._codec.item_codec.PayloadCodec.attributes` calls what dump() returned."""

_MOST_SETS: Final = 16
"""How many different sets of attributes are compared, of recorded children and of new ones.

Objects of a class that has more have no set of attributes that an edit could have changed. The limit also bounds how often
the recorded children are read: once for each set of attributes that new ones have in common with them.
"""

Announced = tuple[int, str, str | None, bytes]
"""What an announcement says of a child: its number, the name of its class today, its key and its payload."""

_Names = frozenset[str]
_encode_json: Final = msgspec.json.Encoder().encode
_decode_json: Final = msgspec.json.Decoder(dict[str, Any]).decode


class _Codec(Protocol):
    """What is asked of today's classes; see `aqueue._codec.item_codec.PayloadCodec`."""

    def resolve(self, type_name: str) -> type: ...
    def attributes(self, type_name: str, payload: bytes) -> dict[str, Any]: ...
    def compare(self, type_name: str, payload: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]: ...


class ChangedClasses:
    """Compares what was recorded with today's classes, and says once per class that one has changed."""

    def __init__(self, codec: _Codec, keys: KeySet, first_ids: Sequence[int]) -> None:
        """Compare by `codec`; the run knows these `keys`, and each of its processes enqueued items from such a number on."""
        self._codec = codec
        self._keys = keys
        self._first_ids = first_ids
        self._names: dict[str, tuple[str, ...]] = {}
        self.attributes = codec.attributes
        self.compare = codec.compare
        self._named: set[str] = set()
        self._others_named: set[str] = set()

    def is_gone(self, type: str) -> bool:
        """Tell whether the program has no class of that name."""
        try:
            self._codec.resolve(type)
        except UnknownItemType:
            return True
        return False

    def process_of(self, number: int) -> int:
        """Return which process enqueued the item of that number: 1 for the first."""
        return bisect_right(self._first_ids, number)

    def is_duplicate(self, type: str, key: str) -> bool:
        """Tell whether the run knows an item of class `type` with this key."""
        names = self._names.get(type)
        if names is None:
            names = self._names[type] = (type, *previous_names_of(self._codec.resolve(type)))
        return self._keys.knows(names, key)

    def name_others_once(self, type: str, parent: str, left: int, new: int) -> None:
        """Warn that `parent` has enqueued `new` children of class `type`, and `left` not again that have completed."""
        if type not in self._others_named:
            self._others_named.add(type)
            warn(
                f"{parent} did not enqueue {left:,} completed item{'s' if left > 1 else ''} of class {type} again, but {new:,} "
                f"other{'s' if new > 1 else ''}: if these are the same with another value or key, they run a second time"
            )

    def name_once(self, type: str, before: Iterable[str], now: Iterable[str]) -> None:
        """Warn that items of class `type` were matched although they have other attributes than recorded."""
        if type not in self._named:
            self._named.add(type)
            warn(
                f"{type} was recorded with {_listed(before)}, and has {_listed(now)} now: items that are the same otherwise "
                "are taken for the recorded ones, and are not run twice"
            )


class _Ended:
    """The numbers of ended children of one class, each found by the digest of what identifies it: its payload or its key.

    A digest takes 16 bytes per child while they are taken out in the order they came in, as a parent does that runs again
    unchanged. Otherwise those that are left are put into a dict. Two payloads that differ are taken for equal with a
    probability of 2^-128 per pair, as two keys are.

    Attributes:
        left: how many have not been taken out.
        alike: the places of those that were taken out though the digest was another.
    """

    __slots__ = ("_digests", "_equals", "_next", "_numbers", "_places", "_taken", "_totals", "alike", "left")

    def __init__(self) -> None:
        self.left = 0
        self.alike: set[int] = set()
        self._digests = bytearray()
        self._numbers = array("q")
        self._next = 0  # all before this place have been taken out
        self._taken = bytearray()  # and those whose place has a 1, if any
        self._places: dict[bytes, int] | None = None  # the first place of each digest that may be left
        self._equals: dict[int, int] = {}  # and of equal ones, which place comes after which
        self._totals: dict[bytes, int] | None = None

    def __len__(self) -> int:
        """Return how many were put in."""
        return len(self._numbers)

    def add(self, number: int, digest: bytes) -> None:
        """Put one in; only before one is taken out or `total` is called."""
        self._digests += digest
        self._numbers.append(number)
        self.left += 1

    def take(self, digest: bytes) -> int:
        """Take out the first that has this digest, and return its number.

        Returns 0 if there is none, and `_TAKEN` if the only one was taken out as alike.
        """
        if self._places is None:
            if self.digest(self._next) == digest:
                number = self.take_at(self._next)
                if number:
                    return number
            places = self._places = {}
            for place in reversed(range(0 if self.alike else self._next, len(self._numbers))):
                if place < self._next and place not in self.alike:
                    continue
                other = self.digest(place)
                if other in places:
                    self._equals[place] = places[other]
                places[other] = place
        place = self._places.pop(digest, -1)
        if place in self._equals:
            self._places[digest] = self._equals.pop(place)
        if place < 0:
            return 0
        number = self.take_at(place) or self.take(digest)
        if place not in self.alike:
            return number
        if digest in self._places:
            self._equals[place] = self._places[digest]
        self._places[digest] = place
        return number or _TAKEN

    def take_at(self, place: int) -> int:
        """Take out the one that was put in as the `place`-th, from 0, and return its number; 0 if it was taken before."""
        if not self.has(place):
            return 0
        self.left -= 1
        if place == self._next:
            self._next += 1
        else:
            self._taken = self._taken or bytearray(len(self._numbers))
            self._taken[place] = 1
        return self._numbers[place]

    def has(self, place: int) -> bool:
        """Tell whether the one that was put in as the `place`-th, from 0, has not been taken out."""
        return place >= self._next and not (self._taken and self._taken[place])

    def change(self, place: int, digest: bytes) -> None:
        """Have the one that was put in as the `place`-th, from 0, found by another digest."""
        self._digests[place * DIGEST_BYTES : (place + 1) * DIGEST_BYTES] = digest
        self._places = self._totals = None
        self._equals.clear()

    def total(self, digest: bytes) -> int:
        """Return how many with this digest were put in."""
        if self._totals is None:
            self._totals = {}
            for place in range(len(self._numbers)):
                other = self.digest(place)
                self._totals[other] = self._totals.get(other, 0) + 1
        return self._totals.get(digest, 0)

    def digest(self, place: int) -> bytes:
        """Return by what the one that was put in as the `place`-th, from 0, is found."""
        return bytes(self._digests[place * DIGEST_BYTES : (place + 1) * DIGEST_BYTES])


class EndedChildren:
    """The children whose subtrees have ended well, without their payloads: there may be a million of them.

    Attributes:
        by_key, by_payload: those with and without a key, by the name of their class today.
        announced: reads their announcements, once more each time.
    """

    def __init__(self, announced: Callable[[], Iterable[Announced]] = tuple) -> None:
        """Take the children that `announced` gives."""
        self.announced = announced
        self.by_key: dict[str, _Ended] = {}
        self.by_payload: dict[str, _Ended] = {}
        for number, type, key, payload in announced():
            children = self.by_payload if key is None else self.by_key
            ended = children.get(type)
            if ended is None:
                ended = children[type] = _Ended()
            ended.add(number, digest_of(payload if key is None else encoded(key)))


_One = RecordedChild | int
"""A recorded child; one that has ended by its place among those with a key, or among those without."""


class _Comparison:
    """The recorded children of one class with the same set of attributes, compared with new ones that have another set.

    Attributes:
        recorded: the names of the attributes that were recorded.
        common: the names of those that the new ones have, too.
        alike: the children by the digest of the values of these; more than one in a list.
    """

    __slots__ = ("_values", "alike", "common", "recorded")

    def __init__(self, recorded: _Names, names: _Names) -> None:
        self.recorded = recorded
        self.common = sorted(recorded & names)
        self.alike: dict[bytes, _One | list[_One]] = {}
        self._values = itemgetter(*self.common) if self.common else None

    def digest(self, attributes: dict[str, Any]) -> bytes | None:
        """Return by what a child with these attributes is found; None if it is not, since no attribute is in common."""
        return None if self._values is None else digest_of(_encode_json(self._values(attributes)))

    def add(self, attributes: dict[str, Any], one: _One) -> None:
        """Put in a child with these attributes."""
        digest = self.digest(attributes)
        if digest is not None:
            self._add(digest, one)

    def _add(self, digest: bytes, one: _One) -> None:
        before = self.alike.setdefault(digest, one)
        if isinstance(before, list):
            before.append(one)
        elif before is not one:
            self.alike[digest] = [before, one]

    def merge(self, other: "_Comparison") -> None:
        """Put in those of `other`, which have the same set of attributes."""
        for digest, alike in other.alike.items() if other is not self else ():
            for one in alike if isinstance(alike, list) else [alike]:
                self._add(digest, one)


class _Siblings:
    """The recorded children of one class and parent, less those that were enqueued again.

    Attributes:
        new: how many were enqueued that are none of these.
    """

    def __init__(self, type: str, changes: ChangedClasses, ended: EndedChildren, what: str) -> None:
        self.new = 0
        self._type = type
        self._what = what
        self._changes = changes
        self._announced = ended.announced
        self._ended_by_key = ended.by_key.get(type) or _Ended()
        self._ended_by_payload = ended.by_payload.get(type) or _Ended()
        self._by_key: dict[str, RecordedChild] = {}
        self._by_payload: dict[bytes, list[RecordedChild]] = {}  # of equal ones the first is the last
        self._totals: dict[int, int] = {}
        self._all_have_keys = not self._ended_by_payload
        self._is_surveyed = False
        self._sets: dict[_Names, set[int]] = {}  # of attributes that were recorded, and by which processes
        self._comparisons: dict[tuple[object, ...], list[_Comparison]] = {}  # by the attributes of new ones
        self._alike: list[RecordedChild] = []  # those taken out because they were alike
        self._known_alike: set[bytes] = set()  # what those of them are known by that have no key

    def add(self, child: RecordedChild) -> None:
        """Put in one that has not ended, before all that were put in so far."""
        if child.key is not None:
            self._by_key[child.key] = child
        else:
            self._all_have_keys = False
            self._know(child, child.payload)

    def _know(self, child: RecordedChild, by: bytes) -> None:
        child.known_by = by
        self._by_payload.setdefault(by, []).append(child)

    def leave_room(self) -> None:
        """Note for each child how many of its equals, which have ended, come before it."""
        if self._ended_by_payload.left:
            for equal in self._by_payload.values():
                before = -1
                for child in reversed(equal):
                    child.ended_before = child.occurrence - before - 1
                    before = child.occurrence

    @property
    def left(self) -> int:
        """How many have not been enqueued again."""
        waiting = len(self._by_key) + sum(map(len, self._by_payload.values()))
        return waiting + self.ended_left

    @property
    def ended_left(self) -> int:
        """How many that have ended have not been enqueued again."""
        return self._ended_by_key.left + self._ended_by_payload.left

    def waiting(self) -> Iterator[RecordedChild]:
        """Iterate over those that have neither ended nor been enqueued again."""
        yield from self._by_key.values()
        for equal in self._by_payload.values():
            yield from reversed(equal)

    def total(self, payload: bytes) -> int:
        """Return how many this payload has matched, if none is left that it would match."""
        ended = self._ended_by_payload
        # Those that were taken out before the others were looked through are still found by the whole payload.
        known_by = {payload, self._known_by(payload)} if ended else ()
        return self._totals.get(hash(payload), 0) + sum(ended.total(digest_of(one)) for one in known_by)

    def match(self, key: str | None, payload: bytes) -> RecordedChild | None:
        """Take out and return the child that an item of this key and payload repeats, if any.

        Raises:
            AdoptionMismatch: which one it repeats can't be told.
        """
        child = self._take(payload) if key is None else self._take_keyed(key)
        if child is not None:
            return child
        if key is not None and self._all_have_keys:
            return None  # with another key it is another item
        attributes = self._changes.attributes(self._type, payload)
        shape = (*attributes, key is not None)
        comparisons = self._comparisons.get(shape)
        if comparisons is None:
            if len(self._comparisons) == _MOST_SETS:
                return None
            was_surveyed = self._is_surveyed
            comparisons = self._comparisons[shape] = self._survey(
                _Names(attributes if key is None else (*attributes, _KEY))
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
            if number == _TAKEN or known_by in self._known_alike:
                raise AdoptionMismatch(
                    f"{self._what} of class {self._type} is the same as one that is recorded, but one with other attributes was "
                    "enqueued before it, and was taken for that; it was not enqueued. Enqueue those with the attributes that "
                    "were recorded first, or put the class back as it was until the run has ended; then run the same command again"
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
        if not self._is_surveyed:  # afterwards it is no more there to be asked
            names = self._changes.attributes(self._type, child.payload)
            recorded = _Names(names if child.key is None else (*names, _KEY))
            self._sets.setdefault(recorded, set()).add(self._changes.process_of(child.id))

    def _known_by(self, payload: bytes) -> bytes:
        """Return what a child with this payload is known by."""
        if self._is_surveyed and b'"$unset"' in payload:
            # Which fields of a pydantic model were set, and which have their defaults, makes no other item of it.
            known_by = _decode_json(payload)
            known_by.pop("$unset", None)
            return _encode_json(known_by)
        return payload

    # ---- other attributes than recorded -------------------------------------------------------------------------

    def _survey(self, names: _Names) -> list[_Comparison]:
        """Compare all that are left with new ones that have attributes of these `names`.

        The first time they are written once more as today's class writes them: it may have got a field with a default.
        """
        compare, process_of, type = self._changes.compare, self._changes.process_of, self._type
        is_first, self._is_surveyed = not self._is_surveyed, True
        comparisons: dict[tuple[int, tuple[object, ...]], _Comparison | None] = {}
        waiting = sorted(self.waiting(), key=lambda child: child.id, reverse=True)
        if is_first:
            self._by_payload = {}
        for one, number, key, payload in self._recorded(waiting):
            before, now, written = compare(type, payload)
            # What has lost an attribute may be the same as another that differs in that alone.
            is_whole = now is before or before.keys() <= now.keys() or _DUMP in now
            if _DUMP in now:  # load() has made today's item of what was recorded
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
                recorded = _Names(before if key is None else (*before, _KEY))
                self._sets.setdefault(recorded, set()).add(process)
                # With other values of the same attributes, or with another key, it is another item.
                is_another = recorded == names or _KEY in recorded & names
                comparisons[shape] = None if is_another else _Comparison(recorded, names)
            comparison = comparisons[shape]
            if comparison is not None and one is not None:
                comparison.add(now if is_whole else {**before, **now}, one)
        if len(self._sets) > _MOST_SETS:
            return []
        # Where one process has enqueued items with either set of attributes, that is no edit: some may have fewer.
        unedited = self._sets.get(names, set())
        merged: dict[_Names, _Comparison] = {}
        for (process, _), comparison in comparisons.items():
            if comparison is not None and process not in unedited:
                merged.setdefault(comparison.recorded, comparison).merge(comparison)
        return list(merged.values())

    def _recorded(self, waiting: Iterable[RecordedChild]) -> Iterator[tuple[_One | None, int, str | None, bytes]]:
        """Iterate over all, each with its number, key and payload; None for the ended ones that the same was taken for."""
        for child in chain(waiting, self._alike):
            yield child, child.id, child.key, child.payload
        places = {self._ended_by_key: count(), self._ended_by_payload: count()}
        for number, type, key, payload in self._announced():
            if type == self._type:
                ended = self._ended_by_payload if key is None else self._ended_by_key
                place = next(places[ended])
                yield place if ended.has(place) or place in ended.alike else None, number, key, payload

    def _take_alike(
        self, attributes: dict[str, Any], key: str | None, comparisons: list[_Comparison]
    ) -> RecordedChild | None:
        """Take out the only child that has other attributes, and the same values in those that one with these has, too."""
        found: list[tuple[_One, _Comparison]] = []
        for comparison in comparisons:
            digest = comparison.digest(attributes)
            alike = None if digest is None else comparison.alike.get(digest)
            if isinstance(alike, list):
                # Two are enough to know that there is not one only; those that drop out are not looked at again.
                possible: list[_One] = []
                while alike and len(possible) < 2:
                    one = alike.pop()
                    if not self._is_the_same_as_another(one, comparison):
                        possible.append(one)
                alike += possible
                found += ((one, comparison) for one in possible)
            elif alike is not None and not self._is_the_same_as_another(alike, comparison):
                found.append((alike, comparison))
        names = tuple(attributes) if key is None else (*attributes, _KEY)
        if len(found) == 1:
            child = self._take_out(*found[0])
            if child is not None:
                self._changes.name_once(self._type, found[0][1].recorded, names)
                return child
        if key is not None and self._changes.is_duplicate(self._type, key):
            return None
        if found:
            raise self._mismatch(names, f"more than one is the same in {_listed(found[0][1].common)}")
        if _Names(names) not in self._sets and not all(one.common for one in comparisons) and self.left:
            raise self._mismatch(names, "no attribute is the same")
        return None

    def _ended_of(self, comparison: _Comparison) -> _Ended:
        return self._ended_by_key if _KEY in comparison.recorded else self._ended_by_payload

    def _is_the_same_as_another(self, one: _One, comparison: _Comparison) -> bool:
        """Tell whether `one` was taken out by a new child with the same key or payload, so that this can't be it."""
        if isinstance(one, int):
            ended = self._ended_of(comparison)
            return not ended.has(one) and one not in ended.alike
        return one.is_taken and not one.is_alike

    def _take_out(self, one: _One, comparison: _Comparison) -> RecordedChild | None:
        """Take out the only one that is alike; None if another new one was before, which is alike, too."""
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
        recorded = " or ".join(_listed(one) for one in sorted(self._sets, key=sorted))
        return AdoptionMismatch(
            f"{self._what} of class {self._type} may be one that is recorded, or another: the class was recorded with "
            f"{recorded}, and has {_listed(names)} now; {why}; it was not enqueued. Give what is new a default in the class "
            "(in __init__, if it is a plain class) that recorded items are to have, keep the old name of an attribute that was "
            "renamed, or put the class back as it was until the run has ended; then run the same command again"
        )


class RecordedChildren:
    """The recorded children of a parent that runs again, less those that it has enqueued again.

    Attributes:
        holders: the nodes below the parent whose items hold the parent's item, and are to hold the object that takes its
            place, each with its recorded state; in the order of their numbers.
        first_new: the type, key and payload of the first that matched none of these; None if each did.
    """

    def __init__(
        self,
        children: Sequence[tuple[str, RecordedChild]],
        changes: ChangedClasses,
        ended: EndedChildren,
        what: str = "a child",
    ) -> None:
        """Take children, each with the name of its class today.

        Parameters:
            children: those that have not ended well, in the order in which they were enqueued.
            changes: compares them with today's classes.
            ended: the others.
            what: what they are called in messages.
        """
        self.holders: list[tuple[Node, bytes]] = []
        self.first_new: tuple[str, str | None, bytes] | None = None
        self._changes = changes
        self._what = what
        types = {type for type, _ in children} | ended.by_key.keys() | ended.by_payload.keys()
        self._of = {type: _Siblings(type, changes, ended, what) for type in types}
        self._gone: list[str] | None = None
        for type, child in reversed(children):
            self._of[type].add(child)
        for siblings in self._of.values():
            siblings.leave_room()

    def match(self, type: str, key: str | None, payload: bytes) -> RecordedChild | None:
        """Take out and return the recorded child that an item of this type, key and payload repeats, if any.

        Raises:
            AdoptionMismatch: the program has been changed, and which one it repeats can't be told.
        """
        siblings = self._of.get(type)
        if siblings is None:
            self._refuse_if_renamed(type)
            child = None
        else:
            child = siblings.match(key, payload)
        if child is None:
            if siblings is not None and (key is None or not self._changes.is_duplicate(type, key)):
                siblings.new += 1
            if self.first_new is None:
                self.first_new = type, key, payload
        return child

    def name_others(self, parent: str) -> None:
        """Warn if `parent` has enqueued new children of a class instead of some that have completed."""
        for type, siblings in self._of.items():
            if siblings.new and siblings.ended_left:
                self._changes.name_others_once(type, parent, siblings.ended_left, siblings.new)

    def _refuse_if_renamed(self, type: str) -> None:
        """Raise `AdoptionMismatch` if children are recorded of classes that are gone: one of them may be this one now."""
        if self._gone is None:
            self._gone = sorted(one for one in self._of if self._changes.is_gone(one))
        if self._gone:
            raise AdoptionMismatch(
                f"{self._what} of class {type} may be one that is recorded, or another: those of "
                f"{', '.join(self._gone[:5])} are recorded, which the program doesn't have now; it was not enqueued. If the "
                f"class was renamed or moved, add previous_names = ({visible(self._gone[0], 300)!r},) to what it is now; "
                "otherwise keep the old class until the run has ended; then run the same command again"
            )

    def has_changed(self, child: RecordedChild, type: str, payload: bytes) -> bool:
        """Tell whether `payload`, of the item that repeats `child`, is another than recorded."""
        return payload != child.state and payload != self._changes.compare(type, child.state)[2]

    def total(self, type: str, payload: bytes) -> int:
        """Return how many recorded children this type and payload have matched, if none is left that it would match."""
        siblings = self._of.get(type)
        return 0 if siblings is None else siblings.total(payload)

    @property
    def left(self) -> int:
        """How many have not been enqueued again."""
        return sum(siblings.left for siblings in self._of.values())

    def __iter__(self) -> Iterator[RecordedChild]:
        """Iterate over those not matched that have not ended."""
        for siblings in self._of.values():
            yield from siblings.waiting()


def _ended_child(number: int, key: str | None = None) -> RecordedChild | None:
    return RecordedChild(number, None, key, b"", b"") if number else None


def _listed(names: Iterable[str]) -> str:
    """Return names of attributes in words."""
    all_names = sorted(names, key=lambda name: (name == _KEY, name))
    shown = [
        "a key" if name == _KEY else "what dump() returns" if name == _DUMP else repr(visible(name, 100))
        for name in all_names[:20]
    ]
    if len(all_names) > 20:
        shown.append("…")
    return ", ".join(shown) or "no attributes"
