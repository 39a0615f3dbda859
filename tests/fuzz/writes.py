"""A fault at every write of ``ftnn train``, then --resume: nothing is lost, one line is told."""

import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

from calls import TINY, call
from faults import FAULTS, Disk
from kills import finish, losses

EPOCHS = ("--epochs", 2)


def end() -> None:
    """End the process as ``kill -9`` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def operations(home: Path) -> list[str]:
    """Names of the operations of a run, from the configuration to the figures."""
    folder, told = home / "whole", home / "operations"
    with told.open("wb", buffering=0) as file:
        disk = Disk(folder, told=lambda number, name: file.write(f"{name}\n".encode()))
        found = call("train", *TINY, *EPOCHS, "--out", folder, within=disk)
    if found.code:
        raise SystemExit(f"the run to compare with was not trained: {found}")
    return told.read_text().split()


def run(every: int = 1) -> tuple[int, list[str]]:
    """Train with a fault at each write, and go on; ``every`` n-th write only, for each fault.

    Returns
    -------
    cases : int
    failures : list of str
    """
    failures, cases = [], 0
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        names = operations(home)
        whole = home / "whole"
        expected, files = losses(whole), sorted(path.name for path in whole.iterdir())
        for at in range(1, len(names) + 1):
            for kind, fault in enumerate(FAULTS):
                if (at + kind) % every:
                    continue
                cases += 1
                text = f"{fault} at write {at} of {len(names)}, {names[at - 1]}"
                folder = home / "run"
                disk = Disk(folder, at, fault, kill=end)
                stopped = call("train", *TINY, *EPOCHS, "--out", folder, within=disk)
                if fault == "kill" and stopped.code != -signal.SIGKILL:
                    failures.append(f"{text}: was not killed, {stopped}")
                elif fault != "kill" and not (stopped.refused or stopped.code == 0):
                    failures.append(f"{text}: {stopped}")
                finished = (folder / "summary.json").exists() and _is_whole(folder)
                found = call("plot", folder) if finished else finish(folder, EPOCHS)
                if found.code:
                    failures.append(f"{text}, then to its end: {found}")
                elif losses(folder) != expected:
                    failures.append(f"{text}, then to its end: other losses")
                elif missing := set(files) - {path.name for path in folder.iterdir()}:
                    failures.append(f"{text}, then to its end: {', '.join(missing)} missing")
                shutil.rmtree(folder, ignore_errors=True)
            if at % 10 == 0:
                print(f"{at} of {len(names)} writes, {len(failures)} failures so far", flush=True)
    for failure in failures:
        print(f"FAILED {failure}", flush=True)
    return cases, failures


def _is_whole(folder: Path) -> bool:
    """Whether a run is finished: its summary is there, and that of the test set in it."""
    return "test_loss" in json.loads((folder / "summary.json").read_text())
