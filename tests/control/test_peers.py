"""Which user is at the other end of a connection."""

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aqueue._control.peers import is_trusted
from tests.control.running import NOBODY

CONNECTS = """
import os, socket, sys
os.setuid(int(sys.argv[2]))
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
print("connected", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def listener(folder: Path) -> Iterator[socket.socket]:
    """Listen on a socket that everybody can connect to."""
    with socket.socket(socket.AF_UNIX) as listener:
        path = folder / "s"
        listener.bind(str(path))
        path.chmod(0o777)
        listener.listen()
        yield listener


def test_a_process_of_the_same_user_is_trusted_by_both_sides(listener: socket.socket) -> None:
    """Each asks the system about the other."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(listener.getsockname())
        accepted = listener.accept()[0]
        with accepted:
            assert is_trusted(accepted)
            assert is_trusted(client)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
def test_a_process_of_another_user_is_not_trusted(listener: socket.socket) -> None:
    """Whatever the modes allow; only a caller that expects this very user trusts it."""
    with subprocess.Popen(
        [sys.executable, "-I", "-c", CONNECTS, listener.getsockname(), str(NOBODY)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        accepted = listener.accept()[0]
        with accepted:
            assert not is_trusted(accepted)
            assert is_trusted(accepted, NOBODY)
        process.communicate(b"\n")
    assert process.returncode == 0


def test_a_connection_that_is_gone_is_not_trusted() -> None:
    """The system can't say whose it was."""
    connection = socket.socket(socket.AF_UNIX)
    connection.close()
    assert not is_trusted(connection)


class _Connection(socket.socket):
    """One on a system that says of its peer what is given."""

    def __init__(self, level: int, option: int, value: bytes) -> None:
        super().__init__(socket.AF_UNIX)
        self._expected = level, option, len(value)
        self._value = value

    def getsockopt(self, *arguments: int) -> bytes:  # type: ignore[override]  # of one shape here
        assert arguments == self._expected
        return self._value


@pytest.mark.parametrize(("user", "expected"), [(0, True), (NOBODY, False), (os.geteuid(), True)])
def test_root_and_the_own_user_are_trusted_on_macos(monkeypatch: pytest.MonkeyPatch, user: int, expected: bool) -> None:
    """There the structure begins with a version, then the user; 76 bytes in all."""
    monkeypatch.setattr(sys, "platform", "darwin")
    with _Connection(0, 1, struct.pack("IIh16I", 0, user, 1, *[20] * 16)) as connection:
        assert is_trusted(connection) is expected


def test_where_the_system_cannot_tell_the_modes_must_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the user can connect then."""
    monkeypatch.setattr(sys, "platform", "aix")
    with socket.socket(socket.AF_UNIX) as connection:
        assert is_trusted(connection)
