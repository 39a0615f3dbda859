"""Scales at the start of training, measured: `python tests/initial_scales.py` prints the table."""

import itertools
import math

import numpy as np

import ftnn
from ftnn.encoding import ProductEncoder
from ftnn.nonlinear import KAN, RMSNorm

LENGTHS = (5, 10, 20, 50, 100)
DEPTHS = (1, 4)


def feature_states(L, phys=5, batch=64):
    """Product states (1, phi) of L sites, phi of size one."""
    images = np.random.default_rng(0).standard_normal((batch, L, phys - 1))
    return ProductEncoder((L, phys - 1), (1, phys - 1)).fit(images).encode(images)


def random_states(L, phys=4, bond=6, batch=64):
    """Random MPS of L sites."""
    rng = np.random.default_rng(0)
    edges = (1, *[bond] * (L - 1), 1)
    return tuple(
        rng.standard_normal((batch, a, phys, b)) / math.sqrt(a)
        for a, b in itertools.pairwise(edges)
    )


STATES = {"features": feature_states, "random MPS": random_states}


def log_rms(cores):
    """Logarithm of the root mean square entry of every sample."""
    x = ftnn.MPS(cores)
    return x.log_norm() - 0.5 * sum(math.log(d) for d in x.phys_dims)


def measure(states, L, depth, calibrated=True):
    """Median scale of every Linear's output, and scale of the logits, at the start of training."""
    cores = STATES[states](L)
    dims, wide = tuple(core.shape[2] for core in cores), (6,) * L
    blocks = []
    for n in range(depth):
        blocks += [ftnn.Linear(wide if n else dims, wide, 4, 6, seed=n), KAN(wide), RMSNorm()]
    model = ftnn.Sequential(RMSNorm(), *blocks, ftnn.Readout(wide, 10, 6))
    if calibrated:
        ftnn.calibrate(model, cores)
    scales = []
    for layer in model.layers[:-1]:
        cores = layer.apply(cores)
        if isinstance(layer, ftnn.Linear):
            scales.append(float(np.exp(np.median(log_rms(cores)))))
    logits = model.layers[-1].apply(cores)
    return scales, float(np.sqrt(np.mean(logits**2)))


def main():
    """Print the table in Markdown."""
    print(
        "| inputs | L | depth | Linear, before | Linear, calibrated | logits, before | calibrated |"
    )
    print("|---|---|---|---|---|---|---|")
    for states in STATES:
        for depth in DEPTHS:
            for L in LENGTHS:
                (raw, raw_logits), (scales, logits) = (
                    measure(states, L, depth, calibrated) for calibrated in (False, True)
                )
                span = [
                    f"{min(s):.2g}" if depth == 1 else f"{min(s):.2g} – {max(s):.2g}"
                    for s in (raw, scales)
                ]
                print(
                    f"| {states} | {L} | {depth} | {span[0]} | {span[1]} "
                    f"| {raw_logits:.1e} | {logits:.2f} |"
                )


if __name__ == "__main__":
    main()
