r"""
Cost grows with sites, not with entries
=======================================

A layer with its gradient, on vectors of :math:`4^{5}` to :math:`4^{80}` entries. What doubles the
number of digits of the dimension doubles the time.
"""

import time

import matplotlib.pyplot as plt
import torch

import ftnn
from ftnn.nonlinear import RMSNorm
from ftnn.training import TorchModule


def step_seconds(sites, batch=16, bond=6, rounds=5):
    """Measure the median time of a forward and a backward pass."""
    dims = (4,) * sites
    model = ftnn.Sequential(
        ftnn.Linear(dims, dims, bond_dim=3, max_bond=bond),
        RMSNorm(),
        ftnn.Readout(dims, num_outputs=10, bond_dim=6),
    )
    bonds = [1, *[bond] * (sites - 1), 1]
    x = [torch.randn(batch, bonds[k], 4, bonds[k + 1]) / bond**0.5 for k in range(sites)]
    ftnn.calibrate(model.to("torch", "float32"), tuple(x))
    module = TorchModule(model)
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        module(ftnn.MPS(x)).square().mean().backward()
        times.append(time.perf_counter() - begin)
    return sorted(times)[rounds // 2]


sites = [5, 10, 20, 40, 80]
seconds = [step_seconds(L) for L in sites]

# %%
fig, axis = plt.subplots(figsize=(5.6, 3.2), layout="constrained")
axis.loglog(sites, [1e3 * s for s in seconds], "o-", label="measured")
axis.loglog(sites, [1e3 * seconds[1] * L / 10 for L in sites], "k:", label="proportional")
axis.set_xticks(sites, [f"$4^{{{L}}}$" for L in sites])
axis.minorticks_off()
axis.set(xlabel="entries of a vector", ylabel="a step of 16 samples (ms)")
axis.legend(frameon=False)
plt.show()

assert seconds[-1] < 100 * seconds[0]
