"""A diffusion equation with structure on two scales, from coefficients on fine grids as MPS."""

from pathlib import Path

from ..experiment import Experiment, imported
from .options import TwoScaleOptions

EXPERIMENT = Experiment(
    name="two-scale",
    description="The solution of -(a u')' = 1 for structure down to 2^-20, on 2^30 points.",
    options=TwoScaleOptions,
    load=imported(".data:load", __name__),
    build=imported(".model:build", __name__),
    tuned=Path(__file__).with_name("config.toml"),
    samples="functions",
    carry=imported(".model:carry", __name__),
    stages=imported(".options:stages", __name__),
    callbacks=imported(".training:callbacks", __name__),
    conclude=imported(".conclusion:conclude", __name__),
)
