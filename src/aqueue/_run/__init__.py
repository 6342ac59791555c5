"""`run_queue` and `async_run_queue`: check the arguments, put the parts together, run and close them.

Each module imports only from those above it:

- `settings`: the arguments of `run_queue`, checked before anything happens
- `uncaught`: prints no traceback of an error that the summary has reported already
- `control`: how people steer a run with a journal, and what the run says about what they have set
- `session`: one run in one process: puts the parts together, opens, runs and closes them
- `recorded`: a run with a journal, new or resumed
- `api`: the two functions
"""
