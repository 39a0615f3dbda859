"""
Digits in a plain torch loop
============================

:class:`ftnn.training.TorchModule` makes any model a :class:`torch.nn.Module`; the rest is torch.
Images become product states of 2 x 2 patches: vectors of :math:`5^{16}` entries.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import ftnn
from ftnn.encoding import ProductEncoder
from ftnn.nonlinear import KAN, RMSNorm
from ftnn.training import TorchModule

images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8) / 16
train, val, train_labels, val_labels = train_test_split(
    images, labels, test_size=400, random_state=0, stratify=labels
)
encoder = ProductEncoder((8, 8), patch=(2, 2)).fit(train)
print("entries of a state: 10^%.0f" % (len(encoder.phys_dims) * np.log10(encoder.phys_dims[0])))

# %%
# Two truncated operators, a trainable nonlinearity on cores, a norm, ten outputs.
hidden = (6,) * len(encoder.phys_dims)
model = ftnn.Sequential(
    ftnn.Linear(encoder.phys_dims, hidden, bond_dim=1, max_bond=1),
    ftnn.Linear(hidden, hidden, bond_dim=3, max_bond=4, seed=1),
    KAN(hidden, basis="radial", share=True),
    RMSNorm(),
    ftnn.Readout(hidden, num_outputs=10, bond_dim=8),
)
ftnn.calibrate(model, encoder.encode(train[:256]))
module = TorchModule(model, dtype="float32")
optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)


def states(images):
    """Encode images as a batch of states on torch."""
    return ftnn.MPS([torch.tensor(core, dtype=torch.float32) for core in encoder.encode(images)])


x, y = states(train), torch.from_numpy(train_labels)
x_val, y_val = states(val), torch.from_numpy(val_labels)

# %%
# A few epochs.
torch.manual_seed(0)
losses, accuracy = [], []
for _ in range(6):
    module.train()
    for rows in torch.randperm(len(y)).split(64):
        batch = ftnn.MPS([core[rows] for core in x.cores])
        loss = torch.nn.functional.cross_entropy(module(batch), y[rows])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    module.eval()
    with torch.no_grad():
        accuracy.append((module(x_val).argmax(1) == y_val).double().mean().item())
print(f"validation accuracy {accuracy[-1]:.1%} with {model.num_params():,} parameters")

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(6.8, 2.8), layout="constrained")
left.semilogy(losses, linewidth=0.8)
left.set(xlabel="step", ylabel="training cross entropy")
right.plot(range(1, 7), accuracy, "o-")
right.set(xlabel="epoch", ylabel="validation accuracy", ylim=(0.5, 1))
plt.show()

assert accuracy[-1] > 0.9
