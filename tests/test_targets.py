import numpy as np
import pytest

from ffnn_gpu.errors import DataError
from ffnn_gpu.targets import distributions


@pytest.mark.parametrize(("dtype", "rounding", "mistake"), [
    ("float16", 5e-4, 2e-3), ("float32", 4e-6, 1e-4), ("float64", 4e-6, 1e-4),
])
@pytest.mark.parametrize("sign", [1, -1])
def test_distribution_may_miss_one_by_the_rounding_of_its_type_and_no_more(dtype, rounding, mistake, sign):
    rows = np.array([[0.5, 0.5], [0.25, 0.75]], dtype)
    rows[1, 1] += sign * rounding
    np.testing.assert_array_equal(distributions(rows, 2, "float64"), rows)
    rows[1, 1] += sign * mistake
    with pytest.raises(DataError, match=r"row 1 of y sums to (1\.00|0\.99)\d+; a target distribution sums to 1"):
        distributions(rows, 2, "float64")
