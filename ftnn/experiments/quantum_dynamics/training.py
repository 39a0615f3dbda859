"""The learning rate of a stage, from the error of its start."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ...training.callbacks import Callback
from ...training.optimizer import make_optimizer, make_scheduler
from ..splits import Data
from .options import DynamicsOptions

if TYPE_CHECKING:
    from ...training.fit import Fit


class RateOfStart(Callback):
    """Lower the peak learning rate to a multiple of the relative error of the start.

    A step of Adam moves every weight by about the learning rate, however small the gradient. It
    has to be small against the change that is needed, which is of the order of the error: a start
    with an error of 0.1 wants a hundred times the rate of one with an error of 0.001. Where it is
    higher, the first steps undo the fit.

    Parameters
    ----------
    factor : float
        The rate of a start whose output is wrong by its norm.
    """

    def __init__(self, factor: float):
        self.factor = factor

    def fit_start(self, fit: "Fit") -> None:
        """Make the optimizer for that rate; checkpoints have it, so a resumed fit keeps it.

        :class:`ftnn.training.callbacks.KeepStart`, called before, has measured the start.
        """
        updater, loss = fit.updater, fit.progress.best_loss
        if updater.steps or loss is None:
            return
        # the loss is 1 - 2 Re<t, y> + <y, y>, where <t, t> = 1: not known to more than eps
        error = max(loss, float(np.finfo(fit.config.dtype).eps)) ** 0.5
        rate = min(updater.config.lr, self.factor * error)
        config = replace(updater.config, lr=rate)
        optimizer = make_optimizer(config, updater.module, updater.views)
        updater.config, updater.optimizer = config, optimizer
        updater.scheduler = make_scheduler(config, optimizer, updater.total_steps)
        fit.message(f"peak learning rate {rate:.1e}, as the error of the start is {error:.1e}")


def callbacks(options: DynamicsOptions, data: Data) -> tuple[Callback, ...]:
    """Return the callbacks of the experiment."""
    return (RateOfStart(options.error_lr),) if options.error_lr else ()
