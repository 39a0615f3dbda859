"""
Ground states from quimb, read as they are
==========================================

Any list of quimb states is a batch, here ground states of the transverse-field Ising chain by DMRG.
Entanglement and mutual information, computed for the whole batch, locate the transition.
"""

import matplotlib.pyplot as plt
import numpy as np
import quimb.tensor as qtn

import ftnn

fields = np.linspace(0.2, 1.8, 9)


def ground_state(field, sites=24):
    """Find a ground state by two-site DMRG."""
    terms = qtn.SpinHam1D(S=1 / 2)
    terms += -4.0, "Z", "Z"
    terms += -2.0 * field, "X"
    dmrg = qtn.DMRG2(terms.build_mpo(sites), bond_dims=[8, 12], cutoffs=1e-9)
    dmrg.solve(tol=1e-5, max_sweeps=6, verbosity=0)
    return dmrg.state


states = ftnn.MPS.from_quimb([ground_state(field) for field in fields])
print(states.batch_size, "states, bonds up to", max(states.bond_dims))

# %%
# Entanglement entropy across every bond, and mutual information of every two sites.
entropies = ftnn.interpret.entanglement_entropies(states.cores)
information = ftnn.interpret.mutual_information(states.cores)

fig, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.9), layout="constrained")
left.plot(fields, entropies[:, 11], "o-")
left.axvline(1.0, color="0.6", linestyle="--", linewidth=1)
left.set(xlabel="field h", ylabel="entropy of the middle bond (nats)")
distance = np.arange(1, 12)
for n in (1, 4, 7):
    right.semilogy(
        distance,
        information[n, 6, 6 + distance] + 1e-12,
        "o-",
        markersize=3,
        label=f"h = {fields[n]:.1f}",
    )
right.set(xlabel="distance from site 7", ylabel="mutual information (nats)", ylim=(1e-7, 3))
right.legend(frameon=False)
plt.show()

# %%
# Sample 0 is again a plain quimb state.
print(type(states[0]).__name__, round(float(abs(states[0].H @ states[0])), 6))
assert abs(fields[entropies[:, 11].argmax()] - 1.0) < 0.45 or entropies[0, 11] > 0.6
