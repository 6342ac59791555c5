"""A run in the browser: a page that a server of its own keeps up to date, and what the report of a run shares with it.

Each module imports only from those above it:

- `html`: builds HTML and escapes all text in it
- `series`: counts over time, in a bounded number of bins
- `timeline`: what each worker did when: a bar per attempt, short ones joined
- `over_time`: folds the events into both, into how long attempts took, and into the processes of the run
- `failure_kinds`: folds the failures by kind, with when they happened
- `index`: an index of the run in SQLite: its items, the events of each, and views of its past
- `item_query`: finds items in the index, and their events
- `moment`: what each view is rendered from: a run as it stands or as it was
- `followed_run`: reads a journal to its end, again and again, into these folds
- `pictures`: bars and charts as SVG, which the style sheet colors
- `commands`: what a person may ask of a run, carried out by the `aqueue` command
- `verbs`: the buttons for that
- `frame`: what all views have around them: the state of the run, the tabs, what a reader must know first
- `past`: the run as it was after an earlier event, and what happened to it
- `dock`: the slider over the run's time
- `failures`: a view: the failures by kind
- `now`: a view: what limits the run, its figures, groups, types and workers
- `control`: a view: steers the run; and the dialogs before a command
- `listening`: listens on this machine, or for other machines with TLS
- `access`: lets only those read and steer who have the printed address
- `items`: a view: the items that match a filter, a page at a time
- `item`: a view: one item
- `shown`: the run as browsers see it: read and rendered on threads of its own, with its index and its past
- `server`: the pages and their updates over HTTP
"""
