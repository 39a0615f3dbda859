"""Peak memory of a training step on vectors that no dense network can read.

Three blocks of Linear, KAN and RMSNorm on MPS inputs of 40 sites of dimension 4 (4**40 = 1.2e24
entries a sample, bond dimension 8, batch 32): forward, backward, update. Prints the peak resident
memory of the whole process, torch included, in GiB. Linux only: it reads VmHWM, for ru_maxrss
begins at the memory of the process that started this one.
"""

import itertools
from pathlib import Path

import torch

import ftnn
from ftnn.nonlinear import KAN, RMSNorm
from ftnn.training import TorchModule

SITES, PHYS, BOND, BATCH = 40, 4, 8, 32


def main() -> None:
    """Run one step, check that it did something, print the peak."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    dims = (PHYS,) * SITES
    layers: list[ftnn.Layer] = []
    for n in range(3):
        layers += [ftnn.Linear(dims, dims, bond_dim=4, max_bond=BOND, seed=n), KAN(dims), RMSNorm()]
    model = ftnn.Sequential(*layers, ftnn.Readout(dims, num_outputs=10, bond_dim=8))
    edges = [1] + [BOND] * (SITES - 1) + [1]
    cores = tuple(
        torch.randn(BATCH, left, PHYS, right) / left**0.5
        for left, right in itertools.pairwise(edges)
    )
    model.to("torch", "float32")
    with torch.no_grad():
        ftnn.calibrate(model, cores)
    module = TorchModule(model)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    before = [p.detach().clone() for p in module.parameters()]
    labels = torch.arange(BATCH) % 10
    loss = torch.nn.functional.cross_entropy(module.apply_cores(cores), labels)
    loss.backward()
    optimizer.step()
    after = list(module.parameters())
    finite = bool(torch.isfinite(loss)) and all(bool(torch.isfinite(p).all()) for p in after)
    moved = sum(bool((p != q).any()) for p, q in zip(after, before, strict=True))
    if not finite or moved < len(after) // 2:
        raise SystemExit(f"the step went wrong: finite={finite}, moved {moved} of {len(after)}")
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(f"{int(status['VmHWM'].split()[0]) / 2**20:.2f} GiB")  # written in KiB


if __name__ == "__main__":
    main()
