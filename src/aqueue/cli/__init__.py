"""The `aqueue` command: watch, replay, inspect and export what a run has recorded, and steer a run.

Each module imports only from those above it:

- `_output`: opens the output of an export: standard output, or a file that appears only once it is complete
- `_playing`: feeds a recorded run to reporters
- `_screen`: prints text and tables: styled on a terminal, plain in a pipe, safe in both
- `_app`: the click group, its errors and exit codes, and the arguments that several subcommands share
- `_record`: reads the run that a person named, and which items of its tree to show
- `_lists`: what several subcommands print alike
- `_report`: makes the HTML report
- `_outlook`: what a resume would do with one item, and why
- `_formats`: writes a run in other formats: lines, tables, a trace
- `_item_types`: the option ``--type``
- `_selector`: the options that select items
- `_commands`: the subcommands, one module each
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
from aqueue.cli._commands.serve import serve
from aqueue.cli._commands.status import status
from aqueue.cli._commands.steer import limit, pause, stop, unpause, workers
from aqueue.cli._commands.steer_items import cancel, retry, skip
from aqueue.cli._commands.tail import tail
from aqueue.cli._commands.tree import tree
from aqueue.cli._commands.watch import watch

__all__ = ["main"]

# In the order in which a person needs them.
app.commands.clear()
for _command in (
    *(status, watch, serve, tail, replay, items, failures, tree, explain),
    *(pause, unpause, workers, limit, stop),
    *(retry, skip, cancel),
    *(results, export, report, completion),
):
    app.add_command(_command)
