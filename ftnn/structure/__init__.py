"""Structure from data: the order of the sites of a chain, and a bond for every cut."""

from .arrangement import arrangement_cost, spectral_order
from .bonds import bond_profile, num_params
from .information import code_information, column_codes, site_information
from .mean_state import mean_state
from .order import site_order
from .permutation import inverse_order, permute_sites
from .sifting import sifted
from .subsets import optimal_order, set_costs, weight_costs

__all__ = [
    "arrangement_cost",
    "bond_profile",
    "code_information",
    "column_codes",
    "inverse_order",
    "mean_state",
    "num_params",
    "optimal_order",
    "permute_sites",
    "set_costs",
    "sifted",
    "site_information",
    "site_order",
    "spectral_order",
    "weight_costs",
]
