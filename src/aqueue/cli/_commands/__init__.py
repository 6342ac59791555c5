"""The subcommands, each a module that is named like it.

Each module imports only from those above it:

- `chosen_events`: which events a person wants to see: by name, level, item or type
- `completion`: `aqueue completion`: the script with which a shell completes the command's words
- `export`: `aqueue export`: JSON lines, CSV, or a trace for Perfetto
- `failures`: `aqueue failures`: what failed, by kind and one by one
- `items`: `aqueue items`: the items of a state or a type, or the slowest
- `replay`: `aqueue replay`: a recorded run, shown as it was
- `report`: `aqueue report`: a run as one HTML file
- `results`: `aqueue results`: what the items returned
- `status`: `aqueue status`: how a run stands, on one screen
- `tree`: `aqueue tree`: the items as a tree with counts
- `explain`: `aqueue explain`: the story of one item, and what a resume would do with it
- `tail`: `aqueue tail`: the last events, and those that come
- `watch`: `aqueue watch`: a run as it goes on
"""
