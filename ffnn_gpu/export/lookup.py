"""What an encoder makes of each cell that a category or boolean can have, as a table.

The encoder itself is run once on each level, on an unknown text and on a missing cell. So its rules are not
written a second time, and a program without this package only looks texts up.
"""

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.tables.encoders import LevelEncoder
from ffnn_gpu.tables.table import MISSING

UNKNOWN = "\0"  # a text that is no level


def table_of(encoder: LevelEncoder) -> HostArray:
    """Return (levels + 2, outputs) float64: a row for each level, for another text, for a missing cell."""
    codes = np.array([*range(len(encoder.levels) + 1), MISSING])
    return encoder.encode((codes, [*encoder.levels, UNKNOWN]))
