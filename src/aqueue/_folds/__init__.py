"""Folds of a run's events: the live items, the failures, a table of all items, their tree. No I/O and no clock.

Each module imports only from those above it:

- `crashes`: which items were running when processes of the run crashed
- `ended_items`: facts of items that have ended, read again for those that are to run again
- `item_table`: a table with a row per item, in columns of about 80 bytes per item
- `outcome`: the failures by kind, and a `RunResult` for readers that have only the events
- `waiting_items`: the items of which only their announcement is known, in columns of 20 bytes per item
- `recording`: the items that are still live, with all that a resume needs to know of them
- `snapshot`: the state of the folds that a resume and most readers need, as bytes and back
- `tree_shape`: the tree of the items in a table, with counts below each item, 25 bytes per item
"""
