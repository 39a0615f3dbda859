"""Orders in which the positions of a grid become sites of a chain."""

import numpy as np

ORDERS = ("row-major", "snake", "quantics")


def site_order(height: int, width: int, order: str) -> np.ndarray:
    """Return the row-major positions of a grid in the order of the sites.

    Parameters
    ----------
    height, width : int
        For "quantics" both must be one power of two.
    order : {"row-major", "snake", "quantics"}

    Returns
    -------
    int array (height * width,)

    Examples
    --------
    >>> print(site_order(2, 3, "snake"), site_order(4, 4, "quantics")[:8])
    [0 1 2 5 4 3] [0 1 4 5 2 3 6 7]
    """
    grid = np.arange(height * width).reshape(height, width)
    if order == "row-major":
        return grid.ravel()
    if order == "snake":
        grid[1::2] = grid[1::2, ::-1]
        return grid.ravel()
    if order == "quantics":
        if height != width or height & (height - 1):
            raise ValueError(
                f"order 'quantics' needs a square grid whose side is a power of two, got "
                f"{height} x {width}; pad it, or choose 'snake'"
            )
        n = height.bit_length() - 1
        bits = grid.reshape((2,) * (2 * n))  # row bits, then column bits, coarse to fine
        return bits.transpose([axis for k in range(n) for axis in (k, n + k)]).ravel()
    raise ValueError(f"order is {order!r}; choose one of {', '.join(ORDERS)}")
