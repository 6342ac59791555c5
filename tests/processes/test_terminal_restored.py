"""The terminal is as it was when a run is over, whenever signals come."""

import json
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.processes.pty_process import PtyProcess

_RUNS = 100
_AT_ONCE = 2
_NOISE = ("Exception ignored", "RuntimeWarning", "ResourceWarning", "Fatal Python error", "never awaited")
_ENDINGS = ("KeyboardInterrupt", "SystemExit")


def _one(seed: int, gates: Path, life_s: dict[tuple[str, str], float]) -> tuple[tuple[str, str], float]:
    choose = random.Random(seed)
    kind = (["rich", "rich", "plain", "none"][seed % 4], ["trio", "asyncio"][seed // 4 % 2])
    options = {
        "reporter": kind[0],
        "backend": kind[1],
        "num_workers": 4,
        "graceful_ctrl_c": choose.random() < 0.7,
        "lifespan": "with_tasks",
    }
    env = {"AQUEUE_TEST_GATES": str(gates), "AQUEUE_TEST_DEAF_AT_END": "1"}
    with PtyProcess("job.py", "Tree", json.dumps(options), env=env, keeps_output=True) as job:
        job.until_mark("ready")
        began = time.monotonic()
        if kind not in life_s:  # the undisturbed one, to know over what time to spread the others' signals
            assert job.wait() == 0
            job.assert_terminal_restored()
            return kind, time.monotonic() - began
        # Not to wait for anything: the moment is what is random.
        time.sleep(choose.uniform(0.0, 1.1 * life_s[kind]))
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
            said = [line for line in job.shown.splitlines() if line.strip() and "next-prompt" not in line]
            assert said[-1].replace("^C", "") in _ENDINGS, context
        try:
            job.assert_terminal_restored()
        except AssertionError as error:
            error.add_note(context)
            raise
        return kind, time.monotonic() - began


def test_signals_at_a_hundred_random_moments_leave_the_terminal_as_it_was(tmp_path: Path) -> None:
    """One to three signals, at any moment of a run's life, leave a shown cursor, no styles, and no noise behind."""
    life_s: dict[tuple[str, str], float] = {}
    for seed in range(8):
        kind, life = _one(seed, tmp_path, life_s) if len(life_s) < 6 else (("", ""), 0.0)
        life_s.setdefault(kind, life)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(lambda seed: _one(seed, tmp_path, life_s), range(100, 100 + _RUNS)):
            pass
