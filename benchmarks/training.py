"""What a training step costs, and where its time goes.

`python benchmarks/training.py speed --compile` compares plain, recomputed and compiled steps with
the floor of their matrix products and a dense network, by turns, and prints their memory; `...
shares` prints the shares of a step by torch.profiler. Time nothing while something else runs.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).parents[1]))

import ftnn
from ftnn.measure.floor import Floor, flops, products
from ftnn.measure.memory import keep_freed_memory, kept_bytes, peak_bytes
from ftnn.measure.timing import Timer, compare, training_step
from ftnn.training import TorchModule

Step = Callable[[], None]


@dataclass(frozen=True)
class Work:
    """A network of ``depth`` Linear and RMSNorm with a Readout, on states drawn at random.

    Attributes
    ----------
    L, phys_in, phys, D, chi, batch, depth : int
        Sites, physical dimensions of input and of hidden states, bond dimension of weights and of
        states, samples, hidden layers.
    recompute, compile : bool
    """

    L: int = 5
    phys_in: int = 4
    phys: int = 8
    D: int = 8
    chi: int = 8
    batch: int = 250
    depth: int = 1
    recompute: bool = False
    compile: bool = False

    def module(self) -> tuple[TorchModule, tuple[torch.Tensor, ...]]:
        """The network, calibrated, in float32, and a batch of inputs."""
        torch.manual_seed(0)
        dims, layers = (self.phys_in,) * self.L, []
        for n in range(self.depth):
            hidden = (self.phys,) * self.L
            layers += [
                ftnn.Linear(dims, hidden, self.D, self.chi, seed=n),
                ftnn.nonlinear.RMSNorm(),
            ]
            dims = hidden
        model = ftnn.Sequential(*layers, ftnn.Readout(dims, 10, 10))
        model.to("torch", "float32")
        cores = tuple(
            torch.randn(self.batch, a, self.phys_in, b) / (a * self.phys_in) ** 0.5
            for a, b in pairwise(edges(self.L, self.phys_in, self.chi))
        )
        with torch.no_grad():
            ftnn.calibrate(model, cores)
        return TorchModule(model, recompute=self.recompute), cores

    def step(self) -> Step:
        """Forward, backward, clipping and update."""
        module, cores = self.module()
        return step_of(module, cores, self.compile)


def edges(L: int, phys: int, chi: int) -> list[int]:
    """Bonds of a state, ends included: no larger than they can be."""
    return [min(chi, phys ** min(k, L - k, 30)) for k in range(L + 1)]


def step_of(module: nn.Module, inputs, compile: bool = False) -> Step:
    """Forward, backward, clipping and update of a classifier on tensors or cores."""
    batch = len(inputs[0]) if isinstance(inputs, tuple) else len(inputs)
    labels = torch.arange(batch) % 10
    call = module.apply_cores if isinstance(module, TorchModule) else module
    if compile:
        call = torch.compile(call, fullgraph=True, dynamic=False)

    def loss() -> torch.Tensor:
        return nn.functional.cross_entropy(call(inputs), labels)

    return training_step(module.parameters(), loss, clip_norm=1.0, lr=1e-4, fused=True)


# ---- profile -------------------------------------------------------------------------------------

KINDS = {
    "matrix products": ("mm", "bmm", "addmm", "baddbmm", "dot", "mv"),
    "orthogonalization": ("linalg_cholesky_ex", "linalg_qr", "linalg_solve_triangular", "geqrf"),
    "copies and permutations": (
        "copy_",
        "cat",
        "stack",
        "clone",
        "index_select",
        "gather",
        "fill_",
    ),
}
VIEWS = ("view", "reshape", "transpose", "permute", "slice", "select", "expand", "unsqueeze")
MOVES = {*VIEWS, "alias", "bmm", "cat", "clone", "copy", "detach", "mm", "t", "to", "unsafe"}
"""What the name of a compiled kernel is made of if it only brings numbers into place."""


def kind(name: str) -> str:
    """Which part of a step an operator of torch belongs to."""
    short = name.removeprefix("aten::")
    if "cpp_fused_" in name:
        parts = {part for part in name.split("cpp_fused_")[1].split("_") if not part.isdigit()}
        return "copies and permutations" if parts - {""} <= MOVES else "elementwise and sums"
    for title, names in KINDS.items():
        if short in names or short.lstrip("_") in names:
            return title
    return "elementwise and sums" if name.startswith("aten::") and short not in VIEWS else "Python"


def shares(step: Step, steps: int = 20) -> dict[str, tuple[float | None, float]]:
    """Share of every kind of work in the time of steps without the profiler, and with it.

    Operators are timed with the profiler in both. What is not spent within them is Python,
    dispatch and autograd; the profiler makes operators longer, so that the first share of this
    is a lower bound, and adds time of its own between them, so that the second is an upper one.
    Where it makes operators so much longer that they exceed the steps without, the first is None.
    """
    for _ in range(5):
        step()
    timer = Timer(step, warm=False)
    timer.number = steps
    walls = [steps * timer.seconds()]
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        walls.append(steps * timer.seconds())
    found: dict[str, float] = {}
    for event in trace.key_averages():
        title = kind(event.key)
        if title != "Python":
            found[title] = found.get(title, 0.0) + 1e-6 * event.self_cpu_time_total
    total = sum(found.values())
    parts = {title: tuple(seconds / wall for wall in walls) for title, seconds in found.items()}
    parts["Python, dispatch, autograd"] = tuple(1.0 - total / wall for wall in walls)
    return {
        title: (plain if total < walls[0] else None, profiled)
        for title, (plain, profiled) in parts.items()
    }


# ---- speed ---------------------------------------------------------------------------------------


def dense(batch: int) -> Step:
    """Step of a dense network of 536 thousand parameters."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))
    )
    return step_of(model, torch.randn(batch, 784))


