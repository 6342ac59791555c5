"""A run in other formats: lines for people, lines of JSON, tables, a trace.

Each module imports only from those above it:

- `event_details`: what a person should know of each event, in a few words
- `lines`: events and results as JSON lines
- `tables`: events and results as CSV
- `trace`: a run as a trace for Perfetto: a track per worker, a slice per attempt
- `event_lines`: events as lines for people
"""
