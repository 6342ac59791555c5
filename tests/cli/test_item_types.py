"""The option ``--type``, which several subcommands have."""

from pathlib import Path

import pytest

from tests.cli.conftest import Aqueue


@pytest.mark.parametrize("command", ["items", "failures", "results", "tail"])
def test_an_unknown_type_is_an_error_that_names_the_known_ones(aqueue: Aqueue, file: Path, command: str) -> None:
    """A misspelt class doesn't look like an empty list, whichever the subcommand."""
    done = aqueue(command, file, "--type", "NoSuchClass")

    assert (done.code, done.out) == (2, "")
    assert "no item is of type 'NoSuchClass'" in done.err
    assert "tests.cli.job:Product" in done.err
