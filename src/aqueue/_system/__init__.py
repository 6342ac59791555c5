"""The machine around a run: its event loop, signals, terminal and standard error.

Each module imports only from those above it:

- `installed_handlers`: signal handlers that are put back as they were
- `job_control`: Ctrl-Z while a run draws on the terminal
- `loop`: what is asked of the event loop itself: a call from outside of it, its time, the state of a task
- `notice`: warnings on standard error that can't get stuck, from any thread and signal handler
- `startup`: Ctrl-C while the command's modules are loaded
- `timers`: functions that are called in the loop when their time has come, by one task for all of them
- `signals`: SIGINT, SIGTERM and SIGHUP while a run is open
- `watchdog`: names the code that keeps the event loop to itself
"""
