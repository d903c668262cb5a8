"""A fake of nvmath.bindings.cublasLt that computes in the memory of host_memory.py.

It follows the descriptors literally: column-major buffers with leading dimensions, transposes, alpha and
beta of the scale type, and epilogues with their bias pointer. Swapped factors, a wrong leading dimension
or a wrong constant give a wrong number, or an access outside of the allocations, which raises. Functions
and arguments have the names of the bindings.

It is stricter than the library: the type of a bias must be set, and only the thread that made a handle
may use it.

It cannot test which types, epilogues and alignments a GPU supports, rounding and order of sums, time,
streams. Constants have the values of cublasLt.h, library_types.h and cublas_api.h;
cublaslt/test_bindings.py compares them with nvmath.
"""

import ctypes
import itertools
import threading
from enum import IntEnum

import numpy as np

from tests.backends.cuda.host_memory import STORAGE, decode, encode

ALLOC_FAILED, INVALID_VALUE, EXECUTION_FAILED, NOT_SUPPORTED = 3, 7, 13, 15
MAGIC = 0x1AB5
FLOATS = {0: "float32", 1: "float64", 2: "float16", 14: "bfloat16"}
COMPUTE = {68: "float32", 70: "float64", 77: "float32"}
TF32 = 77
COMPUTE_TYPE, ANY_SCHEME = 2, 7  # cublasLtReductionScheme_t
WORKSPACE = 1 * 2**20  # bytes that the algorithms need

Epilogue = IntEnum(
    "Epilogue",
    {
        "DEFAULT": 1,
        "RELU": 2,
        "BIAS": 4,
        "RELU_BIAS": 6,
        "GELU": 32,
        "GELU_BIAS": 36,
        "BGRADA": 256,
        "BGRADB": 512,
    },
)
MatmulDescAttribute = IntEnum(
    "MatmulDescAttribute",
    {
        "TRANSA": 3,
        "TRANSB": 4,
        "EPILOGUE": 7,
        "BIAS_POINTER": 8,
        "BIAS_BATCH_STRIDE": 10,
        "BIAS_DATA_TYPE": 26,
    },
)
MatrixLayoutAttribute = IntEnum("MatrixLayoutAttribute", {"BATCH_COUNT": 5, "STRIDED_BATCH_OFFSET": 6})
MatmulPreferenceAttribute = IntEnum(
    "MatmulPreferenceAttribute",
    {
        "MAX_WORKSPACE_BYTES": 1,
        "REDUCTION_SCHEME_MASK": 3,
        "MIN_ALIGNMENT_A_BYTES": 5,
        "MIN_ALIGNMENT_B_BYTES": 6,
        "MIN_ALIGNMENT_C_BYTES": 7,
        "MIN_ALIGNMENT_D_BYTES": 8,
    },
)
DESCRIPTOR_TYPES = {
    "TRANSA": np.int32, "TRANSB": np.int32, "EPILOGUE": np.uint32,
    "BIAS_POINTER": np.int64, "BIAS_DATA_TYPE": np.int32, "BIAS_BATCH_STRIDE": np.int64,
}  # fmt: skip
LAYOUT_TYPES = {"BATCH_COUNT": np.int32, "STRIDED_BATCH_OFFSET": np.int64}
PREFERENCE_TYPES = dict.fromkeys(MatmulPreferenceAttribute.__members__, np.uint32) | {
    "MAX_WORKSPACE_BYTES": np.uint64
}


class CuBLASLtError(Exception):
    """Fake of nvmath.bindings.cublasLt.cuBLASLtError."""

    def __init__(self, status):
        self.status = status
        super().__init__(f"cublas status {status}")


