"""A recorded run, opened to be read: a journal or a log, whole or torn, of a run that goes on or has ended.

Each module imports only from those above it:

- `history`: the interface: the events in their order, as far as they are there by now
- `known_items`: which items a run has announced, three bytes per item
- `log_file`: the lines of a log that may be growing, rotated or cut, or that come from standard input
- `process`: whether the process that records a run still runs, found out without touching anything that it uses
- `mending`: puts in what a log lacks, so that every fold may rely on a consistent run
- `journal_history`: a recorded run in a journal
- `log_history`: a recorded run in a log
- `opening`: the history of what a person names: a journal, a log, or ``-`` for standard input
"""
