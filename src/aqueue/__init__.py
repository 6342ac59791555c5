"""aqueue: run tree-like I/O-bound jobs with async workers, live progress and an event log."""

# The layers, each of which imports only those before it:
#
#   events, text                what happens, as data; untrusted text made safe
#   result, errors              what a run came to; everything that is raised
#   item, view, reporting       what users write; a run folded from its events; the Reporter protocol
#   _bus, _queues, _tree        hands events to reporters; the order of items; who waits for whom
#   _engine                     workers, hooks, stopping
#   _run                        run_queue, async_run_queue: wires the rest
#
# This module only re-exports.
