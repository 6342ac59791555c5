"""Puts a recorded run back into an engine.

Each module imports only from those above it:

- `plan`: what a resume does with each live item: pure data, computed from a recording alone
- `live_items`: the live items as objects of today's classes
- `restoring`: turns a plan and these objects into what the engine continues with: nodes, what to queue, counts
- `past`: reads the recorded run, tells the user what a resume does, and puts the run into the engine
- `item_edits`: what a command on items appends to a run that no process runs
- `editing`: commands on a run that no process runs: they are appended to its journal
"""
