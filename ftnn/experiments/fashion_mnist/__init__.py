"""Fashion-MNIST: 28 x 28 images of clothes, as product states of patches."""

from pathlib import Path

from ..experiment import Experiment, imported
from .options import FashionMNISTOptions

EXPERIMENT = Experiment(
    name="fashion-mnist",
    description="Fashion-MNIST, 28 x 28; products of neighbouring patches, 7 sites; half an hour.",
    options=FashionMNISTOptions,
    load=imported(".data:load", __name__),
    build=imported(".model:build", __name__),
    tuned=Path(__file__).with_name("config.toml"),
    samples="images",
    augment=imported(".model:mirror_images", __name__),
)
