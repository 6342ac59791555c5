"""The `aqueue` command: watch, replay, inspect and export what a run has recorded.

Each module imports only from those above it:

- `_output`: where an export goes: standard output, or a file that is whole or not there
- `_playing`: a recorded run handed to reporters
- `_report`: the HTML report
- `_screen`: what is printed: styled on a terminal, plain in a pipe, nothing of a file raw in either
- `_app`: the group, its errors and exit codes, and the arguments that several subcommands share
- `_record`: a whole run read at once: its view, its items, its failures and its state
- `_story`: the history of one item as sentences
- `_outlook`: what a resume would do with one item, and why
- `_formats`: a run in other formats: lines, tables, a trace
- `_item_types`: which types a person means by ``--type``
- `_commands`: the subcommands, each a module that is named like it
"""

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
