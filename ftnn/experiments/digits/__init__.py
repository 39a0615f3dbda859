"""scikit-learn's digits: 8 x 8 images, shipped with the package."""

from pathlib import Path

from ..experiment import Experiment, imported
from .options import DigitsOptions

EXPERIMENT = Experiment(
    name="digits",
    description="scikit-learn's 8 x 8 digits; 16 sites, seconds on a laptop.",
    options=DigitsOptions,
    load=imported(".data:load", __name__),
    build=imported(".model:build", __name__),
    tuned=Path(__file__).with_name("config.toml"),
    samples="images",
)
