"""`run_queue` and `async_run_queue`: the arguments checked, the parts put together, run and closed.

Each module imports only from those above it:

- `settings`: what `run_queue` is given, checked before anything happens
- `session`: one run in one process: the parts put together, opened, run and closed
- `recorded`: a run with a journal, new or one that goes on
- `api`: the two functions
"""
