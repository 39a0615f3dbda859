"""
Draw a network, and look inside
===============================

A model is a tensor network, and can be drawn as one; what it does to the entanglement of its inputs
is measured layer by layer.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import ftnn
from ftnn.interpret import layer_report
from ftnn.nonlinear import KAN, RMSNorm
from ftnn.plotting import plot_network

dims, hidden = (4,) * 6, (6,) * 6
model = ftnn.Sequential(
    ftnn.Linear(dims, hidden, bond_dim=3, max_bond=6, seed=1),
    KAN(hidden),
    ftnn.Linear(hidden, hidden, bond_dim=3, max_bond=6, seed=2),
    RMSNorm(),
    ftnn.Readout(hidden, num_outputs=10, bond_dim=6),
)
x = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((24, 4**6)), dims, max_bond=6)
ftnn.calibrate(model, x.cores)

picture = Path(tempfile.mkdtemp()) / "network.png"
plot_network(model, picture, input_bond=6)
plt.figure(figsize=(6.4, 6.4), layout="constrained")
plt.imshow(plt.imread(picture))
plt.axis("off")
plt.show()

# %%
# Bonds, parameters, truncation error and entropy of every layer.
report = layer_report(model, x.cores)
for row in report:
    error = "" if row.truncation_error is None else f"truncation error {row.truncation_error:.2f}"
    print(f"{row.path:>6} {row.type:10} bonds {row.bonds} parameters {row.params:5d} {error}")

# %%
fig, axis = plt.subplots(figsize=(5.6, 3.0), layout="constrained")
for row in report:
    if row.entropies.size:
        axis.plot(range(1, 6), row.entropies, "o-", label=f"{row.path} {row.type}")
axis.set(xlabel="bond", ylabel="entanglement entropy (nats)", xticks=range(1, 6))
axis.legend(frameon=False)
plt.show()
