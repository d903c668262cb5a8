"""The rules of the source tree, and for each rule a planted violation that it must detect.

Rules: import arrows, places of `import cupy`, products in the backends, signatures, no data run as code,
docstrings.
"""

import ast
import importlib
import inspect
import subprocess
import sys
import types
from pathlib import Path

import pytest

import ffnn_gpu
from ffnn_gpu.backends.choice import Backend, NumpyBackend
from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend

PACKAGE = Path(ffnn_gpu.__file__).parent

# A package imports only from rows above its own, never from its own row. Files of one package may import each
# other.
ORDER = [
    {"errors", "standard_error", "temporary", "version"},
    {"checks", "arrays"},
    {"backends"},
    {"nn", "data", "tables", "distributed"},
    {"optim", "checkpoints", "evaluation"},
    {"training"},
    {"estimators", "testing", "export"},
    {"report"},
    {"ffnn_gpu"},  # __init__.py: the public names
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, row in enumerate(ORDER) for name in row}
APART = ({"backends/cpu", "backends/cuda"},)  # folders of one package that never import each other
CUPY_ROOMS = ("backends/cuda/", "distributed/")
PRODUCTS = {"matmul", "dot", "vdot", "inner", "tensordot", "einsum"}
UNSAFE_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}
SUBMODULES = (
    "activations", "callbacks", "distributed", "errors", "export", "initializers", "layers", "losses",
    "metrics", "optim", "schedules", "testing",
)  # fmt: skip
MOVED = [
    "Activation", "Adagrad", "BackendMismatchError", "BackendUnavailableError", "BestWeights",
    "CheckpointCorruptError", "CheckpointError", "ConfigurationError", "Constant", "Cosine", "DataError",
    "DeviceOutOfMemoryError", "DivergedError", "DivergedRanksError", "Exponential",
    "IncompatibleCheckpointError", "Initializer", "InverseScaling", "Layer", "LinearWarmup", "Lion",
    "LogSoftmax", "Loss", "Nadam", "Normal", "OneCycle", "Optimizer", "Orthogonal", "PointwiseLoss",
    "RMSprop", "Schedule", "ShapeError", "Softmax", "SoftmaxCrossEntropy", "StepDecay",
    "Uniform", "VarianceScaling", "WorkspaceError", "binary_cross_entropy", "constant", "cross_entropy",
    "elu", "gelu_tanh", "glorot_normal", "glorot_uniform", "hard_sigmoid", "hard_tanh", "he_normal",
    "he_uniform", "hinge", "huber", "identity", "leaky_relu", "lecun_normal", "lecun_uniform",
    "mean_absolute_error", "mish", "normal", "orthogonal", "poisson", "selu", "silu", "softmax_jacobian",
    "softplus", "softsign", "uniform", "zeros",
]  # fmt: skip
VAGUE = {"utils", "util", "helpers", "helper", "common", "base", "misc"}


