"""The `aqueue` command: watch, replay, inspect and export what a run has recorded.

Each subcommand is a module that adds itself to the group. This module only puts them together.
"""

# The layers, each of which imports only those before it:
#
#   _history                    a recorded run, as its readers see it
#   _mending, _log_file         what a log lacks, put in; its lines
#   _journal_history,           the two kinds of files
#   _log_history
#   _opening                    a file that a person names
#   _process                    whether a run's process still runs
#   _items, _failed_items       folds: a row an item; what failed
#   _screen, _app               what is printed; the group, its errors and shared options
#   the subcommands             each a module, named like it

from aqueue.cli._app import app, main
from aqueue.cli._completion import completion
from aqueue.cli._explain import explain
from aqueue.cli._export import export
from aqueue.cli._list_failures import failures
from aqueue.cli._list_items import items
from aqueue.cli._make_report import report
from aqueue.cli._replay import replay
from aqueue.cli._results import results
from aqueue.cli._status import status
from aqueue.cli._tail import tail
from aqueue.cli._tree import tree
from aqueue.cli._watch import watch

__all__ = ["main"]

# In the order in which a person needs them.
app.commands.clear()
for _command in (status, watch, tail, replay, items, failures, tree, explain, results, export, report, completion):
    app.add_command(_command)
