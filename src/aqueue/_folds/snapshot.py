"""The state of a run's folds as bytes, in parts, and back.

A snapshot is a cache: what it says can always be folded from the events again. So one that isn't of this very version of
aqueue, or that can't be decoded, is ignored. It is decoded into types that are known in advance, and never executed.
"""

import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from functools import cache
from itertools import groupby
from typing import Annotated, Any, Final, get_args, get_type_hints

import msgspec

from aqueue._folds.recording import Ended, RecordedItem, Recording, RunFacts
from aqueue._folds.waiting_items import PAGE_ITEMS, Kind, Page, Siblings
from aqueue._version import __version__
from aqueue.events import Event
from aqueue.view import RunView, WorkerProcess, WorkerProcesses

__all__ = ["GROWING", "Folds", "Part", "all_restored", "last_restored", "parts_of", "restored", "view_from", "view_to"]

Part = tuple[str, bytes]
"""A part of a snapshot: its name and its bytes."""

GROWING: Final = Ended.__struct_fields__
"""The parts that are added to those of earlier snapshots, which are still needed. Each snapshot has only what is new."""

_FORMAT: Final = 3
"""To be raised when a fold keeps something else than before in the same fields; a change of fields is noticed."""

_SLICE_PAGES: Final = 48
_SLICE_RECORDS: Final = 10_000
_SLICE_BYTES: Final = 1_600_000
"""How much is encoded in one go, some milliseconds. A million items at once would hold the interpreter's lock for 87 ms."""


_Run = tuple[Annotated[int, msgspec.Meta(ge=1)], Siblings | None]
"""How many places of a page follow each other that have the same siblings, and these."""

_Columns = tuple[int, bytes, list[_Run]]
"""The number of a page and its columns."""


_Writer = tuple[str, int, str]


class _Head(msgspec.Struct, frozen=True):
    """What must be the same for a snapshot to be used, and how it begins."""

    written_by: _Writer
    facts: RunFacts
    kinds: list[Kind]


def _structs(annotation: Any, found: dict[type, object]) -> dict[type, object]:
    """Add to `found` the fields of all structs and dataclasses that a value with this annotation may contain."""
    is_struct = isinstance(annotation, type) and (issubclass(annotation, msgspec.Struct) or is_dataclass(annotation))
    if is_struct and annotation not in found:
        found[annotation] = fields = get_type_hints(annotation)
        for type_ in fields.values():
            _structs(type_, found)
    for one in get_args(annotation):
        _structs(one, found)
    return found


@cache
def _this() -> _Writer:
    """Return which aqueue this is. A change of fields between two versions is noticed, too."""
    shape = repr(list(_structs(tuple[_Head, RecordedItem, Siblings, Ended, RunView, WorkerProcess], {}).items()))
    return __version__, _FORMAT, f"{sys.byteorder} {zlib.crc32(shape.encode()):08x}"


class Folds:
    """The folds that a snapshot has.

    Attributes:
        recording: the live items.
        view: the run as reporters see it.
        snapshot_seq: the number of the last event in the snapshot from which they were restored; 0 for none.
    """

    def __init__(self) -> None:
        self.snapshot_seq = 0
        self.recording = Recording()
        self.view = RunView()

    def apply(self, events: Iterable[Event]) -> None:
        """Fold `events`, which must follow those applied so far.

        Raises:
            KeyError: an event names something that no earlier event announced; the folds can't be used any more.
        """
        self.recording.apply(events)
        self.view.apply(events)


def _to_builtin(value: object) -> object:
    if isinstance(value, array):
        return value.tobytes()
    raise TypeError(type(value))


def _from_builtin(type: type, value: Any) -> object:
    if type is WorkerProcesses:
        processes = WorkerProcesses()
        for process in msgspec.convert(value, dict[int, WorkerProcess], strict=False).values():
            processes.join(process)
        return processes
    return array("q", value)


_encoder: Final = msgspec.msgpack.Encoder(enc_hook=_to_builtin)


def _decode(data: bytes, type: Any) -> Any:
    return msgspec.msgpack.decode(data, type=type, dec_hook=_from_builtin)


def view_to(view: RunView) -> bytes:
    """Return a view as bytes, for `view_from`."""
    return _encoder.encode((_this(), view))


def view_from(data: bytes) -> RunView | None:
    """Return the view that `view_to` made into bytes; None if another version of aqueue has, or if they are damaged."""
    try:
        written_by, view = _decode(data, tuple[_Writer, msgspec.Raw])
        return _decode(view, RunView) if written_by == _this() else None
    except Exception:  # as in `restored`
        return None


def parts_of(folds: Folds) -> Iterator[Part]:
    """Yield the parts, each when it is asked for: nothing may be folded before the last."""
    recording = folds.recording
    yield "head", _encoder.encode(_Head(_this(), recording.facts, recording.waiting.kinds))
    yield "view", _encoder.encode(folds.view)
    records = list(recording.live.values())
    for start in range(0, len(records), _SLICE_RECORDS):
        yield "records", _encoder.encode(records[start : start + _SLICE_RECORDS])
    pages = list(recording.waiting.pages.items())
    for start in range(0, len(pages), _SLICE_PAGES):
        columns = [
            (number, page.enqueued_seqs.tobytes(), [(len(list(run)), one) for one, run in groupby(page.siblings)])
            for number, page in pages[start : start + _SLICE_PAGES]
        ]
        yield "pages", _encoder.encode(columns)
    for name in GROWING:
        new = memoryview(getattr(recording.ended, name)).cast("B")
        for start in range(0, len(new), _SLICE_BYTES):
            yield name, bytes(new[start : start + _SLICE_BYTES])


def last_restored(snapshots: Iterable[tuple[int, Iterable[Part]]]) -> Folds | None:
    """Return the folds of the first of `snapshots` that is usable; None if none is. See `aqueue._journal.snapshots`."""
    return next(all_restored(snapshots), None)


def all_restored(snapshots: Iterable[tuple[int, Iterable[Part]]]) -> Iterator[Folds]:
    """Yield the folds of those of `snapshots` that are usable."""
    for seq, parts in snapshots:
        folds = restored(parts)
        if folds is not None and folds.snapshot_seq == folds.view.seq == seq:
            yield folds


def restored(parts: Iterable[Part]) -> Folds | None:
    """Return the folds that a snapshot has, whose `parts` include the growing ones of earlier snapshots.

    Returns None if another version of aqueue wrote it, or if anything is wrong with it.
    """
    folds = Folds()
    recording, saved = folds.recording, Ended()
    try:
        for name, data in parts:
            match name:
                case _ if name in GROWING:
                    column = getattr(saved, name)
                    column += data if isinstance(column, bytearray) else array("q", data)
                case "head":
                    head = _decode(data, _Head)
                    if head.written_by != _this():
                        return None
                    recording = Recording(head.facts)
                    for kind in head.kinds:
                        recording.waiting.kind_number(*kind)
                case "view":
                    folds.view = _decode(data, RunView)
                case "records":
                    recording.live.update((one.id, one) for one in _decode(data, list[RecordedItem]))
                case "pages":
                    for number, seqs, runs in _decode(data, list[_Columns]):
                        if sum(length for length, _ in runs) != PAGE_ITEMS:
                            return None
                        column = [one for length, one in runs for _ in range(length)]
                        recording.waiting.pages[number] = Page(column, array("q", seqs))
                case _:
                    return None
    except Exception:  # it may have been damaged, or changed by anybody, in any way
        return None
    recording.saved = saved
    folds.recording = recording
    folds.snapshot_seq = recording.facts.last_seq
    return folds
