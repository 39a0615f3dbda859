r"""
A nonlinearity on :math:`2^{30}` points
=======================================

On a quantics grid a function of a thousand million points is an MPS of thirty sites of dimension
two. :class:`ftnn.nonlinear.Elementwise` applies any function to all of its values, by tensor cross
interpolation: it looks at a few fibres only.
"""

import matplotlib.pyplot as plt
import numpy as np

import ftnn
from ftnn.encoding import from_function, on_coarser_grid
from ftnn.nonlinear import Elementwise

x = from_function(
    lambda t: np.stack([2 * np.sin(9 * t), np.cos(40 * t) * np.exp(-2 * t)]), sites=30
)
print(x.L, "sites, bonds up to", max(x.bond_dims))

# %%
layer = Elementwise("tanh", max_bond=24)
y = layer(x)
error = layer.sampled_error(x)
print("bonds up to", max(y.bond_dims), "- sampled relative errors", error)

# %%
# Values at 1,024 of the points, and what the bonds hold.
grid = np.arange(2**10) / 2**10
before, after = (on_coarser_grid(state.cores, 10) for state in (x, y))

fig, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.8), layout="constrained")
for n, color in enumerate(("C0", "C1")):
    left.plot(grid, before[n], color=color, linestyle=":", linewidth=1)
    left.plot(grid, after[n], color=color)
left.set(xlabel="t", ylabel="u (dotted), tanh u")
for state, name, look in ((x, "u", "ks"), (y, "tanh u", "o-")):
    spectra = ftnn.interpret.bond_spectra(state.cores)
    right.semilogy(spectra[4][0] + 1e-17, look, markersize=5 if look == "ks" else 3, label=name)
right.set(xlabel="number", ylabel="singular value at bond 5", ylim=(1e-14, 2))
right.legend(frameon=False)
plt.show()

assert error.max() < 1e-6
