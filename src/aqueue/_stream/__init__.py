"""The list of events: everything that happens in a run, numbered and in order.

Each module imports only from those above it:

- `clock`: Unix time that never decreases
- `error_info`: exceptions as data, cut to size
- `item_facts`: what the events tell of one item, read again once nothing else remembers the item
- `event_stream`: numbers events and keeps them until they are taken; workers pause when too many wait
"""
