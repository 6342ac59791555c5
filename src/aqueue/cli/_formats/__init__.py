"""Writes a run in other formats: lines for people, JSON lines, CSV, a trace, SQLite.

Each module imports only from those above it:

- `lines`: events and results as JSON lines
- `tables`: events and results as CSV
- `sqlite_tables`: a run as indexed tables in a SQLite file, made at once or brought up to date
- `trace`: a trace for Perfetto: a track per worker, a slice per attempt
- `event_lines`: events as lines for people
"""
