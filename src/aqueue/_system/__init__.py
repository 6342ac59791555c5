"""The machine around a run: its event loop, signals, terminal and standard error.

Each module imports only from those above it:

- `installed_handlers`: signal handlers that are restored afterwards
- `job_control`: Ctrl-Z while a run draws on the terminal
- `loop`: what only the event loop itself can do or tell: calls from other threads, its time, the state of a task
- `notice`: messages on standard error that can't get stuck, from any thread and signal handler
- `startup`: Ctrl-C while the command's modules are loaded
- `timers`: functions that are called in the loop when their time has come, all by one task
- `signals`: SIGINT, SIGTERM and SIGHUP while a run is open
- `watchdog`: names the code that blocks the event loop
"""
