"""The terminal is as it was when a run is over, whenever signals come."""

import json
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aqueue import Backend
from tests.processes.pty_process import PtyProcess

_RUNS = int(os.environ.get("TORTURE_TERMINALS", "20"))
"""How many runs are disturbed, on each backend."""

_AT_ONCE = 2
_NOISE = ("Exception ignored", "RuntimeWarning", "ResourceWarning", "Fatal Python error", "never awaited")
_ENDINGS = ("KeyboardInterrupt", "SystemExit")


def _one(seed: int, backend: Backend, gates: Path, life_s: dict[str, float]) -> None:
    choose = random.Random(seed)
    reporter = ["rich", "rich", "plain", "none"][seed % 4]
    options = {
        "reporter": reporter,
        "backend": backend,
        "num_workers": 4,
        "graceful_ctrl_c": choose.random() < 0.7,
        "lifespan": "with_tasks",
    }
    env = {"AQUEUE_TEST_GATES": str(gates), "AQUEUE_TEST_DEAF_AT_END": "1"}
    with PtyProcess("job.py", "Tree", json.dumps(options), env=env, keeps_output=True) as job:
        job.until_mark("ready")
        began = time.monotonic()
        if reporter not in life_s:  # the undisturbed one, to know over what time to spread the others' signals
            assert job.wait() == 0
            job.assert_terminal_restored()
            life_s[reporter] = time.monotonic() - began
            return
        # Not to wait for anything: the moment is what is random.
        time.sleep(choose.uniform(0.0, 1.1 * life_s[reporter]))
        for _ in range(choose.choice([1, 1, 2, 3])):
            if choose.random() < 0.6:
                job.type(b"\x03")
            else:
                job.kill(choose.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP]))
            time.sleep(choose.choice([0.0, 0.001, 0.02, 0.1]))
        code = job.wait()
        context = f"seed {seed}, {options}, exit {code}, marks {job.marks}:\n{job.shown}"
        assert code in (0, -2, -15, -1, 143, 129, 130), context
        for noise in _NOISE:
            assert noise not in job.shown, context
        if "Traceback" in job.shown:
            lines = [line for line in job.shown.splitlines() if line.strip() and "next-prompt" not in line]
            # A note that Python 3.12 and newer add to a Ctrl-C that comes while a module makes a class.
            said = [line for line in lines if not line.startswith("Error calling __set_name__")]
            assert said[-1].replace("^C", "") in _ENDINGS, context
        try:
            job.assert_terminal_restored()
        except AssertionError as error:
            error.add_note(context)
            raise


def test_signals_at_random_moments_leave_the_terminal_as_it_was(tmp_path: Path, backend: Backend) -> None:
    """One to three signals, at any moment of a run's life, leave a shown cursor, no styles, and no noise behind."""
    life_s: dict[str, float] = {}
    for seed in (1, 2, 3):
        _one(seed, backend, tmp_path, life_s)
    first = {"trio": 100, "asyncio": 200}[backend]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(lambda seed: _one(seed, backend, tmp_path, life_s), range(first, first + _RUNS)):
            pass
