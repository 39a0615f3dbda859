"""Speed of this checkout against another one, side by side.

`python benchmarks/versions.py FOLDER` runs the same calls in two processes that hold the two
versions, by turns and on one thread, and prints medians of the times and of the ratios. FOLDER is
a checkout of another commit, as `git worktree add FOLDER COMMIT` makes. The calls use names of the
contract only, which every version has. Time nothing while something else runs.
"""

import argparse
import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
SECONDS = 0.15
"""Duration of a round of a call, about, in seconds."""

# allocations of hundreds of megabytes would be page faults, more in one process than in the other
MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def calls() -> dict[str, Callable[[], Callable[[], object]]]:
    """Return what is timed, by name: functions that prepare a call."""
    import numpy as np
    import torch

    import ftnn
    from ftnn.training import TorchModule

    torch.set_num_threads(1)

    def states(L: int, bond: int, batch: int, backend: str, seed: int = 0) -> ftnn.MPS:
        rng, edges = np.random.default_rng(seed), [1, *[bond] * (L - 1), 1]
        cores = [
            (rng.normal(size=(batch, edges[k], 4, edges[k + 1])) / np.sqrt(4 * edges[k])).astype(
                "float32"
            )
            for k in range(L)
        ]
        return ftnn.MPS([torch.from_numpy(c) if backend == "torch" else c for c in cores])

    def layer(batch: int, backend: str, bias: bool = True) -> Callable[[], object]:
        dims = (4,) * 10
        linear = ftnn.Linear(dims, dims, bond_dim=8, max_bond=16, bias=bias, seed=1)
        linear.to(backend, dtype="float32")
        x = states(10, 8, batch, backend)

        def run() -> object:
            with torch.no_grad():
                return linear(x)

        return run

    def gradient(batch: int) -> Callable[[], object]:
        dims = (4,) * 10
        module = TorchModule(ftnn.Linear(dims, dims, 8, 16, seed=1), "float32")
        x = states(10, 8, batch, "torch")
        return lambda: sum((core**2).sum() for core in module(x).cores).backward()

    def added(backend: str) -> Callable[[], object]:
        x, y = (states(10, 8, 32, backend, seed) for seed in (0, 5))
        return lambda: ftnn.compress(x + y, 8)

    def step(L: int) -> Callable[[], object]:
        dims = (4,) * L
        model = ftnn.Sequential(
            ftnn.Linear(dims, dims, 4, 8, seed=1),
            ftnn.nonlinear.KAN(dims),
            ftnn.nonlinear.RMSNorm(),
            ftnn.Linear(dims, dims, 4, 8, seed=2),
            ftnn.Readout(dims, 5, 4, seed=3),
        )
        module, x = TorchModule(model, "float32"), states(L, 4, 32, "torch")
        optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5)
        labels = torch.arange(32) % 5

        def run() -> None:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(x), labels).backward()
            optimizer.step()

        return run

    def applied(layer: Any) -> Callable[[], object]:
        layer.to("torch", dtype="float32")
        x = states(20, 8, 32, "torch")
        return lambda: layer(x)

    return {
        "Linear, batch 128, torch": lambda: layer(128, "torch"),
        "Linear without bias, batch 128, torch": lambda: layer(128, "torch", bias=False),
        "Linear, batch 128, torch, with gradient": lambda: gradient(128),
        "Linear, batch 2, torch": lambda: layer(2, "torch"),
        "Linear, batch 2, torch, with gradient": lambda: gradient(2),
        "Linear, batch 32, NumPy": lambda: layer(32, "numpy"),
        "Linear, batch 2, NumPy": lambda: layer(2, "numpy"),
        "sum of two states, torch": lambda: added("torch"),
        "sum of two states, NumPy": lambda: added("numpy"),
        "RMSNorm": lambda: applied(ftnn.nonlinear.RMSNorm()),
        "Readout": lambda: applied(ftnn.Readout((4,) * 20, 10, 4, seed=0)),
        "training step, 5 sites": lambda: step(5),
        "training step, 10 sites": lambda: step(10),
        "training step, 40 sites": lambda: step(40),
    }


def serve() -> None:
    """Time the calls that are named on standard input."""
    prepare, ready = calls(), {}
    print("\n".join(prepare), flush=True)
    print(flush=True)
    for line in sys.stdin:
        name = line.strip()
        if name not in ready:
            call = prepare[name]()
            call()
            begin = time.perf_counter()
            call()
            ready[name] = call, max(1, round(SECONDS / (time.perf_counter() - begin)))
        call, number = ready[name]
        gc.collect()
        gc.disable()
        begin = time.perf_counter()
        for _ in range(number):
            call()
        print((time.perf_counter() - begin) / number, flush=True)
        gc.enable()


class Version:
    """A checkout in a process of its own.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path):
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=os.environ | MEMORY | THREADS | {"PYTHONPATH": str(folder)},
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.requests, self.answers = self.process.stdin, self.process.stdout
        self.names = list(iter(lambda: self.answers.readline().strip(), ""))
        if not self.names:
            raise SystemExit(f"{folder} does not hold a version of ftnn that runs here")

    def seconds(self, name: str) -> float:
        """Time a call once."""
        print(name, file=self.requests, flush=True)
        return float(self.answers.readline())


def main() -> None:
    """Print a table of both versions."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a checkout of another version")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        sys.path[0] = str(arguments.folder)  # instead of the folder of this file
        serve()
        return
    if not (arguments.folder / "ftnn" / "__init__.py").is_file():
        parser.error(f"{arguments.folder} is not a checkout of ftnn")
    versions = Version(arguments.folder.resolve()), Version(HERE)
    print("| call | before, ms | after, ms | after / before |\n|---|---|---|---|")
    for name in versions[1].names:
        times = []
        for turn in range(arguments.rounds + 1):
            order = versions if turn % 2 else versions[::-1]
            seconds = {version: version.seconds(name) for version in order}
            times.append([seconds[version] for version in versions])
        before, after = zip(*times[1:], strict=True)  # the first is a warm-up
        ratio = statistics.median(b / a for a, b in times[1:])
        medians = (f"{1e3 * statistics.median(part):.2f}" for part in (before, after))
        print(f"| {name} | {' | '.join(medians)} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