def sources():
    """Return path within the package → source."""
    return {
        path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def family(path):
    """Return the name of a file's package in ORDER."""
    first = path.removesuffix(".py").split("/")[0]
    return "ffnn_gpu" if path == "__init__.py" else first


def is_module(name):
    return name in RANK or (PACKAGE / f"{name}.py").exists() or (PACKAGE / name).is_dir()


def imported(node):
    """Return the dotted names that an import statement reads."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    if node.level:
        return ["." * node.level]
    if node.module == "ffnn_gpu":
        return [f"ffnn_gpu.{a.name}" if is_module(a.name) else "ffnn_gpu" for a in node.names]
    return [node.module]


def wrong_arrows(path, source):
    """Return every import in `source`, also inside functions, that does not point to a row above."""
    here = family(path)
    if here not in RANK:
        return [f"{path}: {here} has no place in ORDER; give it one"]
    found = []
    for node in ast.walk(ast.parse(source)):
        for name in imported(node):
            if name.startswith("."):
                found.append(f"{path}:{node.lineno}: relative import")
            if name.split(".")[0] != "ffnn_gpu":
                continue
            there = [*name.split("."), "ffnn_gpu"][1]
            if there == here and path != "__init__.py":
                found += [
                    f"{path}:{node.lineno}: {name} is on the other side"
                    for wall in APART
                    if crosses(wall, path, name)
                ]
                continue
            if there not in RANK or RANK[there] >= RANK[here]:
                found.append(
                    f"{path}:{node.lineno}: {here} imports {there}, which does not stand to its left"
                )
    return found


def crosses(wall, path, name):
    """Return whether the file is in one folder of the wall and the imported module in another."""
    there = name.removeprefix("ffnn_gpu.").replace(".", "/") + "/"
    return any(path.startswith(f"{a}/") and there.startswith(f"{b}/") for a in wall for b in wall if a != b)


def cupy_imports(path, source):
    """Return every import of cupy or cupyx outside backends/cuda/ and distributed/."""
    if path.startswith(CUPY_ROOMS):
        return []
    found = []
    for node in ast.walk(ast.parse(source)):
        names = [name for name in imported(node) if name.split(".")[0] in ("cupy", "cupyx")]
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in (
            "import_module",
            "__import__",
        ):
            names += [
                a.value for a in node.args if isinstance(a, ast.Constant) and a.value in ("cupy", "cupyx")
            ]
        found += [f"{path}:{node.lineno}: {name}" for name in names]
    return found


def products(path, source):
    """Return every matrix product (`@`, xp.matmul, np.dot, …) outside the backends and the strict device."""
    if path.startswith(("backends/", "testing/strict_")):
        return []
    found = []
    for node in ast.walk(ast.parse(source)):
        operator = isinstance(node, (ast.BinOp, ast.AugAssign)) and isinstance(node.op, ast.MatMult)
        named = isinstance(node, ast.Attribute) and node.attr in PRODUCTS
        if operator or named:
            found.append(f"{path}:{node.lineno}: {ast.unparse(node)}")
    return found


def unsafe(path, source):
    """Return everything that runs data as code: pickle, eval, exec, allow_pickle, …; not `__reduce__`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        bad = [name for name in imported(node) if name.split(".")[0] in UNSAFE_MODULES]
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in UNSAFE_CALLS:
                bad.append(node.func.id)
            allowed = [k for k in node.keywords if k.arg == "allow_pickle"]
            bad += [
                ast.unparse(k)
                for k in allowed
                if not (isinstance(k.value, ast.Constant) and k.value.value is False)
            ]
        found += [f"{path}:{node.lineno}: {name}" for name in bad]
    return found


def undocumented(path, source):
    """Return the module and its public classes and functions that have no docstring."""
    tree = ast.parse(source)
    if not tree.body:
        return []
    found = [] if ast.get_docstring(tree) else [f"{path}: module without a docstring"]
    for node in tree.body:
        public = isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_")
        if public and path == "__init__.py" and not ast.get_docstring(node):
            found.append(f"{path}: {node.name}")
    return found


def bad_exports(module):
    """Return names in module.__all__ that are missing or have no docstring."""
    found = []
    for name in module.__all__:
        if not hasattr(module, name):
            found.append(f"{name} does not exist")
            continue
        thing = getattr(module, name)
        own = vars(thing).get("__doc__") if isinstance(thing, type) else inspect.getdoc(thing)
        if not own or own.startswith(f"{name}("):
            found.append(f"{name} has no docstring")  # dataclass writes "Name(…)"
    return found


def parameters(function):
    """Return (name, kind, default) of each parameter, also through wrappers with *args."""
    signature = inspect.signature(function, follow_wrapped=False)
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    if {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD} <= kinds and hasattr(
        function, "__wrapped__"
    ):
        return parameters(function.__wrapped__)
    return [(p.name, p.kind, p.default) for p in signature.parameters.values()]


def differing_signatures(override, reference):
    """Return methods of `override` that the reference lacks or that cannot be called like the reference's."""
    found = []
    for name, member in vars(override).items():
        if name.startswith("_") or not inspect.isfunction(member):
            continue
        if not hasattr(reference, name):
            continue
        if parameters(member) != parameters(getattr(reference, name)):
            found.append(f"{override.__name__}.{name}{inspect.signature(member, follow_wrapped=False)}")
    return found


RULES = [wrong_arrows, cupy_imports, products, unsafe, undocumented]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_tree_satisfies_the_rule(rule):
    assert [violation for path, source in sources().items() for violation in rule(path, source)] == []


def test_cupy_is_imported_in_exactly_two_places():
    """They are inside functions, so that `import ffnn_gpu` does not import CuPy."""
    mentions = {
        path
        for path, source in sources().items()
        for node in ast.walk(ast.parse(source))
        if any(name.split(".")[0] in ("cupy", "cupyx") for name in imported(node))
    }
    assert mentions == {"backends/cuda/probe.py", "distributed/nccl.py"}


@pytest.mark.parametrize("name", ["", *(f".{name}" for name in SUBMODULES)])
def test_every_export_exists_and_is_documented(name):
    module = importlib.import_module(f"ffnn_gpu{name}")
    assert bad_exports(module) == []
    assert len(set(module.__all__)) == len(module.__all__)


def test_the_top_holds_few_names_and_each_is_the_one_of_its_submodule():
    assert len(ffnn_gpu.__all__) <= 40
    for submodule in SUBMODULES:
        for name in set(getattr(ffnn_gpu, submodule).__all__) & set(ffnn_gpu.__all__):
            assert getattr(getattr(ffnn_gpu, submodule), name) is getattr(ffnn_gpu, name)


def test_submodules_are_imported_in_every_way():
    ways = [
        f"import ffnn_gpu.{name} as a; from ffnn_gpu import {name} as b; assert a is b is ffnn_gpu.{name}"
        for name in SUBMODULES
    ]
    code = "; ".join(["from ffnn_gpu.schedules import Cosine", "import ffnn_gpu", *ways])
    subprocess.run([sys.executable, "-c", code], check=True)


def test_import_leaves_out_what_its_first_use_imports():
    """Tables and `numpy.random` took a fifth of the import's time."""
    names = ("numpy.random", "llvmlite", "sklearn", "safetensors.torch", "ffnn_gpu.tables", "ffnn_gpu.export")
    code = f"import sys, ffnn_gpu; print(*(name for name in {names} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", MOVED)
