"""Feed of a fit: the samples of an epoch, and what a step gets of them.

All that is random is drawn from the seed of the run and the numbers of epoch and step, identically
in a resumed run and in every process.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch

from .data import Samples, encode, take_rows

if TYPE_CHECKING:
    from .fit import Fit


def epoch_samples(fit: "Fit") -> Samples:
    """Return the training samples; with augmentation, those of the current epoch."""
    if fit.augment is None:
        return fit.train
    cores = encode(
        fit.inputs,
        fit.encoder,
        "train_inputs",
        fit.config.dtype,
        fit.device,
        fit.augment,
        np.random.default_rng((fit.config.seed, fit.progress.epochs_done, 1)),
    )
    return Samples(cores, tuple(x.to(cores[0].device) for x in fit.train.targets))


def share_of_batch(
    fit: "Fit", train: Samples, rows: np.ndarray, number: int
) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    """Return cores and targets of this process's share of a batch.

    Augmentation of states is drawn for the whole batch.

    Parameters
    ----------
    fit : Fit
    train : Samples
        Those of the epoch.
    rows : int array (batch,)
    number : int
        Of the step in the epoch, from 0.
    """
    if fit.augment_states is None:
        return train.take(fit.world.share(rows), fit.device)
    cores, targets = train.take(rows, fit.device)
    seed = (fit.config.seed, fit.progress.epochs_done, 2, number)
    cores = fit.augment_states(cores, np.random.default_rng(seed))
    own = fit.world.share(np.arange(len(rows)))
    return take_rows(cores, own, fit.device), take_rows(targets, own, fit.device)


def seed_step(fit: "Fit", number: int) -> None:
    """Seed the random draws of step ``number`` of the epoch, such as those of dropout."""
    seed = (fit.config.seed, fit.progress.epochs_done, 3, number, 0)
    torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
