"""The engine: workers that take items, run them and their hooks, and say so in events.

Each module imports only from those above it:

- `changed_classes`: what is recorded, compared with today's classes
- `context`: which item's code is running: `current`, `shared`, `child_results`, `slow_down` and `stop`
- `ended_children`: recorded children of which nothing is left to do, 24 bytes per child
- `exceptions`: which exceptions are failures of an item, and their tracebacks without aqueue's frames
- `failures`: the items that failed for good, the first of them with their exceptions
- `item_class`: what the engine knows about one class of items
- `misspelt`: class attributes that look like those that aqueue reads, but are misspelt
- `stopping`: whether and why the run stops: graceful first, then cancelling what runs
- `class_registry`: the classes of a run's items, with the counts of these
- `timeouts`: attempts that are cancelled when they have taken too long
- `tree`: who waits for whom, when a subtree has ended, and which hook is due then
- `attempt`: one attempt at an item's `process` or hook, and what its code is given to call
- `payloads`: what is recorded of an item: its state, and what makes it the same in every rerun
- `queues`: the order in which items are taken: first in first out, last in first out, by priority
- `recorded_child`: a recorded child, and its comparison with new ones that have other attributes
- `siblings`: the recorded children of one class and parent, and how a new child is matched
- `suspects`: items that may have crashed earlier processes
- `adoption`: the children that a parent enqueues again, matched with the recorded ones
- `candidates`: the groups that may start their first item now, in the order of the queue
- `group_limits`: what each group may do, and which limits apply to no item
- `places`: where `process` runs if that is another process: what the engine and a cluster ask of each other
- `retries`: items that are to be tried again, and their wait
- `turns`: the time slice that workers share, so that items that never await don't keep the loop
- `groups`: a queue that passes over the items of groups that may start nothing now
- `restored_run`: what a resume hands to the engine: all that earlier processes of the run have left
- `worker`: one worker: what is remembered of it from item to item
- `dispatcher`: what runs next: the queue, the groups, the hooks that are due, and the workers that wait for any of it
- `intake`: what is enqueued: numbered, announced and queued, dropped as a duplicate, or adopted
- `outcomes`: how an attempt ended that raised: failed for good, to be tried again, or interrupted
- `parts`: the parts above, put together for one run
- `hooks`: runs hooks, children's before their parents'
- `workers`: takes items and runs them, one after the other
- `remote_workers`: workers whose items run in other processes
- `engine`: runs the parts until no item is left
"""
