"""Which type a sum is kept in, and what an underflow means."""

from typing import Any

import numpy as np

# Why: e⁻¹⁰⁰⁰ is 0 to every digit a float32 has. A caller who runs under np.errstate(all="raise") asks to hear of wrong
# results, and this one is right; overflow, division by zero and invalid operations still raise.
underflow_is_zero = np.errstate(under="ignore")


def wide(dtype: Any) -> np.dtype:
    """float64 for the real types, complex128 for the complex ones (which only gradient checks use)."""
    return np.result_type(dtype, np.float64)
