"""A recorded run put back into an engine.

Each module imports only from those above it:

- `plan`: what a resume does with each live item: pure data, of a recording alone
- `live_items`: the live items as objects of today's classes
- `restoring`: a plan and these objects as what the engine goes on with: nodes, what to queue, counters
- `past`: reads what is recorded, tells the user what a resume does, and puts it into the engine
"""
