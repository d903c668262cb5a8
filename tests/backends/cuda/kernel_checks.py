"""Checks of fused operations: `CHECKS[name](Case(backend, dtype, B, O))` raises if the backend is wrong.

Each check compares the backend with the reference in float64 on the same numbers. 16-bit types may add
one rounding to the error of float32. Outputs start as NaN. test_kernels.py runs the checks on
CupyBackend over the emulator in every order and size, and on kernels with planted mistakes, where they
must raise.
"""

import copy
import functools
import inspect
import itertools
from dataclasses import dataclass

import ml_dtypes  # noqa: F401 - registers the name bfloat16 in NumPy
import numpy as np

from ffnn_gpu.arrays.precision import eps, is_16_bit, loss_gradient, master
from ffnn_gpu.backends.choice import Backend
from ffnn_gpu.backends.cuda import formulas
from ffnn_gpu.backends.cuda import updates as updates_on_cuda
from ffnn_gpu.backends.cuda.kernels import SUFFIX
from ffnn_gpu.backends.reference.updates import Update
from ffnn_gpu.nn.activations import ACTIVATIONS, elu, leaky_relu
from ffnn_gpu.nn.losses.standard import LOSSES, PointwiseLoss, huber
from ffnn_gpu.testing import assert_close, tolerance
from tests.every_case import some_of

REFERENCE = Backend()
# (rows, columns) with partial packs, warps, blocks and slabs
SIZES = [(1, 1), (3, 5), (33, 31), (257, 3), (2, 257), (31, 33)]
POINTWISE = [*(loss for loss in LOSSES.values() if isinstance(loss, PointwiseLoss)), huber.with_alpha(0.4)]
PHI = [*ACTIVATIONS.values(), leaky_relu.with_alpha(0.2), elu.with_alpha(0.7)]

M, N = formulas.MOMENT, formulas.NUMBER
RULES = [  # every rule with its kinds of settings
    ("sgd", None, N, False), ("sgd", M, N, False), ("sgd", M, N, True), ("rmsprop", M, None, N, N, N),
    ("rmsprop", M, M, N, N, N), ("adagrad", M, N), ("adam", M, M, N, N, N), ("nadam", M, M, N, N, N, N),
    ("lion", M, N, N), ("muon_direction", M, M, N, False), ("muon_direction", M, M, N, True),
    ("muon_step", M, N),
]  # fmt: skip


@functools.cache
def kernels_of_formulas():
    """Return the kernels of PHI, POINTWISE and RULES for every type."""
    each = [(S, phi) for S in SUFFIX.values() for phi in PHI]
    backward = [formulas.activation_backward(S, phi) for S, phi in each if phi.name != "identity"]
    losses = [formulas.pointwise_loss(S, loss) for S in SUFFIX.values() for loss in POINTWISE]
    rules = [formulas.update_rule(S, name, tuple(kinds)) for S in formulas.MASTER for name, *kinds in RULES]
    return [*(formulas.bias_activation(S, phi) for S, phi in each), *backward, *losses, *rules]


