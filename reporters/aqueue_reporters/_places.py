"""Where items run on a cluster, as a column that is as narrow as it can be."""

from typing import Final

from rich.cells import cell_len

from aqueue.view import RunningItem, RunView, WorkerProcesses
from aqueue_reporters._pen import Pen

__all__ = ["Places"]

_HERE: Final = "here"
_MIN_CELLS: Final = 10
_MAX_HOST_CHARS: Final = 100


class Places:
    """Names worker processes as ``host:pid``: without the domain, and of a host that is too long the end.

    Attributes:
        cells: how wide the column is.
        host: the host of all processes, safe to show, if the column has no room for it; else empty.
    """

    def __init__(self, pen: Pen) -> None:
        """Write with `pen`."""
        self._pen = pen
        self._names: dict[int, str] = {}
        self._seen: tuple[dict[int, object], int] = ({}, 0)
        self.cells = len(_HERE)
        self.host = ""

    def fit(self, processes: WorkerProcesses, cells: int) -> None:
        """Name `processes` for lines of `cells` cells; cheap if they are those of the last time."""
        if self._seen[1] == cells and self._seen[0] == processes:
            return
        self._seen = (dict(processes), cells)
        self.host = ""
        limit = max(cells // 5, _MIN_CELLS)
        hosts = self._short_hosts({process.host for process in processes.values()})
        names = {first: f"{hosts[process.host]}:{process.pid}" for first, process in processes.items()}
        if len(hosts) == 1 and any(cell_len(name) > limit for name in names.values()):
            (self.host,) = hosts.values()
            names = {first: f":{process.pid}" for first, process in processes.items()}
        self._names = {
            first: self._cut(name, f":{processes[first].pid}", limit) if cell_len(name) > limit else name
            for first, name in names.items()
        }
        self.cells = max(map(cell_len, (_HERE, *self._names.values())))

    def _short_hosts(self, hosts: set[str]) -> dict[str, str]:
        """Return each host's name, without its domain where the rest tells them apart; safe to show."""
        cut = {host[: _MAX_HOST_CHARS + 1] for host in hosts}
        first = {host.partition(".")[0] for host in cut}
        is_short = len(first) == len(hosts) and not any(host.rpartition(".")[2].isdigit() for host in cut)
        return {host: self._pen.safe(host.partition(".")[0] if is_short else host, _MAX_HOST_CHARS) for host in hosts}

    def _cut(self, name: str, pid: str, limit: int) -> str:
        ellipsis = self._pen.characters.ellipsis
        host = name.removesuffix(pid)
        room = limit - len(pid) - len(ellipsis)
        while host and cell_len(host) > room:
            host = host[1:]
        return f"{ellipsis}{host}{pid}" if host else self._pen.fit(pid, limit).rstrip()

    def of_item(self, item: RunningItem, view: RunView) -> str:
        """Return where an item runs: hooks run in the run's own process, whatever worker they belong to."""
        return _HERE if item.phase == "after_children" else self.of_worker(item.worker, view)

    def of_worker(self, worker: int, view: RunView) -> str:
        """Return where the worker of this number is, or was."""
        process = view.process_of(worker)
        return self._pen.characters.nothing if process is None else self._names[process.first_worker]
