"""The solution operator of the heat equation, from pairs of functions on fine grids as MPS."""

from pathlib import Path

from ..experiment import Experiment, imported
from .options import QuanticsOptions

EXPERIMENT = Experiment(
    name="quantics",
    description="The solution operator of the heat equation on 2^20 points and more.",
    options=QuanticsOptions,
    load=imported(".data:load", __name__),
    build=imported(".model:build", __name__),
    tuned=Path(__file__).with_name("config.toml"),
    samples="functions",
    carry=imported(".model:carry", __name__),
    stages=imported(".options:stages", __name__),
    conclude=imported(".conclusion:conclude", __name__),
)
