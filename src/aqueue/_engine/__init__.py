"""The engine: workers that take items, run them and their hooks, and say so in events.

Each module imports only from those above it:

- `changed_classes`: compares recorded items with today's classes
- `context`: what an item's code can ask: `current`, `shared`, `child_results`, `slow_down` and `stop`
- `ended_children`: recorded children that are done, in 24 bytes per child
- `exceptions`: which exceptions are failures of an item, and their tracebacks without aqueue's frames
- `hints`: advice for errors of Python and of the event loops whose own messages don't say what to change in an item
- `failures`: the items that failed for good, and the exceptions of the first ones
- `item_class`: what the engine knows about one class of items
- `misspelt`: warns of class attributes that look misspelt
- `stopping`: whether anything may start: whether and why the run stops, and whether it is paused
- `class_registry`: the classes of a run's items, and their counts
- `timeouts`: cancels attempts that take too long
- `tree`: which items wait for which, when a subtree has ended, and which hook is due then
- `attempt`: one attempt at an item's `process` or hook, and the functions that its code can call
- `payloads`: what a journal needs of an item: its state, and an identity that is the same in every rerun
- `lines`: nodes in the order in which they are taken: all in memory, or the next ones, and the others spilled
- `queues`: the order in which items are taken: first in first out, last in first out, by priority
- `recorded_child`: a recorded child, and its comparison with new ones that have other attributes
- `siblings`: matches new children of one class and parent with the recorded ones
- `suspects`: the items that may have crashed an earlier process
- `adoption`: matches the children that a parent enqueues again with the recorded ones
- `group_limits`: what each group may do, and which limits apply to no item
- `candidates`: the groups that may start their first item now, in the order of the queue
- `places`: the interface between the engine and processes elsewhere that run `process` for it
- `retries`: which items are retried and when
- `turns`: the time slice that workers share, so that items that never await don't block the event loop
- `groups`: a queue that skips the items of groups that are at their limit
- `restored_run`: what a resume passes to the engine
- `dispatcher`: what runs next: the queue, groups, due hooks, and the workers that are idle
- `intake`: what happens to an enqueued item: announced and queued, dropped as a duplicate, or adopted
- `spilling`: makes the nodes of spilled items again, from what the journal has of them
- `worker`: the state of one worker
- `outcomes`: what follows from an attempt that raised: a retry, a failure for good, or an interruption
- `parts`: the parts above, put together for one run
- `hooks`: runs hooks, those of children before those of their parents
- `workers`: takes items and runs them, one after the other
- `local_workers`: the workers that run items in this process: as many as the program or a person says
- `remote_workers`: workers whose items run in other processes
- `search`: finds nodes by the numbers of their items
- `reopening`: reopens items that have ended, and the hooks above them
- `reruns`: lets items run again that have completed
- `item_commands`: retry, skip and cancel: what people ask of items
- `steering`: what people ask of a whole run or of a group becomes an event, which the engine obeys
- `engine`: runs the parts until no item is left
"""
