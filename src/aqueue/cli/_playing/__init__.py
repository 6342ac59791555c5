"""A recorded run handed to reporters, as it goes on or as it was.

Each module imports only from those above it:

- `feeding`: hands a recorded run to reporters: what `watch` and `replay` have in common
- `keyboard`: single keys, as they are typed
- `replay_clock`: Unix time as it was during the run
- `stop_signals`: Ctrl-C, SIGTERM and SIGHUP for a subcommand that shows something until it is told to end
- `playback`: each event when its time has come, on the clock of the run
"""
