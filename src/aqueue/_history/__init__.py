"""Reads recorded runs: from a journal or a log, whole or damaged, of a run that has ended or still goes on.

Each module imports only from those above it:

- `known_items`: which items a run has announced, with their types and states, in two bytes per item
- `log_file`: the lines of a log that may grow, be rotated or cut, or come from standard input
- `process`: whether the process that records a run is still alive
- `repair`: makes the events of a file consistent, so that every fold can rely on them
- `history`: the interface: the events of one run in order, as far as they are recorded so far
- `journal_history`: reads a run from a journal
- `log_history`: reads a run from a log
- `record`: a whole run at once: its view, its items, its failures and its state
- `event_words`: puts each event into words
- `story`: the history of one item: what happened when, and how long it waited in between
- `selecting`: selects items of a run by type, state, group, error, text, key, and what they are below
- `opening`: opens what a person names: a journal, a log, or ``-`` for standard input
"""
