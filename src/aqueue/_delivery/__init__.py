"""From the list of events to those that read it: the journal first, then each reporter on a thread of its own.

Each module imports only from those above it:

- `journal_thread`: the thread that takes the events and commits them to the journal
- `open_reporters`: reporters from their opening to their end, detached if they raise
- `reporter_thread`: a reporter on a thread of its own, with the events that wait for it
- `delivery`: the consumer of the stream: the journal first, then each reporter; what happens to one that is stuck
"""
