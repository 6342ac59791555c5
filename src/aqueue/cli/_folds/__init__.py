"""What a run's events say, folded: a row an item, what failed, one item's story, the tree."""
