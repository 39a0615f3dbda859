"""Images of the user's: a folder for every class."""

from pathlib import Path

from ..experiment import Experiment, imported
from .options import ImagesOptions

EXPERIMENT = Experiment(
    name="images",
    description="PNG and JPEG files of yours: --data DIR with a folder for every class.",
    options=ImagesOptions,
    load=imported(".data:load", __name__),
    build=imported(".model:build", __name__),
    tuned=Path(__file__).with_name("config.toml"),
    samples="images",
    augment=imported("..fashion_mnist.model:mirrored", __name__),
    read=imported(".data:read", __name__),
)