def speed(work: Work, compiled: bool) -> None:
    """Print samples a second, multiples of the floor, and what is kept for the backward pass."""
    steps = {"plain": work.step(), "recomputed": replace(work, recompute=True).step()}
    floor = Floor(products(steps["plain"]), "torch-cpu")
    for name, step in steps.items():
        kept, peak = (count(step) / work.batch / 1024 for count in (kept_bytes, peak_bytes))
        print(f"{name}: keeps {kept:.1f} KiB a sample, peak {peak:.1f}")
    if compiled:
        steps["compiled"] = replace(work, compile=True).step()
    steps["dense 784-512-256-10"] = dense(work.batch)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        timers = {name: Timer(step) for name, step in steps.items()}
        times = compare(timers | {"floor": floor})
        least = times.pop("floor")
        print(f"{threads} threads: floor {1e3 * least:.1f} ms, {flops(floor.counts):.2e} FLOPs")
        for name, seconds in times.items():
            text = f"  {name}: {1e3 * seconds:.1f} ms, {work.batch / seconds:,.0f} samples/s"
            if not name.startswith("dense"):
                text += f", {seconds / least:.1f} times the floor"
            print(text)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("speed", "shares"))
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--threads", type=int, help="of shares, by default 1")
    parser.add_argument("--compile", action="store_true", help="a minute or two for the compiler")
    arguments = parser.parse_args()
    if arguments.threads and arguments.what == "speed":
        parser.error("--threads belongs to shares; speed takes one and two")
    keep_freed_memory()
    work = Work(depth=arguments.depth, batch=arguments.batch)
    print(work)
    if arguments.what == "speed":
        speed(work, arguments.compile)
    else:
        torch.set_num_threads(arguments.threads or 1)
        torch._inductor.config.cpp.enable_kernel_profile = arguments.compile
        found = shares(replace(work, compile=arguments.compile).step())
        for title, (plain, profiled) in found.items():
            text = "unknown" if plain is None else f"{plain:.1%}"
            print(f"{title}: {text} of a step, {profiled:.1%} of one with the profiler")
        if any(plain is None for plain, _ in found.values()):
            print("(with the profiler operators alone take longer than whole steps without)")


if __name__ == "__main__":
    main()
