"""nvmath.bindings.cublasLt for PaperCupy: it accepts every product and records it."""

import ctypes
import itertools

import numpy as np

from ffnn_gpu.backends.cuda.cublaslt.problem import DATA_TYPES

SIZES = {0: 4, 1: 8, 2: 2, 14: 2}  # bytes of a cudaDataType_t
TYPES = {number: name for name, number in DATA_TYPES.items()}
TF32 = 77  # CUBLAS_COMPUTE_32F_FAST_TF32
GRADIENTS = ("BGRADA", "BGRADB")


class Numbers(dict):
    """Names as numbers: a name that is asked for gets the next one."""

    def __missing__(self, name):
        self[name] = len(self) + 1
        return self[name]

    def __getattr__(self, name):
        return self[name]

    def name_of(self, number):
        return next(name for name, value in self.items() if value == number)


class PaperCublasLt:
    """The functions of the bindings that `cublaslt/calls.py` calls."""

    cuBLASLtError = RuntimeError  # noqa: N815 - the bindings' name
    matmul_algo_dtype = np.dtype([("data_", "<u8", (8,))])
    matmul_heuristic_result_dtype = np.dtype(
        [("algo", matmul_algo_dtype), ("workspace_size", "<u8"), ("state", "<i4", (1,))]
    )

    def __init__(self, cupy):
        self.cupy, self._objects, self._numbers = cupy, {}, itertools.count(1)
        self.Epilogue, self.MatmulDescAttribute = Numbers(), Numbers()
        self.MatmulPreferenceAttribute, self.MatrixLayoutAttribute = Numbers(), Numbers()

    def _new(self, **content):
        number = next(self._numbers)
        self._objects[number] = content
        return number

    def get_version(self):
        return 130200

    def create(self):
        return self._new()

    def matmul_preference_create(self):
        return self._new()

    def matmul_desc_create(self, compute_type, scale_type):
        return self._new(compute=compute_type, TRANSA=0)

    def matrix_layout_create(self, type, rows, cols, ld):
        batch = {"BATCH_COUNT": 1, "STRIDED_BATCH_OFFSET": 0}
        return self._new(type=type, rows=rows, columns=cols, ld=ld, **batch)

    def matrix_layout_set_attribute(self, layout, attribute, buffer, size):
        value = int.from_bytes(ctypes.string_at(buffer, size), "little", signed=True)
        self._objects[layout][self.MatrixLayoutAttribute.name_of(attribute)] = value

    def destroy(self, handle):
        self._objects.pop(handle)

    matrix_layout_destroy = matmul_desc_destroy = matmul_preference_destroy = destroy

    def get_matmul_desc_attribute_dtype(self, attribute):
        return np.dtype(np.int64)

    get_matmul_preference_attribute_dtype = get_matmul_desc_attribute_dtype
    get_matrix_layout_attribute_dtype = get_matmul_desc_attribute_dtype

    def matmul_desc_set_attribute(self, descriptor, attribute, buffer, size):
        value = int.from_bytes(ctypes.string_at(buffer, size), "little", signed=True)
        self._objects[descriptor][self.MatmulDescAttribute.name_of(attribute)] = value

    def matmul_preference_set_attribute(self, *_):
        """Accept any preference."""

    def matmul_algo_get_heuristic(self, *arguments):
        results, returned = arguments[-2:]
        row = np.zeros(1, self.matmul_heuristic_result_dtype)
        ctypes.memmove(results, row.tobytes(), row.nbytes)
        ctypes.memmove(returned, np.int32(1).tobytes(), 4)

    def matmul(
        self, handle, descriptor, alpha, a, A, b, B, beta, c, C, d, D, algorithm, workspace, size, stream
    ):
        content, layouts = self._objects[descriptor], [self._objects[each] for each in (A, B, D)]
        R = layouts[2]["BATCH_COUNT"]
        first, second, result = (_extents(at, x) for at, x in zip((a, b, d), layouts, strict=True))
        reads, writes = [*first, *second], [*result, (workspace, workspace + size)]
        epilogue = self.Epilogue.name_of(content["EPILOGUE"])
        if epilogue != "DEFAULT" and content.get("BIAS_POINTER"):
            size = SIZES[layouts[2]["type"]]
            starts = (
                content["BIAS_POINTER"] + r * size * content.get("BIAS_BATCH_STRIDE", 0) for r in range(R)
            )
            (writes if epilogue in GRADIENTS else reads).extend(
                (start, start + layouts[2]["rows"] * size) for start in starts
            )
        k = layouts[0]["columns" if not content["TRANSA"] else "rows"]
        kind = "tf32" if content["compute"] == TF32 else TYPES[layouts[0]["type"]]
        flop = {kind: 2 * R * layouts[2]["rows"] * layouts[2]["columns"] * k}
        times = (x["BATCH_COUNT"] if x["STRIDED_BATCH_OFFSET"] else 1 for x in layouts)
        moved = sum(
            n * x["rows"] * x["columns"] * SIZES[x["type"]] for n, x in zip(times, layouts, strict=True)
        )
        self.cupy.launched(f"product {epilogue}", reads, writes, moved, flop=flop, stream=stream)


def _extents(pointer, layout):
    """Return the extent of each product's matrix; one for all if they share it."""
    itemsize, apart = SIZES[layout["type"]], layout["STRIDED_BATCH_OFFSET"]
    size = ((layout["columns"] - 1) * layout["ld"] + layout["rows"]) * itemsize
    starts = [pointer + r * apart * itemsize for r in range(layout["BATCH_COUNT"] if apart else 1)]
    return [(start, start + size) for start in starts]
