"""The `aqueue` command: watch, replay, inspect and export what a run has recorded."""

# The layers, each of which imports only those before it:
#
#   _reading                    a recorded run, from a journal or a log, made consistent
#   _screen, _app, _output      what is printed; the group, its errors and shared options; where an export goes
#   _formats, _report           a run in other formats: lines, tables, a trace; the HTML page
#   _item_types                 which types a person means
#   _folds                      what the events say, folded: a row an item, what failed, one item's story, the tree
#   _playing                    a run handed to reporters
#   _commands                   the subcommands, each a module that is named like it
#
# This module only puts the subcommands together.

from aqueue.cli._app import app, main
from aqueue.cli._commands.completion import completion
from aqueue.cli._commands.explain import explain
from aqueue.cli._commands.export import export
from aqueue.cli._commands.failures import failures
from aqueue.cli._commands.items import items
from aqueue.cli._commands.replay import replay
from aqueue.cli._commands.report import report
from aqueue.cli._commands.results import results
from aqueue.cli._commands.status import status
from aqueue.cli._commands.tail import tail
from aqueue.cli._commands.tree import tree
from aqueue.cli._commands.watch import watch

__all__ = ["main"]

# In the order in which a person needs them.
app.commands.clear()
for _command in (status, watch, tail, replay, items, failures, tree, explain, results, export, report, completion):
    app.add_command(_command)
