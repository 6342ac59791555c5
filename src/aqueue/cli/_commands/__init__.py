"""The subcommands, one module each, and options that only `tail` has.

Each module imports only from those above it:

- `chosen_events`: chooses events by name, level, item or type
- `completion`: `aqueue completion`: prints the script with which a shell completes the command's words
- `export`: `aqueue export`: writes JSON lines, CSV, a trace for Perfetto, or tables in a SQLite file
- `failures`: `aqueue failures`: lists what failed, by kind and one by one
- `items`: `aqueue items`: lists the items, all or those that are selected, or the slowest
- `replay`: `aqueue replay`: replays a recorded run
- `report`: `aqueue report`: writes a run as one HTML file
- `results`: `aqueue results`: writes what the items returned
- `status`: `aqueue status`: shows the state of a run on one screen
- `steer`: `aqueue pause`, `unpause`, `workers`, `limit` and `stop`: steer a run, live or not
- `steer_items`: `aqueue retry`, `skip` and `cancel`: commands on items
- `tree`: `aqueue tree`: shows the items as a tree with counts
- `explain`: `aqueue explain`: shows the history of one item, and what a resume would do with it
- `tail`: `aqueue tail`: prints the last events, and follows new ones
- `serve`: `aqueue serve`: shows a run in the browser, live or ended
- `watch`: `aqueue watch`: shows a run live
"""
