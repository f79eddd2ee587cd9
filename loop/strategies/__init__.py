"""Which images are asked next, why, and with which probability."""

from loop.strategies.batch import Pick, select_batch
from loop.strategies.measures import COLD, utilities

__all__ = ["COLD", "Pick", "select_batch", "utilities"]
