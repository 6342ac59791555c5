"""Recorded runs, read: journals and logs, whole or torn, of runs that go on or have ended.

Each module imports only from those above it:

- `history`: the interface: the events in their order, as far as they are there by now
- `known_items`: which items a run has announced, three bytes per item
- `log_file`: the lines of a log that may be growing, rotated or cut
- `process`: whether the process that records a run still runs
- `mending`: puts in what a log lacks, so that every fold may rely on a consistent run
- `journal_history`: a recorded run in a journal
- `log_history`: a recorded run in a log
- `opening`: the history of what a person names on the command line
"""
