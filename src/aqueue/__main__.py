"""``python -m aqueue`` is the `aqueue` command."""

from aqueue.cli import main

main()