class FakeCublasLt:
    """Fake of nvmath.bindings.cublasLt. `costs`: milliseconds of its algorithms, in the recommended order."""

    Epilogue, MatmulDescAttribute, MatmulPreferenceAttribute, MatrixLayoutAttribute = (
        Epilogue,
        MatmulDescAttribute,
        MatmulPreferenceAttribute,
        MatrixLayoutAttribute,
    )
    cuBLASLtError = CuBLASLtError  # noqa: N815 - the bindings' name
    matmul_algo_dtype = np.dtype([("data_", "<u8", (8,))])
    matmul_heuristic_result_dtype = np.dtype(
        [
            ("algo", matmul_algo_dtype),
            ("workspace_size", "<u8"),
            ("state", "<i4"),
            ("waves_count", "<f4"),
            ("reserved", "<i4", (4,)),
        ]
    )

    def __init__(self, cupy, version=131000, costs=(3.0, 1.0, 2.0)):
        self.cupy, self.version, self.costs = cupy, version, costs
        self.refuses, self.broken = set(), set()  # names of epilogues; numbers of algorithms
        self.extra = {}  # name of an epilogue → the milliseconds it adds
        self.written, self.layouts, self.searches, self.used = [], [], 0, []
        self.made = []  # the epilogue of each product
        self.given = None  # a stream, besides the current one, for products
        self.fault = 0  # if not 0: the status with which every search fails
        self.wanted = WORKSPACE  # bytes that a stored algorithm needs
        self._numbers, self.objects = itertools.count(1000), {}

    def _new(self, **content):
        number = next(self._numbers)
        self.objects[number] = content
        return number

    def create(self):
        return self._new(kind="handle", thread=threading.get_ident())

    def get_version(self):
        return self.version

    def matmul_preference_create(self):
        return self._new(kind="preference")

    def destroy(self, light_handle):
        del self.objects[light_handle]

    def matrix_layout_destroy(self, mat_layout):
        del self.objects[mat_layout]

    def matmul_desc_destroy(self, matmul_desc):
        del self.objects[matmul_desc]

    def matmul_preference_destroy(self, pref):
        del self.objects[pref]

    def get_matmul_desc_attribute_dtype(self, attr):
        return DESCRIPTOR_TYPES[attr.name]

    def get_matmul_preference_attribute_dtype(self, attr):
        return PREFERENCE_TYPES[attr.name]

    def matmul_desc_create(self, compute_type, scale_type):
        return self._new(
            kind="descriptor", compute=compute_type, scale=scale_type, TRANSA=0, TRANSB=0, EPILOGUE=1
        )

    def matrix_layout_create(self, type, rows, cols, ld):
        if ld < rows:
            raise CuBLASLtError(INVALID_VALUE)
        self.layouts.append((type, rows, cols, ld))
        batch = {"BATCH_COUNT": 1, "STRIDED_BATCH_OFFSET": 0}
        return self._new(kind="layout", type=type, rows=rows, columns=cols, ld=ld, **batch)

    def get_matrix_layout_attribute_dtype(self, attr):
        return LAYOUT_TYPES[attr.name]

    def matrix_layout_set_attribute(self, mat_layout, attr, buf, size_in_bytes):
        self._write("layout", mat_layout, attr, buf, size_in_bytes, LAYOUT_TYPES)

    def matmul_desc_set_attribute(self, matmul_desc, attr, buf, size_in_bytes):
        self._write("descriptor", matmul_desc, attr, buf, size_in_bytes, DESCRIPTOR_TYPES)

    def matmul_preference_set_attribute(self, pref, attr, buf, size_in_bytes):
        self._write("preference", pref, attr, buf, size_in_bytes, PREFERENCE_TYPES)

    def _write(self, kind, number, attribute, buffer, size, types):
        dtype = np.dtype(types[attribute.name])
        if self.objects[number]["kind"] != kind or size != dtype.itemsize:
            raise CuBLASLtError(INVALID_VALUE)
        self.objects[number][attribute.name] = int(np.frombuffer(ctypes.string_at(buffer, size), dtype)[0])
        self.written.append((kind, int(attribute), ctypes.string_at(buffer, size)))

    # ------------------------------------------------------------------ algorithms

    def _words(self, descriptor, layouts, alignments):
        """Return the words of an algorithm that describe its problem."""
        content = self.objects[descriptor]
        problem = [content[name] for name in ("compute", "scale", "TRANSA", "TRANSB", "EPILOGUE")]
        named = ("type", "rows", "columns", "ld", *LAYOUT_TYPES)
        problem += [self.objects[layout][name] for layout in layouts for name in named]
        bias = content.get("BIAS_POINTER", 0)
        return [hash(tuple(problem)) & 0xFFFFFFFF, bias & -bias if bias else 0, *alignments]

    def matmul_algo_get_heuristic(
        self,
        light_handle,
        operation_desc,
        adesc,
        bdesc,
        cdesc,
        ddesc,
        preference,
        requested_algo_count,
        heuristic_results_array,
        return_algo_count,
    ):
        assert not self.cupy.stream.capturing, "cublasLtMatmulAlgoGetHeuristic fails in a capture"
        content, wishes, layouts = (
            self.objects[operation_desc],
            self.objects[preference],
            (adesc, bdesc, cdesc, ddesc),
        )
        if self.fault:
            raise CuBLASLtError(self.fault)
        if Epilogue(content["EPILOGUE"]).name in self.refuses or wishes["MAX_WORKSPACE_BYTES"] < WORKSPACE:
            raise CuBLASLtError(NOT_SUPPORTED)
        self._check_types(content, *(self.objects[layout] for layout in layouts))
        self.searches += 1
        alignments = [wishes[f"MIN_ALIGNMENT_{x}_BYTES"] for x in "ABD"]
        rows = np.zeros(min(requested_algo_count, len(self.costs)), self.matmul_heuristic_result_dtype)
        for i, row in enumerate(rows):
            row["algo"]["data_"][:7] = [MAGIC, i, *self._words(operation_desc, layouts, alignments)]
            row["algo"]["data_"][7] = wishes.get("REDUCTION_SCHEME_MASK", ANY_SCHEME)
            row["workspace_size"] = WORKSPACE
        ctypes.memmove(heuristic_results_array, rows.tobytes(), rows.nbytes)
        ctypes.memmove(return_algo_count, np.int32(len(rows)).tobytes(), 4)

    def matmul_algo_check(self, light_handle, operation_desc, adesc, bdesc, cdesc, ddesc, algo, result):
        words = np.frombuffer(ctypes.string_at(algo, 64), np.uint64).tolist()
        made_for = self._words(operation_desc, (adesc, bdesc, cdesc, ddesc), [])
        if words[0] != MAGIC or words[2] != made_for[0]:
            raise CuBLASLtError(INVALID_VALUE)
        row = np.zeros(1, self.matmul_heuristic_result_dtype)
        row["workspace_size"] = self.wanted
        ctypes.memmove(result, row.tobytes(), row.nbytes)

    @staticmethod
    def _check_types(content, a, b, c, d):
        """Require types from the table "cublasLtMatmul supported types", as far as this package uses them."""
        types = [FLOATS[layout["type"]] for layout in (a, b, d)]
        sums = COMPUTE[content["compute"]]
        wide = "float64" in (*types, sums)
        half = types[0] in ("float16", "bfloat16") and types[2] == "float32"
        fits = (
            types[0] == types[1]
            and (types[2] == types[0] or half)
            and (not wide or {*types, sums} == {"float64"})
        )
        if not fits or FLOATS[content["scale"]] != sums or c != d:
            raise CuBLASLtError(NOT_SUPPORTED)
        if content["compute"] == TF32 and types[0] != "float32":
            raise CuBLASLtError(NOT_SUPPORTED)
        wants_vector = bool(content["EPILOGUE"] & (Epilogue.BIAS | Epilogue.BGRADA | Epilogue.BGRADB))
        if (
            wants_vector != bool(content.get("BIAS_POINTER"))
            or content.get("BIAS_DATA_TYPE", d["type"]) != d["type"]
        ):
            raise CuBLASLtError(INVALID_VALUE)
        if wants_vector and "BIAS_DATA_TYPE" not in content:
            raise CuBLASLtError(INVALID_VALUE)

    # ------------------------------------------------------------------ the product

    def matmul(
        self,
        light_handle,
        compute_desc,
        alpha,
        a,
        adesc,
        b,
        bdesc,
        beta,
        c,
        cdesc,
        d,
        ddesc,
        algo,
        workspace,
        workspace_size_in_bytes,
        stream,
    ):
        assert self.objects[light_handle] == {"kind": "handle", "thread": threading.get_ident()}
        assert stream in (self.cupy.stream.ptr, self.given and self.given.ptr)
        content, layouts = self.objects[compute_desc], (adesc, bdesc, cdesc, ddesc)
        words = np.frombuffer(ctypes.string_at(algo, 64), np.uint64).tolist()
        made_for = self._words(compute_desc, layouts, [])
        if words[0] != MAGIC or words[2] != made_for[0]:
            raise CuBLASLtError(INVALID_VALUE)
        self._check_types(content, *(self.objects[layout] for layout in layouts))
        assert workspace % 256 == 0 and workspace_size_in_bytes >= WORKSPACE
        floats = workspace_size_in_bytes // 4
        self.cupy.view(workspace, "float32", floats, 1, floats)
        assert all(pointer % promised == 0 for pointer, promised in zip((a, b, d), words[4:7], strict=True))
        assert made_for[1] >= min(words[3], 256), "the algorithm was chosen for a better aligned bias"
        if words[1] in self.broken:
            raise CuBLASLtError(EXECUTION_FAILED)
        self.used.append(words[1])
        self.made.append(Epilogue(content["EPILOGUE"]).name)
        matrices = [(p, dict(self.objects[x])) for p, x in zip((a, b, c, d), layouts, strict=True)]
        products = self._products(content, words, matrices)
        scalar = np.dtype(FLOATS[content["scale"]])
        scalars = [
            float(np.frombuffer(ctypes.string_at(p, scalar.itemsize), scalar)[0]) for p in (alpha, beta)
        ]
        written = [self._matrix(*arrays[3]) for _, arrays in products]
        if content["EPILOGUE"] == Epilogue.BGRADA:
            written += [self._vector(now, arrays[3][1]) for now, arrays in products]
        cost = self.costs[words[1]] + self.extra.get(self.made[-1], 0)

        def run():
            self.cupy.clock += cost
            for now, arrays in products:
                self._compute(now, *arrays, *scalars)

        self.cupy.act(run, *written)

    def _products(self, content, words, matrices):
        """Return (descriptor, matrices) of each product; a launch of the graph reads the matrices again."""
        counts = {layout["BATCH_COUNT"] for _, layout in matrices}
        if len(counts) > 1:
            raise CuBLASLtError(INVALID_VALUE)
        found = []
        for r in range(*counts):
            now, arrays = dict(content, scheme=words[7]), []
            for pointer, layout in matrices:
                itemsize = np.dtype(STORAGE[FLOATS[layout["type"]]]).itemsize
                arrays.append((pointer + r * layout["STRIDED_BATCH_OFFSET"] * itemsize, layout))
            places = (arrays[k][0] for k in (0, 1, 3))
            assert all(place % promised == 0 for place, promised in zip(places, words[4:7], strict=True)), (
                "the algorithm was chosen for better aligned products"
            )
            if "BIAS_POINTER" in content:
                step = r * content.get("BIAS_BATCH_STRIDE", 0) * itemsize
                now["BIAS_POINTER"] = content["BIAS_POINTER"] + step
                assert step % min(words[3], 256) == 0, "an algorithm was chosen for better aligned biases"
            found.append((now, arrays))
        return found

    def _vector(self, content, d):
        """Return the memory of the bias of D or of its gradient."""
        return self.cupy.view(content["BIAS_POINTER"], FLOATS[d["type"]], d["rows"], 1, d["rows"])

    def _compute(self, content, a, b, c, d, alpha, beta):
        A, B, C, D = (self._matrix(*x) for x in (a, b, c, d))
        first, second = (decode(host, FLOATS[x[1]["type"]]) for host, x in ((A, a), (B, b)))
        if content["compute"] == TF32:
            first, second = _tf32(first), _tf32(second)
        first = first.T if content["TRANSA"] else first
        second = second.T if content["TRANSB"] else second
        if first.shape[1] != second.shape[0] or D.shape != (first.shape[0], second.shape[1]):
            raise CuBLASLtError(INVALID_VALUE)
        sums = alpha * (first @ second)
        if content["scheme"] != COMPUTE_TYPE:  # two partial sums, each rounded to the type of the output
            half, kind = first.shape[1] // 2, FLOATS[d[1]["type"]]
            parts = first[:, :half] @ second[:half], first[:, half:] @ second[half:]
            sums = alpha * sum(decode(encode(part, kind), kind) for part in parts)
        if beta:
            sums = sums + beta * decode(C, FLOATS[c[1]["type"]])
        D[...] = encode(self._epilogue(content, sums, first, d[1]), FLOATS[d[1]["type"]])

    def _matrix(self, pointer, layout):
        return self.cupy.view(
            pointer, FLOATS[layout["type"]], layout["rows"], layout["columns"], layout["ld"]
        )

    def _epilogue(self, content, sums, first, d):
        kind, result = content["EPILOGUE"], FLOATS[d["type"]]
        if kind == Epilogue.BGRADA:
            if content["TRANSA"]:
                raise CuBLASLtError(NOT_SUPPORTED)
            self._vector(content, d)[:, 0] = encode(first.sum(axis=1), result)
        if kind & Epilogue.BIAS:
            sums = sums + decode(self._vector(content, d), result)
        if kind & Epilogue.RELU:
            return np.fmax(sums, 0)  # turns NaN into 0, like cublasLt
        if kind & Epilogue.GELU:
            return 0.5 * sums * (1 + np.tanh(np.sqrt(2 / np.pi) * (sums + 0.044715 * sums**3)))
        return sums


def _tf32(values):
    """Round to TF32, with 10 bits of mantissa."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)
