"""Writing to pipes and streams: all of it or an error, and nothing left behind."""

import io
import os
import threading

import pytest

from aqueue_reporters._stream import encodable, write_all, write_bytes, write_text


def test_all_is_written_to_a_pipe_that_takes_little_at_a_time() -> None:
    """A non-blocking pipe that is full is waited for."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    data = os.urandom(1_000_000)
    read = []

    def drain() -> None:
        while chunk := os.read(read_end, 10_000):
            read.append(chunk)

    reader = threading.Thread(target=drain)
    reader.start()
    write_all(write_end, data)
    os.close(write_end)
    reader.join()
    os.close(read_end)

    assert b"".join(read) == data


@pytest.mark.parametrize("write", [lambda s: write_bytes(s, b"x"), lambda s: write_text(s, "x")], ids=["bytes", "text"])
def test_nothing_stays_behind_for_a_closed_pipe(write: object) -> None:
    """The error is raised at once, and closing the stream, as the interpreter does at its end, is quiet."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    stream = open(write_end, "w")  # noqa: SIM115  # closing it is what is tested
    assert callable(write)

    with pytest.raises(BrokenPipeError):
        write(stream)
    stream.close()


def test_order_is_kept_with_what_was_printed_before() -> None:
    """Text that waits in the stream's buffer goes first."""
    read_end, write_end = os.pipe()
    with open(write_end, "w") as stream:
        stream.write("printed ")
        write_bytes(stream, b"bytes ")
        stream.write("printed ")
        write_text(stream, "text")

    assert os.read(read_end, 1_000) == b"printed bytes printed text"
    os.close(read_end)


def test_a_stream_with_a_write_of_its_own_gets_the_text() -> None:
    """What stands in for a stream is not bypassed."""

    class Upper(io.TextIOWrapper):
        def write(self, text: str) -> int:
            return super().write(text.upper())

    below = io.BytesIO()
    stream = Upper(below, "ascii")
    write_text(stream, "text 漢\n")

    assert below.getvalue() == b"TEXT \\U6F22\n"


def test_text_that_an_encoding_lacks_is_escaped() -> None:
    """It becomes a backslash escape; the rest stays."""
    assert encodable(io.TextIOWrapper(io.BytesIO(), "latin-1"), "é漢\ud800") == "é\\u6f22\\ud800"
    assert encodable(io.StringIO(), "é漢\ud800") == "é漢\\ud800"
