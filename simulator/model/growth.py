"""Growth of a computation with the size of its data: O(n) against O(n^2).

A time that was measured at one size is multiplied by f(items) / f(measured_at), where f is the algorithm's order.
"""

from __future__ import annotations

import math
from typing import Literal

from simulator.model.part import AtLeastOne, Part

Order = Literal["1", "log n", "n", "n log n", "n^2", "n^3"]


class Growth(Part):
    """How a computing time depends on the size of the data."""

    order: Order
    """Order of the algorithm's running time: 1, log n, n, n log n, n^2 or n^3."""
    measured_at: AtLeastOne
    """Items when the time was measured; above 1 for an order with a logarithm."""
    items: AtLeastOne
    """Items now."""

    def factor(self) -> float:
        """What the measured time is multiplied by; raises ValueError where the order makes it 0 or infinite."""
        now, then = _work(self.order, self.items), _work(self.order, self.measured_at)
        if now <= 0.0 or then <= 0.0:
            raise ValueError("the logarithm of 1 is 0, expected more than 1 item")
        return now / then


def _work(order: Order, items: float) -> float:
    match order:
        case "1":
            return 1.0
        case "log n":
            return math.log2(items)
        case "n":
            return items
        case "n log n":
            return items * math.log2(items)
        case "n^2":
            return items * items
        case "n^3":
            return items * items * items
