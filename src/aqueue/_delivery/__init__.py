"""From the list of events to those that read it: the journal first, then each reporter on a thread of its own.

Each module imports only from those above it:

- `snapshots`: folds what is committed, and writes the state of the run into the journal from time to time
- `journal_thread`: the thread that takes the events and commits them to the journal
- `open_reporters`: opens reporters, gives them events, detaches those that raise, and closes them
- `reporter_thread`: runs a reporter on a thread of its own, with the events that wait for it
- `delivery`: the consumer of the stream: the journal first, then each reporter; what happens to one that is stuck
"""
