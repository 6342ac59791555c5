"""The engine: workers that take items, run them and their hooks, and say so in events.

Each module imports only from those above it:

- `context`: which item's code is running: `current`, `shared`, `child_results`, `slow_down` and `stop`
- `exceptions`: which exceptions are failures of an item, and their tracebacks without aqueue's frames
- `failures`: the items that failed for good, the first of them with their exceptions
- `item_class`: what the engine knows about each class of items, looked up once
- `misspelt`: class attributes that look like those that aqueue reads, but are misspelt
- `timeouts`: attempts that are cancelled when they have taken too long
- `tree`: who waits for whom, when a subtree has ended, and which hook is due then
- `adoption`: the children that a parent enqueues again, matched with the recorded ones
- `attempt`: one attempt at an item's `process` or hook, and what its code is given to call
- `payloads`: what is recorded of an item: its state, and what makes it the same in every rerun
- `queues`: the order in which items are taken: first in first out, last in first out, by priority
- `candidates`: the groups that may start their first item now, in the order of the queue
- `places`: where `process` runs if that is another process: what the engine and a cluster ask of each other
- `retries`: items that are to be tried again, and their wait
- `groups`: a queue that passes over the items of groups that may start nothing now
- `engine`: the workers, the hooks and the way a run stops
"""
