"""Check your own networks and layers: gradients against derivatives, and backends against each other.

from ffnn_gpu.testing import assert_parity, check_gradients
"""

from ffnn_gpu.testing.assertions import check_gradients
from ffnn_gpu.testing.parity import assert_parity
from ffnn_gpu.testing.tolerances import assert_close, assert_no_worse, tolerance

__all__ = ["assert_close", "assert_no_worse", "assert_parity", "check_gradients", "tolerance"]
