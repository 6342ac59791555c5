"""Feeds a recorded run to reporters, live or as a replay.

Each module imports only from those above it:

- `feeding`: opens reporters and feeds them events, for `watch` and `replay`
- `keyboard`: reads single keys as they are typed
- `replay_clock`: the clock of a replay, which gives the time of the recorded run
- `stop_signals`: handles Ctrl-C, SIGTERM and SIGHUP while a subcommand shows a run
- `playback`: hands on each event at its time on the replay clock
"""
