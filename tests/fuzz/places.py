"""Places a run folder may be in: a full disk, read-only, used by two; and memory that grows."""

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from calls import TINY, Process, call, contents
from kills import EPOCHS, finish, losses

STEPS = 2000
GROWTH = 2 << 20
"""Bytes that a process may grow by over the second half of the steps."""


def mounted(home: Path, size: int) -> bool:
    """Mount a file system in memory; False where that is not allowed."""
    home.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(home)]
    return subprocess.run(words, capture_output=True).returncode == 0


def remount(home: Path, options: str) -> None:
    """Change the options of a file system in memory."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(home)], check=True)


@contextlib.contextmanager
def small_disk(size: int) -> Iterator[Path | None]:
    """A folder on a disk of so many bytes, or None where mounting is not allowed."""
    home = Path(tempfile.mkdtemp())
    done = mounted(home, size)
    try:
        yield home if done else None
    finally:
        if done:
            subprocess.run(["umount", "-l", str(home)], check=True)
        shutil.rmtree(home, ignore_errors=True)


def full_disk(expected: list[dict], largest: int) -> tuple[int, list[str]]:
    """Train on disks that are too small, then make them larger and go on."""
    failures, tried = [], 0
    for size in (4096, *(largest * n // 10 // 4096 * 4096 for n in (1, 2, 3, 4, 5, 6, 8))):
        with small_disk(size) as home:
            if home is None:
                print("disk full: skipped, mounting is not allowed here")
                return 0, []
            tried += 1
            folder = home / "run"
            found = call("train", *TINY, *EPOCHS, "--out", folder)
            if not (found.refused and "space" in found.err.lower()):
                failures.append(f"disk of {size} bytes: {found}")
            left = [path.name for path in home.rglob("*.part")]
            if left:
                failures.append(f"disk of {size} bytes: {', '.join(left)} left behind")
            remount(home, "size=64m")
            found = finish(folder)
            if found.code:
                failures.append(f"disk of {size} bytes, made larger: {found}")
            elif losses(folder) != expected:
                failures.append(f"disk of {size} bytes, made larger: other losses")
    return tried, failures


def read_only(whole: Path, half: Path) -> tuple[int, list[str]]:
    """Use a run on a read-only disk: what only reads works, the rest says why not."""
    failures = []
    with small_disk(64 << 20) as home:
        if home is None:
            print("read-only folder: skipped, mounting is not allowed here")
            return 0, []
        shutil.copytree(whole, home / "whole")
        shutil.copytree(half, home / "half")
        remount(home, "ro")
        for words in (("evaluate", home / "whole"), ("inspect", home / "whole")):
            found = call(*words)
            if found.code:
                failures.append(f"read-only, {words[0]}: {found}")
        for words in (
            ("plot", home / "whole"),
            ("train", "--resume", home / "half"),
            ("train", *TINY, "--out", home / "new"),
        ):
            found = call(*words)
            if not (found.refused and "ead-only" in found.err):
                failures.append(f"read-only, {' '.join(map(str, words[:2]))}: {found}")
    return 5, failures


def two_trainings(home: Path, expected: list[dict]) -> tuple[int, list[str]]:
    """Train into a folder where another process trains: refused, and no harm to the first."""
    failures, folder = [], home / "shared"
    first = Process("train", *TINY, *EPOCHS, "--out", folder)
    while not (folder / "checkpoint.json").exists() and time.monotonic() < first.begun + 60:
        time.sleep(0.005)
    for words in (("--resume", folder), (*TINY, *EPOCHS, "--out", folder)):
        found = call("train", *words)
        if not found.refused:
            failures.append(f"a second training, {words[0]}: {found}")
        elif words[0] == "--resume" and str(first.pid) not in found.err:
            failures.append(f"a second training: does not tell who trains: {found}")
    found = first.wait()
    if found.code:
        failures.append(f"the first training: {found}")
    elif losses(folder) != expected:
        failures.append("the first training: other losses")
    again = call("train", "--resume", folder, "--quiet")  # the lock is gone with its owner
    if again.code:
        failures.append(f"resume after the first training: {again}")
    return 2, failures


def memory() -> tuple[int, list[str]]:
    """Train for many steps in this process: memory stays where it is."""
    import numpy as np

    import ftnn
    from ftnn.training import TrainConfig, Trainer, TrainingData

    pages: list[int] = []

    def watch(cores, rng):
        pages.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
        return cores

    rng = np.random.default_rng(0)
    states = ftnn.MPS.from_dense(rng.standard_normal((80, 4**4)), (4,) * 4)
    labels = np.arange(80) % 2
    dims = (4,) * 4
    model = ftnn.Sequential(
        ftnn.Linear(dims, dims, 2, 4),
        ftnn.nonlinear.KAN(dims),
        ftnn.nonlinear.RMSNorm(),
        ftnn.Readout(dims, 2, 3),
    )
    per_epoch = 80 // 4
    config = TrainConfig(epochs=STEPS // per_epoch, batch_size=4, threads=1, patience=0)
    with tempfile.TemporaryDirectory() as home:
        trainer = Trainer(model, None, config, home, quiet=True)
        trainer.fit(TrainingData(states, labels, states, labels), augment_states=watch)
    half = len(pages) // 2
    first, last = (float(np.median(part)) for part in (pages[half : half + 200], pages[-200:]))
    text = f"{len(pages)} steps: {last / 2**20:.1f} MiB at the end, {(last - first) / 2**20:+.2f} "
    print(f"memory: {text}MiB over the second half")
    return len(pages), [] if last - first < GROWTH else [f"memory grows: {text}MiB"]


def run() -> dict[str, tuple[int, list[str]]]:
    """Check all places.

    Returns
    -------
    dict of str to (cases, failures)
    """
    from folders import half_trained

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        whole = home / "whole"
        found = call("train", *TINY, *EPOCHS, "--out", whole)
        if found.code:
            raise SystemExit(f"the run to compare with was not trained: {found}")
        expected = losses(whole)
        largest = sum(path.stat().st_size for path in whole.iterdir())
        half, before = half_trained(home / "half"), contents(whole)
        results = {
            "full disk": full_disk(expected, largest),
            "read-only folder": read_only(whole, half),
            "two trainings": two_trainings(home, expected),
            "memory, steps": memory(),
        }
        assert contents(whole) == before
    for _, failures in results.values():
        for failure in failures:
            print(f"FAILED {failure}", flush=True)
    return results
