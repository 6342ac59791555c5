"""Runs on a Dask cluster: a coordinator in the user's process, a lane in each of the cluster's workers.

The coordinator sends a lane orders, such as to run an item, and gets reports back. Both travel in numbered letters, since
connections break. The coordinator's end of the connection with a lane is a link; the engine knows the lane as a place, a
process elsewhere that runs `process`.

Each module imports only from those above it:

- `letters`: numbered messages that arrive once and in order over an unreliable connection
- `local_output`: copies what local workers print
- `local_worker`: the program of a local worker process
- `messages`: orders to a lane and reports from it, as MessagePack
- `names`: the names of classes and functions, and what can be found by them
- `local_workers`: starts local worker processes, and restarts those that die
- `pickles`: any object as bytes and back, with references to items, classes and functions
- `definitions`: sends lanes the classes and functions that they can't import, and numbers them
- `transport`: the protocol of what carries letters
- `errors_on_the_wire`: exceptions as bytes and back, without running their `__init__`
- `objects`: all that crosses between coordinator and lanes, as bytes and back, for each of the two sides
- `lane`: runs items in a worker process, in an event loop of its own
- `place`: a lane as the engine sees it, with the attempts in progress there
- `link`: the coordinator's end of the connection with one lane
- `worker`: the code in a Dask worker: a task that runs a lane, and a handler for letters
- `cluster`: gives the engine a place for each worker process that joins, and closes it when the process leaves
- `dask_transport`: the transport over Dask
"""
