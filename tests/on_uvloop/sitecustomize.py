"""Make "asyncio" mean uvloop in every Python that has this folder in PYTHONPATH: `make test-uvloop` runs tests so."""

import asyncio.events

import uvloop

# Not by a policy, which Python 3.14 deprecates. What makes a loop without saying which, as asyncio.run and anyio.run do,
# asks for it here.
asyncio.events.new_event_loop = asyncio.new_event_loop = uvloop.new_event_loop
