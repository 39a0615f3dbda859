"""User's images: one folder per class."""

from pathlib import Path

from ..experiment import Experiment, imported
from .options import ImagesOptions

EXPERIMENT = Experiment(
    name="images",
    description="Your own PNG and JPEG files: --data DIR with one folder per class.",
    options=ImagesOptions,
    load=imported(".data:load", __name__),
    build=imported(".model:build", __name__),
    tuned=Path(__file__).with_name("config.toml"),
    samples="images",
    augment=imported("..fashion_mnist.model:mirror_images", __name__),
    read=imported(".data:read", __name__),
)
