"""Where the control socket of a run may be."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from aqueue._control.addresses import MAX_PATH_BYTES, Address, addresses_of
from tests.control.running import NOBODY

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")


@pytest.fixture
def runtime(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder for the user's sockets."""
    path = folder / "r"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    return path


def test_it_is_next_to_the_journal_or_in_a_private_folder(runtime: Path, folder: Path) -> None:
    """These are the places, in this order."""
    beside, in_runtime, in_shared = addresses_of(folder / "run.db")
    assert beside == Address(folder / "run.db.sock")
    assert in_runtime.folder == runtime
    assert in_shared.folder == folder / "t" / f"aqueue-{os.geteuid()}"
    assert in_runtime.path.name == in_shared.path.name
    assert in_runtime.is_private
    assert in_shared.is_private
    assert [one.is_made for one in (beside, in_runtime, in_shared)] == [False, False, True]


def test_each_journal_has_a_name_of_its_own_in_a_shared_folder(runtime: Path, folder: Path) -> None:
    """Its name comes from the whole path."""
    names = {addresses_of(folder / name / "run.db")[1].path.name for name in "abc"}
    assert len(names) == 3


def test_another_way_to_the_same_journal_leads_to_the_same_sockets(runtime: Path, folder: Path) -> None:
    """A client may name the journal by a symbolic link, or relative to another folder."""
    journal = folder / "run.db"
    journal.touch()
    (folder / "link.db").symlink_to(journal)
    assert addresses_of(folder / "link.db") == addresses_of(journal)
    assert addresses_of(Path(os.path.relpath(journal))) == addresses_of(journal)


@pytest.mark.parametrize("letter", ["x", "é"])
@pytest.mark.parametrize("over", [0, 1])
def test_a_path_has_at_most_100_bytes(runtime: Path, letter: str, over: int) -> None:
    """Bytes, not characters: more than that don't fit into the system's structure."""
    room = MAX_PATH_BYTES - len("/") - len(".sock") + over
    width = len(letter.encode())
    journal = Path("/" + letter * (room // width) + "x" * (room % width))
    assert (addresses_of(journal)[0].path == journal.with_name(journal.name + ".sock")) is (over == 0)


def test_a_long_path_leaves_the_private_folders(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their paths are short enough, even on macOS."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    monkeypatch.setattr(tempfile, "tempdir", "/var/folders/zz/zyxvpxvq6csfxvn_n0000000000000/T")  # as long as on macOS
    found = addresses_of(folder / ("x" * 200) / ("y" * 100))
    assert [one.is_private for one in found] == [True, True]
    assert all(len(os.fsencode(one.path)) <= MAX_PATH_BYTES for one in found)


@pytest.mark.parametrize("value", [None, "", "run/user/0"])
def test_a_runtime_folder_that_is_missing_or_relative_is_not_used(
    runtime: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    """Other folders are left."""
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    if value is not None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", value)
    assert [one.folder.name for one in addresses_of(folder / "run.db")] == [folder.name, f"aqueue-{os.geteuid()}"]


def test_no_temporary_folder_is_no_error(runtime: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other folders are left."""

    def find() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", find)
    assert len(addresses_of(folder / "run.db")) == 2


# ---- folders ----------------------------------------------------------------------------------------------------


def test_the_folder_for_sockets_is_made_for_its_user_alone(runtime: Path, folder: Path) -> None:
    """A run makes it, and uses it again; a client makes nothing."""
    address = addresses_of(folder / "run.db")[2]
    with pytest.raises(FileNotFoundError):
        address.check_folder()
    assert address.make_folder() == address.path
    assert address.folder.stat().st_mode & 0o777 == 0o700
    assert address.make_folder() == address.path
    address.check_folder()


def test_a_runtime_folder_that_is_missing_is_not_made(
    runtime: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It belongs to the system: on some, making it would be a file in memory that outlives the session."""
    runtime.rmdir()
    with pytest.raises(FileNotFoundError):
        addresses_of(folder / "run.db")[1].make_folder()
    assert not runtime.exists()


def _of_another_user(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY, NOBODY)


def _open(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o770)


def _link(folder: Path) -> None:
    folder.with_name("real").mkdir(mode=0o700)
    folder.symlink_to(folder.with_name("real"))


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(
    ("make", "why"),
    [
        pytest.param(_of_another_user, "belongs to another user", marks=as_root),
        (_open, "other users have access"),
        (_link, "not a real folder"),
        (Path.touch, "not a real folder"),
    ],
)
def test_a_folder_where_others_may_have_put_a_socket_is_refused(
    runtime: Path, folder: Path, make: Callable[[Path], None], why: str, number: int
) -> None:
    """Everybody can make a folder of that name before us, in the temporary folder; neither a run nor a client uses it."""
    address = addresses_of(folder / "run.db")[number]
    if address.folder.exists():
        address.folder.rmdir()
    make(address.folder)
    with pytest.raises(OSError, match=why):
        address.make_folder()
    with pytest.raises(OSError, match=why):
        address.check_folder()
