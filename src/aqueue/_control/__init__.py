"""The control socket of a run with a journal: people's commands come in, and the run's replies go out.

The messages are those of `aqueue._verbs`, a line of JSON each. The socket has a thread and an event loop of its own, so that a
client is told when the run's own loop is blocked, and so that nothing that a client does holds up the run.

Each module imports only from those above it:

- `addresses`: where a journal's socket may be
- `peers`: which user is at the other end of a connection
- `service`: accepts clients, and carries out their commands one at a time
- `server`: makes the socket, and runs the service on a thread
- `client`: gives a command to the run that has a journal open
"""
