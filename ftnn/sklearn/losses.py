"""Losses of single samples: squared errors, or cross entropies of logits."""

import numpy as np
import torch

SHARPNESS = tuple(float(f) for f in 2.0 ** np.arange(-2, 4.5, 0.5))


def loss_of(outputs: torch.Tensor, targets: torch.Tensor, classes: int | None) -> torch.Tensor:
    """Loss (n,): half the squared error, or the cross entropy of logits (n, 1) or (n, classes)."""
    if classes is None:
        return 0.5 * ((outputs - targets) ** 2).sum(dim=1)
    if classes == 2:
        labels = targets.to(outputs.dtype)
        return torch.nn.functional.binary_cross_entropy_with_logits(
            outputs[:, 0], labels, reduction="none"
        )
    return torch.nn.functional.cross_entropy(outputs, targets, reduction="none")


def losses_of(outputs: np.ndarray, targets: np.ndarray, classes: int | None) -> np.ndarray:
    """Losses (n,) of :func:`loss_of`, of arrays."""
    return loss_of(torch.from_numpy(outputs), torch.from_numpy(targets), classes).numpy()


def sharpened_losses(outputs: np.ndarray, targets: np.ndarray, classes: int | None) -> np.ndarray:
    """Losses (n,), of logits times the factor that is best for all of them.

    A penalized linear start is less certain than it could be. Larger logits alone are no reason
    to prefer a network: they change no prediction.
    """
    factors = SHARPNESS if classes is not None else (1.0,)
    return min((losses_of(f * outputs, targets, classes) for f in factors), key=np.mean)
