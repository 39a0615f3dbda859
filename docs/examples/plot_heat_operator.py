r"""
Learn a solution operator on :math:`2^{20}` points
==================================================

The heat equation maps an initial function to the solution at a later time, linearly. One
:class:`ftnn.Linear` learns that map from pairs of functions, on a grid of a million points that no
dense layer could read: the weight of one would have :math:`10^{12}` entries.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

import ftnn
from ftnn.encoding import from_function, on_coarser_grid
from ftnn.training import StateRegression, TorchModule

# %%
# Pairs of functions as states: random Fourier series, and what diffusion leaves of them.
SITES, MODES, STEPS = 20, 6, 300
rng = np.random.default_rng(0)
k = np.arange(MODES + 1)
normal = rng.standard_normal((2, 96, MODES + 1))
coefficients = (normal[0] + 1j * normal[1]) / (1 + k)


def waves(c):
    """Make the batch of functions with Fourier coefficients ``c``."""
    return from_function(lambda t: (c @ np.exp(2j * np.pi * k[:, None] * t)).real, SITES, rtol=1e-6)


decay = np.exp(-0.002 * (2 * np.pi * k) ** 2)
inputs, targets = waves(coefficients), waves(coefficients * decay)
print("bonds", max(inputs.bond_dims), max(targets.bond_dims))

# %%
# The layer starts as the identity plus noise: the solution after no time.
dims = (2,) * SITES
layer = ftnn.Linear(dims, dims, bond_dim=4, max_bond=10, bias=False)
for name, core in layer.params.items():
    left, out, inn, right = core.shape
    identity = np.eye(left, right)[:, None, None, :] * np.eye(out, inn)[:, :, None]
    layer.params[name] = identity + 0.01 * rng.standard_normal(core.shape)
module = TorchModule(layer, dtype="float64")
optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
x, t = ([torch.from_numpy(core) for core in state.cores] for state in (inputs, targets))
objective = StateRegression()
errors = []
for _ in range(STEPS):
    rows = torch.from_numpy(rng.choice(80, 16, replace=False))
    output = module.apply_cores(tuple(core[rows] for core in x))
    losses, _ = objective.measure(output, tuple(core[rows] for core in t))
    loss = losses.mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    errors.append(loss.item() ** 0.5)

# %%
# Three of the sixteen functions that were held out.
with torch.no_grad():
    held_out = module.apply_cores(tuple(core[80:] for core in x))
    _, scores = objective.measure(held_out, tuple(core[80:] for core in t))
    error = scores.mean()
print(f"relative error on unseen functions {error:.2e}, {layer.num_params():,} parameters")

fig, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.8), layout="constrained")
left.semilogy(errors)
left.set(xlabel="step", ylabel="relative error, training")
grid = np.arange(2**9) / 2**9
for n in range(3):
    start, end = ([core[80 + n, None] for core in s.cores] for s in (inputs, targets))
    learned = [core[n, None].numpy() for core in held_out]
    start, end, learned = (on_coarser_grid(cores, 9)[0] for cores in (start, end, learned))
    right.plot(grid, start, color=f"C{n}", linestyle=":", linewidth=1)
    right.plot(grid, end, color=f"C{n}", linewidth=3, alpha=0.3)
    right.plot(grid, learned, color=f"C{n}", linewidth=1)
right.set(xlabel="t", ylabel="u")
right.set_title("dotted: input, wide: solution, thin: learned", fontsize=8)
plt.show()

assert error < 0.05
