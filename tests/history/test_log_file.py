"""The lines of a log: whole ones, in chunks, while it grows, is rotated or cut, and from a pipe."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqueue._history.log_file import Chunk, LogFile


@contextmanager
def opened(path: Path, max_line_bytes: int = 1 << 20) -> Iterator[LogFile]:
    """Give a reader of the file at `path`."""
    file = LogFile(os.open(path, os.O_RDONLY), path, max_line_bytes=max_line_bytes)
    try:
        yield file
    finally:
        file.close()


def rest(file: LogFile) -> bytes:
    """Return what there is to read now."""
    parts = []
    while (chunk := file.read()) is not None:
        parts.append(chunk.data)
    return b"".join(parts)


def append(path: Path, data: bytes) -> None:
    """Write `data` to the end of a file."""
    with path.open("ab") as file:
        file.write(data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log with two lines and the beginning of a third."""
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"one\ntwo\nthr")
    return path


# ---- whole lines ----------------------------------------------------------------------------------------------------


def test_last_line_waits_for_its_end(path: Path) -> None:
    """Only whole lines are handed on; the rest of a line comes with its beginning."""
    with opened(path) as file:
        assert file.read() == Chunk(1, 0, b"one\ntwo\n")
        assert file.read() is None
        append(path, b"ee")
        assert file.read() is None
        append(path, b"\nfour\n")
        assert file.read() == Chunk(3, 8, b"three\nfour\n")
        assert file.read() is None


def test_line_without_its_end_can_be_had(path: Path) -> None:
    """For a file that nobody writes any more."""
    with opened(path) as file:
        rest(file)
        assert file.read_unended() == Chunk(3, 8, b"thr")
        append(path, b"ee\n")
        rest(file)
        assert file.read_unended() is None


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_every_line_is_read_once(tmp_path_factory: pytest.TempPathFactory, data: bytes, cuts: list[int]) -> None:
    """In however many parts a file is written; chunks know where they were."""
    path = tmp_path_factory.mktemp("log") / "run.jsonl"
    path.touch()
    chunks = []
    with opened(path) as file:
        for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)], strict=True):
            append(path, data[start:end])
            while (chunk := file.read()) is not None:
                chunks.append(chunk)
        end = data.rfind(b"\n") + 1
        assert b"".join(chunk.data for chunk in chunks) == data[:end]
        for chunk in chunks:
            assert data[chunk.offset : chunk.offset + len(chunk.data)] == chunk.data
            assert chunk.number == 1 + data.count(b"\n", 0, chunk.offset)
            assert file.read_again(chunk.offset, len(chunk.data)) == chunk.data


def test_line_that_is_too_long_is_passed_over(tmp_path: Path) -> None:
    """Without being kept; those before and after it are read, and its number is told."""
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"one\n" + b"x" * 3_000_000 + b"\nthree\n" + b"y" * 2_500_000)
    with opened(path, max_line_bytes=1_500_000) as file:
        assert rest(file) == b"one\nthree\n"
        assert (file.num_too_long, file.first_too_long[0]) == (2, 2)
        assert file.read_unended() is None
        append(path, b"y\nfive\n")
        assert file.read() == Chunk(5, len(b"one\n\nthree\n\n") + 5_500_001, b"five\n")
        assert (file.num_too_long, file.first_too_long[0]) == (2, 2)


def test_only_a_part_of_a_file_is_read(tmp_path: Path) -> None:
    """From a line to where another run begins; then nothing more can come, whatever becomes of the file."""
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"one\ntwo\nthree\nfour\n")
    with opened(path) as file:
        file.seek(4, 2, 14)
        assert file.read() == Chunk(2, 4, b"two\nthree\n")
        assert file.read() is None and file.is_over
        path.rename(tmp_path / "run.jsonl.1")
        path.write_bytes(b"new\n")
        assert file.read() is None and file.is_over
        assert file.notices == []


# ---- near the end ---------------------------------------------------------------------------------------------------


