"""The version of aqueue, as in the distribution's metadata and in `run.started`."""

__version__ = "0.1.0"
