"""What the reporters that draw in a terminal region have in common: they let go of the terminal when they are told."""

from aqueue_reporters._terminal import TerminalRegion

__all__ = ["RegionReporter"]


class RegionReporter:
    """The part of a reporter that makes it an `aqueue.reporting.SuspendableReporter`."""

    _region: TerminalRegion | None = None
    """Where it draws; None while it draws nowhere."""

    def suspend_terminal(self) -> None:
        """Put the terminal back until `resume_terminal`; safe in a signal handler."""
        if self._region is not None:
            self._region.suspend()

    def resume_terminal(self) -> None:
        """Draw again."""
        if self._region is not None:
            self._region.resume()

    def release_terminal(self) -> None:
        """Put the terminal back at once; safe in a signal handler."""
        if self._region is not None:
            self._region.release()
