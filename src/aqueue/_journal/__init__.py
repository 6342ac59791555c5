"""The journal: a run's events in a SQLite file.

Each module imports only from those above it:

- `file`: the file: locked, made whole or not at all, connected to; what SQLite's errors mean
- `check`: checks, without changing a byte, that a file is a whole journal that this aqueue can continue
- `reader`: reads the events, in order or by number, a few megabytes at a time
- `snapshots`: a table with the state of the run at some event, a cache: reads it and writes it
- `open_journals`: the journals that this process has open, and what a fork does to them
- `writer`: the journal of a run: locked, read once, then written
"""
