"""What a run's events say, folded: a row an item, what failed, one item's story, the tree.

Each module imports only from those above it:

- `story`: one item's story as sentences
- `record`: a whole run read at once: its view, its items and its failures, and how it stands
- `outlook`: what a resume would do with one item, and why
"""
