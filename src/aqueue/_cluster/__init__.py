"""Runs on a Dask cluster: a coordinator in the user's process, a lane in each of the cluster's workers.

Each module imports only from those above it:

- `letters`: numbered letters over a connection that may lose, repeat and reorder them
- `local_output`: what local workers print, line by line
- `local_scheduler`: a Dask scheduler in a thread of this process
- `local_worker`: the program that a local worker is
- `messages`: orders to a lane and reports from it, as MessagePack
- `names`: which classes and functions have a name that others can find, and what a name means
- `definitions`: classes and functions that lanes can't import, sent to them with a number each
- `lane_attempt`: an attempt as the item's code in a lane sees it
- `local_workers`: starts the local workers, and starts them again when they die
- `pickles`: any object as bytes and back, with references where it must not be copied
- `transport`: what carries letters, as a protocol
- `errors_on_the_wire`: exceptions as bytes and back, without running their `__init__`
- `items`: items as bytes and back, whole or only their state
- `objects`: all that crosses between coordinator and lanes, for each of the two sides
- `lane`: runs items in a worker process, in an event loop of its own
- `place`: a lane as the engine sees it, and the attempts under way there
- `link`: the coordinator's end of the connection with one lane
- `worker`: what runs in a Dask worker: a task that is a lane, and a handler for letters
- `cluster`: supplies the engine with a place for each worker process, as they join and leave
- `dask_transport`: the coordinator's use of Dask
"""