@dataclass
class Case:
    """Compare one backend with the reference on random numbers of one dtype and size.

    offset: elements between an array and a 16-byte boundary.
    """

    backend: object
    dtype: str
    B: int
    O: int
    offset: int = 0

    def __post_init__(self):
        self.rng = np.random.default_rng([self.B, self.O])
        self.matrix, self.row, self.column = (self.B, self.O), (self.O,), (self.B,)

    def normal(self, shape, scale=1.0):
        return self.rng.normal(scale=scale, size=shape).astype(self.dtype)

    def uniform(self, shape, low=0.0, high=1.0):
        return self.rng.uniform(low, high, shape).astype(self.dtype)

    def nan(self, *shape):
        return np.full(shape, np.nan, self.dtype)

    @property
    def wide(self):
        """The same case in the type of statistics, targets and parameter gradients."""
        twin = copy.copy(self)
        twin.dtype = master(self.dtype).name
        return twin

    def no_gradient(self):
        return np.full(self.matrix, np.nan, loss_gradient(self.dtype))

    def distribution(self):
        q = self.uniform(self.matrix, 0.1)
        return q / q.sum(1, keepdims=True)

    def moved(self, array):
        """Return the array on the device, `offset` elements after a 16-byte boundary."""
        if not isinstance(array, np.ndarray):
            return array
        whole = self.backend.empty((array.size + self.offset,), array.dtype)
        place = whole[self.offset :].reshape(array.shape)
        self.backend.copy(self.backend.asarray(array), out=place)
        return place

    def equal(self, operation, *, overwritten=(), relative=None, K=1, **arguments):
        """Raise unless all arrays and the result are close to those of the reference in float64.

        Returns the arrays on the device by name.
        """
        on_device = {name: self.moved(value) for name, value in arguments.items()}
        given = {name: np.copy(v) if isinstance(v, np.ndarray) else v for name, v in arguments.items()}
        for name, value in given.items():
            if isinstance(value, np.ndarray) and value.dtype in (self.dtype, self.wide.dtype):
                given[name] = value.astype(np.float64)
        got, want = call(self.backend, operation, on_device), call(REFERENCE, operation, given)
        if relative is None:
            relative = tolerance("network", master(self.dtype), K)
        pairs = {name: (on_device[name], given[name]) for name in arguments if name not in overwritten}
        if want is not None:
            pairs["result"] = got, want
        for name, (mine, right) in pairs.items():
            if not isinstance(right, (np.ndarray, np.generic)):
                continue
            mine = self.backend.to_host(mine)
            what = f"{name} of {operation} {self.matrix} {self.dtype}"
            if not relative:
                assert mine.tobytes() == right.astype(mine.dtype).tobytes(), what
                continue
            scale = rounding(mine.dtype, right) + relative * np.abs(right).max(initial=0)
            assert_close(mine, right, 1, what, scale=scale)
        return on_device

    def exactly_standardized(self, rows, index, far=0):
        """Raise unless `take` standardizes rows around `far` bit for bit like the formula in float64.

        The formula's result is rounded to `dtype`, a 16-bit type by way of float32. Fewer columns are tested,
        too, so that a row is a whole number of packs.
        """
        for width in {self.O, self.O // 4 * 4 or 1, self.O // 2 * 2 or 1}:
            x, mean, scale = (
                rows[:, :width].copy(),
                far + self.rng.normal(size=width),
                self.rng.uniform(1, 3, width),
            )
            given = (self.moved(a) for a in (x, index, self.nan(len(index), width), mean, scale))
            got = self.backend.to_host(self.backend.take(*given))
            want = (
                ((x[index].astype(np.float64) - mean) / scale).astype(master(self.dtype)).astype(self.dtype)
            )
            assert got.tobytes() == want.tobytes(), (
                f"take of {x.shape} {x.dtype} standardized to {self.dtype}"
            )


def call(backend, operation, arguments):
    """Call the operation, with the fields of an Update among its arguments packed into one."""
    if "theta" not in arguments:
        return getattr(backend, operation)(**arguments)
    shared = {name: arguments[name] for name in Update._fields if name in arguments}
    own = {name: value for name, value in arguments.items() if name not in shared}
    return getattr(backend, operation)(Update(**shared), **own)


def rounding(dtype, right):
    """Return the largest rounding error of a 16-bit type near `right`, and 0 for wider types."""
    if not is_16_bit(dtype):
        return 0
    return eps(dtype) / 2 * np.maximum(np.abs(right), 2.0**-14 if dtype == np.float16 else 2.0**-126)


# ---------------------------------------------------------------------- one check per family of operations


def bias_activation(case):
    for phi in PHI:
        case.equal("activate", s=case.normal(case.matrix, 2), phi=phi)
        # x W + b is exact in every type
        x = np.eye(3)[case.rng.integers(0, 3, case.B)].astype(case.dtype)
        W, b = (
            (np.round(case.rng.normal(size=shape) * 8) / 8).astype(case.dtype)
            for shape in ((3, case.O), case.row)
        )
        s = case.nan(*case.matrix)
        case.equal("affine", x=x, W=W, b=b, phi=phi, out=case.nan(*case.matrix), s=s, K=4)
    case.equal("affine", x=x, W=W, b=None, phi=ACTIVATIONS["relu"], out=case.nan(*case.matrix), K=4)
    case.equal("affine", x=x, W=W, b=None, phi=ACTIVATIONS["identity"], out=case.nan(*case.matrix), K=4)


def activation_backward(case):
    for phi in PHI:
        s = case.normal(case.matrix, 2)
        a = phi.value(np, s.astype(np.float64)).astype(case.dtype)
        case.equal(
            "activation_backward", da=case.normal(case.matrix), a=a, phi=phi, s=s if phi.needs_input else None
        )


def column_sum(case):
    case.equal("column_sum", A=case.normal(case.matrix), out=case.wide.nan(*case.row), K=case.B)


def softmax(case):
    for operation in ("softmax", "log_softmax"):
        for scale in (1, 50):
            case.equal(
                operation, z=case.normal(case.matrix, scale) + 100, out=case.nan(*case.matrix), K=case.O
            )
        z = case.normal(case.matrix)
        a = getattr(REFERENCE, operation)(z.astype(np.float64), np.empty(case.matrix)).astype(case.dtype)
        case.equal(f"{operation}_backward", da=case.normal(case.matrix), a=a, K=case.O)


def pointwise_loss(case):
    for loss in POINTWISE:
        z, y = case.normal(case.matrix), case.wide.normal(case.matrix)
        if loss.name.startswith("binary"):
            y = (y > 0).astype(y.dtype)
        if loss.name == "binary_cross_entropy":
            z = case.uniform(case.matrix, 0.05, 0.95)
        if loss.name == "hinge":
            y = np.sign(y)
        weighted = case.wide.uniform(case.column)
        dz, at = case.no_gradient(), POINTWISE.index(loss) % 2
        options = [(None, dz), (weighted, dz), (weighted, None), (None, None)]
        for weight, dz in some_of(options[at:] + options[:at], 2):
            case.equal("pointwise_loss", kind=loss, z=z, y=y, weight=weight, dz=dz, K=z.size)
    z = np.resize([0.0, 1, 1, 0], case.matrix).astype(case.dtype)
    y = np.resize([0.0, 1, 0], case.matrix).astype(case.wide.dtype)
    case.equal(
        "pointwise_loss", kind=LOSSES["binary_cross_entropy"], z=z, y=y, weight=None, dz=case.no_gradient()
    )
    none = np.zeros(case.column, case.wide.dtype)
    case.equal("pointwise_loss", kind=POINTWISE[0], z=z, y=y, weight=none, dz=case.no_gradient())


def cross_entropy(case):
    p, q = case.distribution(), case.wide.distribution()
    for weight in (None, case.wide.uniform(case.column)):
        for dp in (case.no_gradient(), None):
            case.equal("cross_entropy", p=p, q=q, weight=weight, dp=dp, smallest=1e-12, K=p.size)
    p[0, 0] = 0
    case.equal("cross_entropy", p=p, q=q, weight=None, dp=case.no_gradient(), smallest=1e-3, K=p.size)


def softmax_cross_entropy(case):
    labels = case.rng.integers(0, case.O, case.B).astype(np.int32)
    options = itertools.product(
        (labels, labels.astype(np.int64), case.wide.distribution()),
        (None, case.wide.uniform(case.column)),
        (None, case.wide.uniform(case.row, 0.5, 2)),
        ((0.0, case.no_gradient()), (0.1, case.no_gradient()), (0.1, None)),
    )
    # the selection has almost every pair of two options
    for y, weight, v, (smoothing, dz) in some_of(options, 5):
        case.equal(
            "softmax_cross_entropy",
            z=case.normal(case.matrix, 3),
            y=y,
            weight=weight,
            class_weight=v,
            label_smoothing=smoothing,
            dz=dz,
            K=max(case.B * case.O, 1024),  # softmax − r cancels
        )
    v = case.wide.uniform(case.row, 0.5, 2)
    v[0] = 0  # rows of this class count nothing
    case.equal(
        "softmax_cross_entropy",
        z=case.normal(case.matrix, 3),
        y=labels,
        weight=None,
        class_weight=v,
        label_smoothing=0.1,
        dz=case.no_gradient(),
        K=max(case.B * case.O, 1024),
    )
    _whole_packs_of_classes(case)


def _whole_packs_of_classes(case):
    """Rows that are whole packs of classes; on a GPU, with a label that is no class."""
    whole = copy.copy(case)
    whole.O = 8 * (case.O // 8 + 1)
    whole.__post_init__()
    z, y = whole.normal(whole.matrix, 3), whole.rng.integers(0, whole.O, whole.B).astype(np.int32)
    if whole.backend.name.startswith("cupy"):  # a CPU refuses the label
        y[whole.B // 2 :][:1] = whole.O
    given = {"weight": whole.wide.uniform(whole.column), "class_weight": None, "label_smoothing": 0.0}
    K = max(whole.B * whole.O, 1024)
    whole.equal("softmax_cross_entropy", z=z, y=y, dz=whole.no_gradient(), K=K, **given)


def dropout(case):
    step = np.array([2**33 + 5])
    for rate, seed, row in ((0.3, 2**40 + 5, 9), (0.0, 0, 0), (0.999, -1, 2**32 - 2)):
        out = case.nan(*case.matrix)
        case.equal("dropout_mask", relative=0, rate=rate, seed=seed, step=step, layer=2, row=row, out=out)
    for rate, factor in ((0.3, 0.7), (0.9, 0.0), (1 - 2**-33, 1.0)):
        out = case.nan(*case.matrix)
        given = {"rate": rate, "seed": 3, "step": step, "layer": 2, "row": 0, "factor": np.array([factor])}
        case.equal("dropout_mask", relative=0, out=out, **given)
    for O, factor in ((case.O, None), (4 * case.O, np.array([0.5]))):  # the second one in whole packs
        shape, given = (case.B, O), {"rate": 0.5, "seed": 2**40 + 5, "step": step, "layer": 2, "row": 7}
        if factor is not None:
            given |= {"rate": 1 - 2**-33, "factor": factor}
        mask, x, out = case.nan(*shape), case.normal(shape), case.nan(*shape)
        case.equal("dropout_forward", overwritten=("mask",), relative=0, x=x, mask=mask, out=out, **given)
        mask = REFERENCE.dropout_mask(out=mask, **given)
        case.equal("dropout_backward", relative=0, da=x, mask=mask, **given)
    mask = np.where(case.uniform(case.matrix) > 0.5, 1.5, 0).astype(case.dtype)
    case.equal("dropout", relative=0, x=case.normal(case.matrix), mask=mask, out=case.nan(*case.matrix))


def gather(case):
    index = case.rng.integers(0, case.B, 2 * case.B + 1)
    for source in ("uint8", "int32", "int64", "float32", "float64"):
        rows = (case.rng.normal(scale=1000, size=case.matrix) % 60000).astype(source)
        case.equal("take", relative=0, rows=rows, index=index, out=case.nan(len(index), case.O))
        far = {"int32": 2**30, "int64": 2**40}.get(source, 0)  # beyond the exact integers of float32
        case.exactly_standardized(rows + rows.dtype.type(far), index, far)
        if source[0] == "i":
            case.equal(
                "take", relative=0, rows=rows[:, 0].copy(), index=index, out=np.full(len(index), 7, source)
            )
    case.equal("take", relative=0, rows=case.normal(case.column), index=index, out=case.nan(len(index)))
    case.exactly_standardized(case.normal(case.matrix), index)


def embedding(case):
    """The tables are longer than a batch, and shorter; wider than a warp, and narrower."""
    levels, widths = (7, 90, 2), (case.O, 3, 1)
    codes = np.stack([case.rng.integers(0, n, case.B) for n in levels], axis=1)
    x = np.concatenate([case.normal((case.B, 2)), codes.astype(case.dtype)], axis=1)
    E, shape = case.normal((np.dot(levels, widths),)), (case.B, 2 + sum(widths))
    sizes = {"levels": levels, "widths": widths}
    case.equal("embedding", relative=0, x=x, E=E, out=case.nan(*shape), **sizes)
    for dx in (case.nan(*x.shape), None):
        given = {"da": case.normal(shape), "x": x, "dE": case.wide.nan(E.size), "dx": dx}
        case.equal("embedding_backward", K=case.B, **given, **sizes)


def periodic(case):
    """Two columns of O are embedded, or the only one; more waves than a warp has lanes, and fewer."""
    F, B, I = min(2, case.O), case.B, case.O
    for K, D in ((3, 1), (40, 5)):
        w, b = case.normal((F, K), 0.3), case.uniform((F, K), -3, 3)
        given = {"x": case.normal((B, I)), "w": w, "b": b, "A": case.normal((F * K, D))}
        case.equal("periodic", **given, c=case.normal((F, D)), out=case.nan(B, F * D + I), K=K)
        sums = {"dw": case.wide.nan(F, K), "db": case.wide.nan(F, K), "dA": case.wide.nan(F * K, D)}
        sums["dc"] = case.wide.nan(F, D)
        for dx in (case.nan(B, I), None):
            da = case.normal((B, F * D + I))
            case.equal("periodic_backward", da=da, **given, **sums, dx=dx, K=max(B, K * D))


def layer_norm(case):
    (B, O), x = case.matrix, case.normal(case.matrix) + (100 if case.dtype == "float32" else 0)
    gain, bias = case.normal(case.row), case.normal(case.row)
    eps, K = 1e-3, B * O
    for saved in ({"xhat": None, "rstd": None}, {"xhat": case.nan(B, O), "rstd": case.wide.nan(B)}):
        case.equal("layer_norm", x=x, gain=gain, bias=bias, eps=eps, out=case.nan(B, O), K=K, **saved)
    xhat, rstd = case.normal(case.matrix), case.wide.uniform(case.column, 0.5, 2)
    for dx in (case.nan(B, O), None):
        given = {"da": case.normal(case.matrix), "gain": gain, "xhat": xhat, "rstd": rstd}
        given |= {"dgain": case.wide.nan(O), "dbias": case.wide.nan(O)}
        case.equal("layer_norm_backward", overwritten=["da"], dx=dx, K=K, **given)


def batch_norm(case):
    (B, O), x = case.matrix, case.normal(case.matrix) + (100 if case.dtype == "float32" else 0)
    gain, bias = case.normal(case.row), case.normal(case.row)
    saved = {"xhat": case.nan(B, O)} | {name: case.wide.nan(O) for name in ("rstd", "mean", "variance")}
    case.equal("batch_norm", x=x, gain=gain, bias=bias, eps=1e-3, out=case.nan(B, O), K=B * O, **saved)
    statistics = {"mean": case.wide.normal(case.row), "variance": case.wide.uniform(case.row, 0.5, 2)}
    x = case.normal(case.matrix)
    case.equal("batch_norm_inference", x=x, gain=gain, bias=bias, eps=1e-3, out=case.nan(B, O), **statistics)
    for dx in (case.nan(B, O), None):
        given = {
            "da": case.normal(case.matrix),
            "gain": gain,
            "xhat": x,
            "rstd": case.wide.uniform(case.row, 0.5, 2),
        }
        given |= {"dgain": case.wide.nan(O), "dbias": case.wide.nan(O)}
        case.equal("batch_norm_backward", overwritten=["da"], dx=dx, K=B * O, **given)


def scaled(case):
    case.equal(
        "scaled", x=case.wide.normal(case.matrix), factor=np.array([1 / 3]), out=case.nan(*case.matrix)
    )


def advance(case):
    for control, counted in ((None, 1), ([0.5, 0.0], 1), ([0.0, 1.0], 0)):
        for lr in (None, [0.25]):
            scalars, step = case.backend.asarray([3.0, 0.05, 0.6]), case.backend.asarray([7])
            control, lr = (None if array is None else case.backend.asarray(array) for array in (control, lr))
            case.backend.advance(scalars, step, control, lr)
            case.backend.advance_product(scalars, 0.9, 4e-3, control)
            assert case.backend.to_host(step).tolist() == [7 + counted]
            product = 0.6 * (0.9 * (1 - 0.5 * 0.96 ** (4 * 4e-3)) if counted else 1)
            want = [3 + counted, 0.25 if lr is not None else 0.05, product]
            assert_close(case.backend.to_host(scalars), np.array(want), tolerance("product", "float64"))


def clip_by_value(case):
    grad = case.normal((case.B * case.O,), 2)
    case.equal("clip_by_value", relative=0, grad=grad, limit=0.5, loss_scale=None)
    grad[:3] = (np.inf, -np.inf, np.nan)[: grad.size]
    case.equal("clip_by_value", relative=0, grad=grad, limit=0.5, loss_scale=None)
    case.equal("clip_by_value", relative=0, grad=grad, limit=0.25, loss_scale=np.array([4.0, 0.0]))


def gradient_factor(case):
    n, wide = case.B * case.O, tolerance("network", "float64", case.B * case.O)
    finite, bad = [case.normal(n), 1e-3 * case.normal(n)], [case.normal(n), case.normal(n)]
    bad[0][n // 3 : n // 3 + 1], bad[1][-1:] = np.nan, -np.inf
    for limit in (None, 0.5, 1e6):
        for grad in finite:
            case.equal(
                "gradient_factor",
                relative=wide,
                grad=grad,
                limit=limit,
                control=np.full(2, np.nan),
                loss_scale=None,
            )
        scales = ([1024.0, 3.0], [1024.0, 1999.0], [2.0**24, 1999.0], [1.5, 0.0])
        for grad, scale in some_of(itertools.product(finite + bad, scales), 3):
            case.equal(
                "gradient_factor",
                relative=wide,
                overwritten={"grad"},
                grad=grad,
                limit=limit,
                control=np.full(2, np.nan),
                loss_scale=np.array(scale),
            )


def average(case):
    case.equal("average", mean=case.normal(case.row), values=case.normal(case.row), decay=0.9)


def shared_by_rules(case):
    """Yield Updates: plain, with a factor, with matrices that end between or within packs, with a skip."""
    n = case.B * case.O
    theta, grad, scalars = case.normal(n), case.normal(n), np.array([3.0, 0.05, 0.6])
    theta[::3] = 0
    plain = {"theta": theta, "grad": grad, "scalars": scalars, "overwritten": {"grad"}}
    yield plain
    yield plain | {"control": np.array([0.3, 0.0])}
    yield plain | {"n_decayed": n // 2, "weight_decay": 0.3, "lr_factor": 2.0, "decay": np.array([0.25])}
    yield plain | {"n_decayed": n // 8 * 4, "l2": 0.1, "weight_decay": 0.3, "lr_factor": 0.5}
    yield plain | {
        "n_decayed": n // 2,
        "l2": 0.1,
        "l1": 0.2,
        "weight_decay": 0.3,
        "control": np.array([0.3, 0.0]),
    }
    yield plain | {"n_decayed": n, "l1": 0.2}
    yield plain | {"n_decayed": n, "l1": 0.2, "weight_decay": 0.3, "control": np.array([0.3, 1.0])}


def every_rule(case):
    """Yield (name, moments and settings) of every rule and its variants."""
    n = case.B * case.O
    velocity, m, v = case.normal(n), case.normal(n), case.uniform(n)
    yield "sgd", {"velocity": None, "momentum": 0.0, "nesterov": False}
    yield "sgd", {"velocity": velocity, "momentum": 0.9, "nesterov": False}
    yield "sgd", {"velocity": velocity, "momentum": 0.9, "nesterov": True}
    yield "rmsprop", {"v": v, "velocity": None, "rho": 0.99, "eps": 1e-3, "momentum": 0.0}
    yield "rmsprop", {"v": v, "velocity": velocity, "rho": 0.99, "eps": 1e-3, "momentum": 0.9}
    yield "adagrad", {"v": v, "eps": 1e-3}
    yield "adam", {"m": m, "v": v, "beta1": 0.9, "beta2": 0.999, "eps": 1e-3}
    yield "nadam", {"m": m, "v": v, "beta1": 0.9, "beta2": 0.999, "eps": 1e-3, "psi": 4e-2}
    yield "lion", {"m": m, "beta1": 0.9, "beta2": 0.99}
    yield "muon_direction", {"m": m, "U": v, "momentum": 0.9, "nesterov": False}
    yield "muon_direction", {"m": m, "U": v, "momentum": 0.9, "nesterov": True}
    yield "muon_step", {"X": m, "factor": 1.5}


def updates(case, wanted):
    for shared in shared_by_rules(case):
        for name, own in every_rule(case):
            if name == wanted:
                case.equal(name, **shared, **own)


def sgd(case):
    updates(case, "sgd")


def rmsprop(case):
    updates(case, "rmsprop")


def adagrad(case):
    updates(case, "adagrad")


def adam(case):
    updates(case, "adam")


def nadam(case):
    updates(case, "nadam")


def lion(case):
    updates(case, "lion")


def muon_direction(case):
    updates(case, "muon_direction")


def muon_step(case):
    updates(case, "muon_step")


def shadow(case):
    # each rule is tested with one or two of the seven Updates, and each Update with several rules
    for (name, own), shared in some_of(itertools.product(every_rule(case), [*shared_by_rules(case)]), 5):
        copy, rest = shared["theta"].astype(np.float16), shared | {"overwritten": {"grad", "shadow"}}
        left = case.equal(name, **rest, **own, shadow=copy)
        theta, copy = case.backend.to_host(left["theta"]), case.backend.to_host(left["shadow"])
        np.testing.assert_array_equal(copy, theta.astype(np.float16))


def blend(case):
    arrays = case.normal(case.matrix), case.normal(case.matrix), case.nan(*case.matrix)
    x, y, out = map(case.moved, arrays)
    for first in (x, case.wide.moved(case.wide.normal(case.matrix))):
        given, other = (np.float64(case.backend.to_host(array)) for array in (first, y))
        updates_on_cuda.blend(case.backend, 3.4445, first, -4.775, y, out)
        want = 3.4445 * given - 4.775 * other
        largest = np.abs(want).max(initial=0)
        scale = rounding(np.dtype(out.dtype), want) + tolerance("network", master(case.dtype)) * largest
        assert_close(case.backend.to_host(out), want, 1, f"blend {case.matrix} {case.dtype}", scale=scale)


CHECKS = {
    check.__name__: check
    for check in (
        bias_activation,
        activation_backward,
        column_sum,
        softmax,
        pointwise_loss,
        cross_entropy,
        softmax_cross_entropy,
        dropout,
        gather,
        embedding,
        periodic,
        layer_norm,
        batch_norm,
        scaled,
        blend,
        advance,
        clip_by_value,
        gradient_factor,
        average,
        sgd,
        rmsprop,
        adagrad,
        adam,
        nadam,
        lion,
        muon_direction,
        muon_step,
        shadow,
    )
}
# the checks of operations with 16-bit kernels
MATRICES = [name for name in CHECKS if list(CHECKS).index(name) < list(CHECKS).index("advance")]
assert all(list(inspect.signature(check).parameters) == ["case"] for check in CHECKS.values())
