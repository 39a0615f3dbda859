"""What is trained: factors of gated layers, at one site."""

from typing import TYPE_CHECKING

import torch

from ...training.callbacks import Callback
from ..splits import Data
from .model import is_trained
from .options import TwoScaleOptions

if TYPE_CHECKING:
    from ...training.fit import Fit


class Factors(Callback):
    """Train the diagonals of one site of every gated layer, and leave all else as it is.

    The map from a to 1/a is the same at every point, and so are the layers: what is to be learned
    is which polynomial of a they are. Off its diagonal a weight would mix points, and an error of P
    that b does not have stays: no later layer corrects it. Factors on a site other than that of
    the channels are the same for P and b = a P.
    """

    def fit_start(self, fit: "Fit") -> None:
        """Switch the gradients of all other weights off."""
        for name, parameter in fit.updater.module.named_parameters():
            if is_trained(name.replace(":", ".")):
                diagonal = torch.eye(2).to(parameter)[None, :, :, None]
                parameter.register_hook(diagonal.mul)
            else:
                parameter.requires_grad_(False)


def callbacks(options: TwoScaleOptions, data: Data) -> tuple[Callback, ...]:
    """Return the callbacks of the experiment."""
    return (Factors(),)
