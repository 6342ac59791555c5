"""What a run's events say, folded: what is live, what failed, a row per item, the tree. No I/O and no clock.

Each module imports only from those above it:

- `crashes`: what was running when processes of the run crashed
- `item_table`: a row per item, in columns of about 80 bytes per item
- `outcome`: what the run came to: the failures by kind, and a `RunResult` for who has only its events
- `recording`: the items that are still live, with all that a resume needs to know of them
- `tree_shape`: who is below whom, with counts below each item, 24 bytes per item
"""
