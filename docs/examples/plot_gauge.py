r"""
A fixed sketch is a gauge
=========================

The cores of a matrix product state are not unique: :math:`X X^{-1}` on any bond changes the cores
and not the vector. A nonlinearity on cores would see the difference. After a :class:`ftnn.Linear`,
whose truncation uses test matrices that the layer keeps, it cannot: the output cores are a function
of the vector alone.
"""

import matplotlib.pyplot as plt
import numpy as np

import ftnn

rng = np.random.default_rng(0)
dims = (4,) * 6
x = ftnn.MPS.from_dense(rng.standard_normal((1, 4**6)), dims, max_bond=8)

# %%
# The same vector in another gauge.
cores = list(x.cores)
for k in range(len(dims) - 1):
    size = cores[k].shape[3]
    X = np.eye(size) + 0.7 * rng.standard_normal((size, size))
    cores[k] = cores[k] @ X
    cores[k + 1] = np.einsum("sl,blpr->bspr", np.linalg.inv(X), cores[k + 1])
y = ftnn.MPS(cores)
print("same vector:", np.allclose(x.to_dense(), y.to_dense()))

# %%
# What a layer makes of the two.
layer = ftnn.Linear(dims, dims, bond_dim=3, max_bond=8, seed=1)
pairs = {"input": (x.cores[2], y.cores[2]), "output": (layer(x).cores[2], layer(y).cores[2])}

fig, axes = plt.subplots(2, 2, figsize=(6.0, 3.6), layout="constrained", sharex=True)
for row, (name, both) in zip(axes, pairs.items(), strict=True):
    for axis, core, gauge in zip(row, both, ("one gauge", "another gauge"), strict=True):
        limit = abs(core).max()
        image = core[0].transpose(1, 0, 2).reshape(4 * core.shape[1], -1)
        axis.imshow(image, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
        axis.set_title(f"{name}, {gauge}", fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
plt.show()

# %%
# The input cores differ, those of the output do not.
assert not np.allclose(*pairs["input"])
assert np.allclose(*pairs["output"])
