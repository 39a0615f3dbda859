"""kill -9, SIGTERM and SIGHUP at random moments of a training, then --resume: the same losses."""

import json
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

from calls import TINY, Call, Process, call

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
EPOCHS = ("--epochs", 5)
TIMES = ("seconds", "samples_per_s", "step_seconds")


def losses(folder: Path) -> list[dict]:
    """Measured numbers of every epoch, and of the test set, without times."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((folder / "summary.json").read_text())
    kept = {k: v for k, v in summary.items() if k.startswith(("test_", "val_", "best_", "epochs"))}
    return [{k: v for k, v in record.items() if k not in TIMES} for record in (*records, kept)]


def finish(folder: Path, epochs: tuple = EPOCHS) -> Call:
    """Go on with a run, or begin it again where nothing had been kept yet."""
    if (folder / "checkpoint.json").exists():
        return call("train", "--resume", folder, "--quiet")
    shutil.rmtree(folder, ignore_errors=True)
    return call("train", *TINY, *epochs, "--out", folder)


def run(start: int, moments: int = 20) -> tuple[int, list[str]]:
    """Interrupt trainings and go on.

    Returns
    -------
    moments : int
    failures : list of str
    """
    rng, failures = random.Random(start), []
    with tempfile.TemporaryDirectory() as home:
        whole = Path(home) / "whole"
        begun = time.monotonic()
        process = Process("train", *TINY, *EPOCHS, "--out", whole)
        while not (whole / "summary.json").exists() and time.monotonic() < begun + 100:
            time.sleep(0.01)
        duration = time.monotonic() - begun  # until the figures, which nothing depends on
        found = process.wait()
        if found.code:
            raise SystemExit(f"the run to compare with was not trained: {found}")
        expected = losses(whole)
        for number in range(moments):
            folder, sent = Path(home) / str(number), SIGNALS[number % len(SIGNALS)]
            moment = rng.uniform(0.0, duration)
            process = Process("train", *TINY, *EPOCHS, "--out", folder)
            time.sleep(moment)
            process.kill(sent)
            stopped = process.wait(60)
            text = f"{sent.name} after {moment:.2f} of {duration:.2f} s"
            if sent != signal.SIGKILL and stopped.code not in (0, -sent, 128 + sent):
                failures.append(f"{text}: {stopped}")
            if "Traceback" in stopped.err:
                failures.append(f"{text}: {stopped}")
            found = finish(folder)
            if found.code:
                failures.append(f"{text}, then resume: {found}")
            elif losses(folder) != expected:
                failures.append(f"{text}, then resume: other losses")
            print(f"{number + 1} of {moments}: {text}, {len(failures)} failures so far", flush=True)
            left = [path.name for path in folder.rglob("*.part")]
            if left:
                failures.append(f"{text}: {', '.join(left)} left behind")
            shutil.rmtree(folder, ignore_errors=True)
    for failure in failures:
        print(f"FAILED {failure}", flush=True)
    return moments, failures
