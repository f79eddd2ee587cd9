"""Which images are asked next, why, and with which probability."""

from loop.strategies.batch import Pick, select_batch
from loop.strategies.measures import COLD, highest_rows, utilities
from loop.strategies.pool import Choice, Labelled, Pool, Seen, Strategy, Vectors

__all__ = [
    "COLD",
    "Choice",
    "Labelled",
    "Pick",
    "Pool",
    "Seen",
    "Strategy",
    "Vectors",
    "highest_rows",
    "select_batch",
    "utilities",
]
