"""Compare the fake cublasLt with the real bindings and library, if installed. Neither needs a GPU."""

import ctypes
import glob
import importlib
import inspect
import re
import site

import numpy as np
import pytest

from ffnn_gpu.backends.cuda.cublaslt import matmul as cublaslt
from ffnn_gpu.backends.cuda.cublaslt.problem import COMPUTE_TYPES, DATA_TYPES
from pytest_ffnn_gpu import import_or_fail
from tests.backends.cuda import fake_cublaslt
from tests.backends.cuda.dense_products import TYPES, make, one_layer, several_layers
from tests.backends.cuda.fake_cublaslt import FakeCublasLt


@pytest.fixture(scope="module")
def real(request):
    """Return the module nvmath.bindings.cublasLt."""
    return import_or_fail(request.config, "nvmath.bindings.cublasLt")


@pytest.mark.parametrize(
    "name", ["Epilogue", "MatmulDescAttribute", "MatmulPreferenceAttribute", "MatrixLayoutAttribute"]
)
def test_enumerations_have_the_values_of_the_bindings(real, name):
    members = getattr(real, name).__members__
    fake = {key: int(value) for key, value in getattr(fake_cublaslt, name).__members__.items()}
    assert fake == {key: int(members[key]) for key in fake}


def test_attributes_have_the_types_of_the_bindings(real):
    for name, dtype in fake_cublaslt.DESCRIPTOR_TYPES.items():
        assert np.dtype(real.get_matmul_desc_attribute_dtype(real.MatmulDescAttribute[name])) == dtype, name
    for name, dtype in fake_cublaslt.LAYOUT_TYPES.items():
        attribute = real.MatrixLayoutAttribute[name]
        assert np.dtype(real.get_matrix_layout_attribute_dtype(attribute)) == dtype, name
    for name, dtype in fake_cublaslt.PREFERENCE_TYPES.items():
        assert (
            np.dtype(real.get_matmul_preference_attribute_dtype(real.MatmulPreferenceAttribute[name]))
            == dtype
        ), name


def test_structures_have_the_layout_of_the_bindings(real):
    for name, size in (("matmul_algo_dtype", 64), ("matmul_heuristic_result_dtype", 96)):
        assert np.dtype(getattr(real, name)) == getattr(FakeCublasLt, name), name
        assert np.dtype(getattr(real, name)).itemsize == size


FUNCTIONS = [
    name
    for name, member in vars(FakeCublasLt).items()
    if inspect.isfunction(member) and not name.startswith("_")
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_take_the_arguments_of_the_bindings_in_their_order(real, name):
    # "matmul(intptr_t light_handle, intptr_t …) -> …"
    signature = inspect.getdoc(getattr(real, name)).splitlines()[0]
    arguments = [
        part.split()[-1] for part in re.search(r"\((.*?)\)", signature).group(1).split(",") if part.strip()
    ]
    assert list(inspect.signature(getattr(FakeCublasLt, name)).parameters)[1:] == arguments


def test_every_called_function_exists_in_the_fake_and_in_the_bindings(real):
    source = inspect.getsource(
        importlib.import_module("ffnn_gpu.backends.cuda.cublaslt.calls")
    ) + inspect.getsource(cublaslt)
    names = set(re.findall(r"\b(?:lt|bindings)\.(\w+)", source)) - {"cublasLt", "cublaslt"}
    assert len(names) >= 15
    assert [name for name in sorted(names) if not (hasattr(real, name) and hasattr(FakeCublasLt, name))] == []
    assert issubclass(real.cuBLASLtError, Exception)


def test_types_have_the_values_of_the_bindings(real):
    nvmath, cublas = importlib.import_module("nvmath"), importlib.import_module("nvmath.bindings.cublas")
    names = {
        "float32": "CUDA_R_32F",
        "float64": "CUDA_R_64F",
        "float16": "CUDA_R_16F",
        "bfloat16": "CUDA_R_16BF",
    }
    assert {name: int(nvmath.CudaDataType[names[name]]) for name in DATA_TYPES} == DATA_TYPES
    assert {name: int(cublas.ComputeType[name]) for name in COMPUTE_TYPES} == COMPUTE_TYPES
    assert (int(cublas.Operation.N), int(cublas.Operation.T)) == (0, 1)
    assert {number: name for name, number in DATA_TYPES.items()} == fake_cublaslt.FLOATS


# ---------------------------------------------------------------------- the library itself


@pytest.fixture(scope="module")
def library():
    """Return libcublasLt, which needs no driver to make and fill descriptors."""
    folders = [*site.getsitepackages(), site.getusersitepackages()]
    found = [path for folder in folders for path in glob.glob(f"{folder}/nvidia/*/lib/libcublasLt.so.1[2-9]")]
    if not found:
        pytest.skip("libcublasLt is not installed as a wheel (nvidia-cublas)")
    loaded = ctypes.CDLL(found[0])
    loaded.cublasLtMatrixLayoutCreate.argtypes = [
        ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int64,
    ]  # fmt: skip
    return loaded


def set_and_read(library, kind, handle, attribute, content):
    """Return (status of setting, status of reading, the bytes read)."""
    calls = {"descriptor": "MatmulDesc", "preference": "MatmulPreference", "layout": "MatrixLayout"}
    call = calls[kind]
    size, read, written = (
        ctypes.c_size_t(len(content)),
        ctypes.create_string_buffer(len(content)),
        ctypes.c_size_t(),
    )
    first = getattr(library, f"cublasLt{call}SetAttribute")(handle, attribute, content, size)
    second = getattr(library, f"cublasLt{call}GetAttribute")(
        handle, attribute, read, size, ctypes.byref(written)
    )
    return first, second, read.raw


def test_library_accepts_every_attribute_that_a_layer_sets(library, monkeypatch):
    lt, cupy, bindings = make(cublaslt, monkeypatch)
    for dtype in TYPES:
        one_layer(lt, cupy, 5, 3, 7, dtype)
        several_layers(lt, cupy, 3, 5, 3, 8, dtype)
    handles = {kind: ctypes.c_void_p() for kind in ("descriptor", "preference", "layout")}
    assert (
        library.cublasLtMatmulDescCreate(ctypes.byref(handles["descriptor"]), COMPUTE_TYPES["COMPUTE_32F"], 0)
        == 0
    )
    assert library.cublasLtMatmulPreferenceCreate(ctypes.byref(handles["preference"])) == 0
    assert library.cublasLtMatrixLayoutCreate(ctypes.byref(handles["layout"]), 0, 3, 5, 3) == 0
    assert len({(kind, attribute) for kind, attribute, _ in bindings.written}) == 14
    for kind, attribute, content in set(bindings.written):
        assert set_and_read(library, kind, handles[kind], attribute, content) == (0, 0, content)
        # a wrong size
        assert set_and_read(library, kind, handles[kind], attribute, content + bytes(4))[0] != 0
    assert library.cublasLtMatrixLayoutDestroy(handles["layout"]) == 0
    layout = ctypes.c_void_p()
    for shape in set(bindings.layouts):
        assert library.cublasLtMatrixLayoutCreate(ctypes.byref(layout), *shape) == 0
        assert library.cublasLtMatrixLayoutDestroy(layout) == 0
    assert library.cublasLtMatmulDescDestroy(handles["descriptor"]) == 0
    assert library.cublasLtMatmulPreferenceDestroy(handles["preference"]) == 0
