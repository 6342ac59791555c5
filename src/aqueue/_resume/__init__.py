"""A recorded run put back into an engine.

Each module imports only from those above it:

- `resumption`: a recording put back: its live items as objects, its tree, its queue, its counters
"""