@given(st.binary(max_size=100), st.integers(0, 120), st.integers(0, 50))
def test_beginning_near_the_end(
    tmp_path_factory: pytest.TempPathFactory, head: bytes, num_bytes: int, skip: int
) -> None:
    """At the beginning of a line, at most so far from the end; whether anything is before that is told."""
    data = head.replace(b"\0", b"\n") + b"\n"
    path = tmp_path_factory.mktemp("log") / "run.jsonl"
    path.write_bytes(data)
    begin = data.rfind(b"\n", 0, skip) + 1
    with opened(path) as file:
        file.seek(begin, 1 + data.count(b"\n", 0, begin), None)
        is_part = file.seek_before_end(num_bytes)
        chunk = file.read()
        offset = chunk.offset if chunk is not None else len(data)
        assert is_part == (offset > begin)
        assert offset == begin or data[offset - 1 : offset] == b"\n"
        assert offset == begin or (offset >= len(data) - num_bytes and offset > begin)
        assert b"\n" not in data[max(begin, len(data) - num_bytes) : max(offset - 1, 0)]


def test_beginning_near_the_end_again_and_further_back(path: Path) -> None:
    """As often as is needed, up to the beginning."""
    with opened(path) as file:
        assert file.seek_before_end(8) and rest(file) == b"two\n"
        assert file.seek_before_end(7) and rest(file) == b"two\n"
        assert not file.seek_before_end(100) and rest(file) == b"one\ntwo\n"


# ---- a file that changes --------------------------------------------------------------------------------------------


def test_rotated_log_is_read_to_its_end_and_then_the_new_one(path: Path, tmp_path: Path) -> None:
    """What was written between the last look and the rotation isn't lost, nor is a last line that nobody ended."""
    with opened(path) as file:
        assert rest(file) == b"one\ntwo\n"
        append(path, b"ee\nfour\nfi")
        path.rename(tmp_path / "run.jsonl.1")
        append(tmp_path / "run.jsonl.1", b"ve\nsi")
        assert rest(file) == b"three\nfour\nfive\n"
        assert file.notices == []
        path.write_bytes(b"new\n")
        assert rest(file) == b"sinew\n"
        assert file.notices == [f"{path}: it was replaced by a new file; reading continues from its start"]


def test_log_that_was_cut_is_read_from_its_beginning(path: Path) -> None:
    """As after logrotate's copytruncate; the half line that was there is gone."""
    with opened(path) as file:
        rest(file)
        os.truncate(path, 0)
        assert file.read() is None
        append(path, b"new\n")
        assert file.read() == Chunk(1, 0, b"new\n")
        assert file.notices == [f"{path}: it was truncated; reading continues from its start"]


def test_log_that_was_removed_and_made_again(path: Path) -> None:
    """The new one is waited for."""
    with opened(path) as file:
        rest(file)
        path.unlink()
        assert file.read() is None
        path.write_bytes(b"")
        assert file.read() == Chunk(3, 8, b"thr")  # which nobody can end any more
        assert file.read() is None
        append(path, b"new\n")
        assert file.read() == Chunk(1, 0, b"new\n")


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read everything")
def test_new_log_that_may_not_be_read_is_tried_again(path: Path) -> None:
    """Until it may."""
    with opened(path) as file:
        rest(file)
        path.unlink()
        path.write_bytes(b"new\n")
        path.chmod(0)
        assert file.read() is None
        path.chmod(0o600)
        assert rest(file) == b"thrnew\n"


# ---- pipes ----------------------------------------------------------------------------------------------------------


def test_pipe_has_nothing_now_and_more_later() -> None:
    """Reading it never waits; its end is the end."""
    receive, send = os.pipe()
    file = LogFile(receive, is_pipe=True)
    assert file.read() is None and not file.is_over
    os.write(send, b"one\ntw")
    assert file.read() == Chunk(1, 0, b"one\n")
    assert file.read() is None and not file.is_over
    os.write(send, b"o\nthree")
    os.close(send)
    assert file.read() == Chunk(2, 4, b"two\n")
    assert file.read() is None and file.is_over
    assert file.read_unended() == Chunk(3, 8, b"three")
    file.close()


def test_pipe_can_neither_be_read_again_nor_from_its_end() -> None:
    """It is read as a whole; what is gone is gone."""
    receive, send = os.pipe()
    os.write(send, b"one\n")
    os.close(send)
    file = LogFile(receive, is_pipe=True)
    assert not file.seek_before_end(1)
    assert rest(file) == b"one\n"
    assert file.read_again(0, 4) == b""
    file.close()
