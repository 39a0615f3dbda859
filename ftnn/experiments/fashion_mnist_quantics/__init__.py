"""Fashion-MNIST as entangled states: the quantics amplitudes of the images."""

from pathlib import Path

from ..experiment import Experiment, imported
from .options import QuanticsImageOptions

EXPERIMENT = Experiment(
    name="fashion-mnist-quantics",
    description="Fashion-MNIST as quantics states of 5 sites; ten minutes on two cores.",
    options=QuanticsImageOptions,
    load=imported("..fashion_mnist.data:load", __name__),
    build=imported(".model:build", __name__),
    tuned=Path(__file__).with_name("config.toml"),
    samples="images",
    augment_states=imported(".model:mirror", __name__),
)
