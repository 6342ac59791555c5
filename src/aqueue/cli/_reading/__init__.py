"""Recorded runs, read: journals and logs, whole or torn, of runs that go on or have ended."""
