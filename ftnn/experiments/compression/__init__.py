"""Dense networks that are trained, made of tensor networks, and healed."""

from pathlib import Path

from ..experiment import Experiment, imported
from .options import CompressionOptions

EXPERIMENT = Experiment(
    name="compression",
    description="A dense network for Fashion-MNIST, then tensor networks in its place, healed.",
    options=CompressionOptions,
    load=imported(".data:load", __name__),
    build=imported(".model:build", __name__),
    tuned=Path(__file__).with_name("config.toml"),
    samples="images",
    callbacks=imported(".frontier:callbacks", __name__),
    conclude=imported(".conclusion:conclude", __name__),
)
