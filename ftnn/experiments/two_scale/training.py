"""What is trained: one site of every gated layer."""

from typing import TYPE_CHECKING

from ...training.callbacks import Callback
from ..splits import Data
from .model import is_trained
from .options import TwoScaleOptions

if TYPE_CHECKING:
    from ...training.fit import Fit


class OneSite(Callback):
    """Train the weights of one site of every gated layer, and leave the others as they are.

    The map from a to 1/a is the same at every point, and so are the layers: what is to be learned
    is which polynomial of a they are, not that a bit stays what it is. And P and a P stay what
    they are called: factors on a site other than that of the channels are the same for both.
    """

    def fit_start(self, fit: "Fit") -> None:
        """Switch the gradients of all other weights off."""
        for name, parameter in fit.updater.module.named_parameters():
            parameter.requires_grad_(is_trained(name.replace(":", ".")))


def callbacks(options: TwoScaleOptions, data: Data) -> tuple[Callback, ...]:
    """Return the callbacks of the experiment."""
    return (OneSite(),)