def test_name_that_moved_to_a_submodule_is_still_found_on_top(name):
    homes = [
        module for module in (getattr(ffnn_gpu, entry) for entry in SUBMODULES) if name in module.__all__
    ]
    assert len(homes) == 1 and getattr(ffnn_gpu, name) is getattr(homes[0], name)
    assert name not in ffnn_gpu.__all__


def test_name_that_is_nowhere_is_missing_on_top():
    with pytest.raises(AttributeError, match="module 'ffnn_gpu' has no attribute 'Densse'"):
        ffnn_gpu.Densse  # noqa: B018


@pytest.mark.parametrize("override", [NumpyBackend, CupyBackend])
def test_overrides_can_be_called_like_the_reference(override):
    assert differing_signatures(override, Backend) == []


def test_every_module_imports_without_a_gpu():
    for path in sources():
        if path != "__main__.py":  # it runs the command
            importlib.import_module(
                ("ffnn_gpu/" + path.removesuffix(".py").removesuffix("/__init__")).replace("/", ".")
            )


def test_no_file_has_a_vague_name():
    assert [path for path in sources() if Path(path).stem in VAGUE] == []


# ---------------------------------------------------------------------- planted violations

PLANTED = [
    (wrong_arrows, "nn/layers/dense.py", "from ffnn_gpu.training.fit import fit"),
    (wrong_arrows, "nn/layers/dense.py", "def forward():\n    from ffnn_gpu.training import fit"),
    (wrong_arrows, "nn/layers/dense.py", "import ffnn_gpu"),
    (wrong_arrows, "nn/layers/dense.py", "from ffnn_gpu import data"),
    (wrong_arrows, "nn/layers/dense.py", "from ffnn_gpu import Network"),
    (wrong_arrows, "nn/network.py", "from ffnn_gpu.data.labels import Labels"),
    (wrong_arrows, "errors.py", "import ffnn_gpu.backends.reference.backend"),
    (wrong_arrows, "backends/reference/backend.py", "from ffnn_gpu.nn.activations import relu"),
    (wrong_arrows, "backends/cpu/numpy_backend.py", "from ffnn_gpu.backends.cuda import probe"),
    (wrong_arrows, "backends/cuda/graphs.py", "import ffnn_gpu.backends.cpu.loops.layers"),
    (wrong_arrows, "nn/losses/standard.py", "from . import targets"),
    (wrong_arrows, "brand_new.py", "import numpy"),
    (wrong_arrows, "__init__.py", "from ffnn_gpu.cli.commands import main"),
    (wrong_arrows, "testing/one_pass.py", "from ffnn_gpu.estimators.model import Model"),
    (wrong_arrows, "estimators/model.py", "from ffnn_gpu.report.findings import Findings"),
    (wrong_arrows, "report/page.py", "from ffnn_gpu.cli.run_folder import CONFIG"),
    (cupy_imports, "nn/network.py", "import cupy"),
    (cupy_imports, "training/step.py", "def step():\n    from cupyx.scipy import special"),
    (cupy_imports, "training/step.py", "import importlib\nimportlib.import_module('cupy')"),
    (products, "nn/layers/dense.py", "a = x @ W"),
    (products, "nn/layers/dense.py", "x @= W"),
    (products, "nn/network.py", "z = backend.xp.matmul(x, W)"),
    (products, "nn/losses/standard.py", "import numpy as np\nnp.dot(x, W)"),
    (products, "evaluation/metrics.py", "c = a.dot(b)"),
    (unsafe, "checkpoints/checkpoint.py", "import pickle"),
    (unsafe, "checkpoints/checkpoint.py", "def load():\n    from marshal import loads"),
    (unsafe, "cli/commands.py", "eval(text)"),
    (unsafe, "cli/commands.py", "exec(text)"),
    (unsafe, "data/array_files.py", "np.load(path, allow_pickle=True)"),
    (unsafe, "data/array_files.py", "np.load(path, allow_pickle=flag)"),
    (undocumented, "nn/losses/standard.py", "import numpy as np"),
    (undocumented, "__init__.py", '"""The package."""\ndef fit(): pass'),
]


