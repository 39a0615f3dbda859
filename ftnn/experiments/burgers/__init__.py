"""The solution operator of the viscous Burgers equation, from functions on fine grids as MPS."""

from pathlib import Path

from ..experiment import Experiment, imported
from .options import BurgersOptions

EXPERIMENT = Experiment(
    name="burgers",
    description="The solution operator of the viscous Burgers equation on 2^20 points.",
    options=BurgersOptions,
    load=imported(".data:load", __name__),
    build=imported(".model:build", __name__),
    tuned=Path(__file__).with_name("config.toml"),
    samples="functions",
    carry=imported(".model:carry", __name__),
    stages=imported(".options:stages", __name__),
    objective=imported(".model:objective", __name__),
    conclude=imported("..quantics.conclusion:conclude", __name__),
)
