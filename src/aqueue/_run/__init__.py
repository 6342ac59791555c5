"""`run_queue` and `async_run_queue`: the arguments checked, the parts put together, run and closed.

Each module imports only from those above it:

- `settings`: what `run_queue` is given, checked before anything happens
- `api`: wires the parts, runs, closes, and raises what must be raised
"""