@pytest.mark.parametrize(
    ("rule", "path", "source"), PLANTED, ids=lambda value: getattr(value, "__name__", None)
)
def test_rule_detects_a_planted_violation(rule, path, source):
    assert len(rule(path, source)) == 1


HARMLESS = [
    (
        wrong_arrows,
        "nn/layers/dense.py",
        "from ffnn_gpu.nn.layer import Layer\nfrom ffnn_gpu.nn.activations import relu",
    ),
    (wrong_arrows, "cli/commands.py", "def main():\n    from ffnn_gpu.cli import train"),
    (wrong_arrows, "cli/plots.py", "def draw():\n    import matplotlib.pyplot"),
    (
        wrong_arrows,
        "backends/choice.py",
        "from ffnn_gpu.backends.cpu import loops\nfrom ffnn_gpu.backends.cuda import probe",
    ),
    (cupy_imports, "backends/cuda/probe.py", "def load_cupy():\n    import cupy"),
    (cupy_imports, "arrays/boundary.py", "import sys\nsys.modules.get('cupy')"),
    (products, "backends/reference/backend.py", "a = x @ W"),
    (products, "nn/layers/dense.py", "@dataclass\nclass Dense: pass"),
    (unsafe, "nn/network.py", "class Network:\n    def __reduce__(self): return Network, ()"),
    (unsafe, "tables/text_files.py", "import re\nre.compile('x')"),
    (unsafe, "data/array_files.py", "np.load(path, allow_pickle=False)"),
]


@pytest.mark.parametrize(
    ("rule", "path", "source"), HARMLESS, ids=lambda value: getattr(value, "__name__", None)
)
def test_rule_accepts_harmless_source(rule, path, source):
    assert rule(path, source) == []


def test_signature_rule_detects_planted_overrides():
    class Renamed(Backend):
        def gemm(self, A, W, out): ...

    class Defaulted(Backend):
        def gemm(self, A, B, out=None): ...

    class Shortened(Backend):
        def column_sum(self, A): ...

    class Positional(Backend):
        def gemm(self, *args): ...

    class Kept(Backend):
        def gemm(self, A, B, out): ...

    found = [
        differing_signatures(kind, Backend) for kind in (Renamed, Defaulted, Shortened, Positional, Kept)
    ]
    assert [len(differences) for differences in found] == [1, 1, 1, 1, 0]


def test_export_rule_detects_planted_exports():
    module = types.ModuleType("planted")
    module.silent, module.said, module.__all__ = (lambda: None), len, ["silent", "said", "missing"]
    assert bad_exports(module) == ["silent has no docstring", "missing does not exist"]
