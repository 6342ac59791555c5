"""Importing this makes runs of this process write snapshots every few events, so that resumes begin with one."""

from aqueue._delivery import snapshots

snapshots._MIN_EVENTS = 7
snapshots._MIN_EVENTS_AT_END = 3
snapshots._EVENTS_PER_ITEM = 0
