"""What each fused operation must do, as data: `CHECKS[name](backend, dtype, size)` raises where the backend differs.

The yardstick is the reference in float64 on the same numbers; 16-bit types may add one rounding to float32's error. Outputs
start as NaN. test_kernels.py runs the checks on CupyBackend over the emulator in every order and size, and on kernels with
planted mistakes, where they must raise.
"""

import copy
import inspect
from dataclasses import dataclass

import ml_dtypes  # noqa: F401 - makes NumPy know the name bfloat16
import numpy as np

from ffnn_gpu.activations import ACTIVATIONS, elu, leaky_relu
from ffnn_gpu.backend import Backend
from ffnn_gpu.backend.precision import eps, is_16_bit, loss_gradient, master
from ffnn_gpu.losses import LOSSES, PointwiseLoss, huber
from ffnn_gpu.testing import assert_close, tolerance

REFERENCE = Backend()
SIZES = [(1, 1), (3, 5), (33, 31), (257, 3), (2, 257), (31, 33)]  # rows, columns: tails of packs, warps, blocks, slabs
POINTWISE = [*(loss for loss in LOSSES.values() if isinstance(loss, PointwiseLoss)), huber.with_alpha(0.4)]
PHI = [*ACTIVATIONS.values(), leaky_relu.with_alpha(0.2), elu.with_alpha(0.7)]


@dataclass
class Case:
    """One backend held to the reference: random numbers of one dtype and size, and the comparison.

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

    def normal(self, shape, scale=1.0): return self.rng.normal(scale=scale, size=shape).astype(self.dtype)
    def uniform(self, shape, low=0.0, high=1.0): return self.rng.uniform(low, high, shape).astype(self.dtype)
    def nan(self, *shape): return np.full(shape, np.nan, self.dtype)

    @property
    def wide(self):
        """The same source of numbers, in the type of statistics, targets and gradients of parameters."""
        twin = copy.copy(self)
        twin.dtype = master(self.dtype).name
        return twin

    def no_gradient(self): return np.full(self.matrix, np.nan, loss_gradient(self.dtype))

    def distribution(self):
        q = self.uniform(self.matrix, 0.1)
        return q / q.sum(1, keepdims=True)

    def moved(self, array):
        """The array on the device, `offset` elements behind a boundary."""
        if not isinstance(array, np.ndarray): return array
        whole = self.backend.empty((array.size + self.offset,), array.dtype)
        place = whole[self.offset :].reshape(array.shape)
        self.backend.copy(self.backend.asarray(array), out=place)
        return place

    def equal(self, operation, *, overwritten=(), relative=None, K=1, **arguments):
        """Raise unless the operation leaves the same in every array, and returns the same, as the reference in float64."""
        on_device = {name: self.moved(value) for name, value in arguments.items()}
        given = {name: np.copy(v) if isinstance(v, np.ndarray) else v for name, v in arguments.items()}
        for name, value in given.items():
            if isinstance(value, np.ndarray) and value.dtype in (self.dtype, self.wide.dtype):
                given[name] = value.astype(np.float64)
        got, want = getattr(self.backend, operation)(**on_device), getattr(REFERENCE, operation)(**given)
        if relative is None: relative = tolerance("network", master(self.dtype), K)
        pairs = {name: (on_device[name], given[name]) for name in arguments if name not in overwritten}
        if want is not None: pairs["result"] = got, want
        for name, (mine, right) in pairs.items():
            if not isinstance(right, (np.ndarray, np.generic)): continue
            mine = self.backend.to_host(mine)
            what = f"{name} of {operation} {self.matrix} {self.dtype}"
            scale = rounding(mine.dtype, right) + (relative or 0) * np.abs(right).max(initial=0)
            if relative: assert_close(mine, right, 1, what, scale=scale)
            else: assert mine.tobytes() == right.astype(mine.dtype).tobytes(), what


def rounding(dtype, right):
    """The error of rounding to a 16-bit type: half the distance of its numbers near `right`; 0 for wider types."""
    if not is_16_bit(dtype): return 0
    return eps(dtype) / 2 * np.maximum(np.abs(right), 2.0**-14 if dtype == np.float16 else 2.0**-126)


# ---------------------------------------------------------------------- one function per family; its name is its CHECKS key


def bias_activation(case):
    for phi in PHI:
        case.equal("activate", s=case.normal(case.matrix, 2), phi=phi)
        x = np.eye(3)[case.rng.integers(0, 3, case.B)].astype(case.dtype)        # its products with W need no rounding
        W, b, s = case.normal((3, case.O)), case.normal(case.row), case.nan(*case.matrix)
        case.equal("affine", x=x, W=W, b=b, phi=phi, out=case.nan(*case.matrix), s=s, K=4)
    case.equal("affine", x=x, W=W, b=None, phi=ACTIVATIONS["relu"], out=case.nan(*case.matrix), K=4)
    case.equal("affine", x=x, W=W, b=None, phi=ACTIVATIONS["identity"], out=case.nan(*case.matrix), K=4)


def activation_backward(case):
    for phi in PHI:
        s = case.normal(case.matrix, 2)
        a = phi.value(np, s.astype(np.float64)).astype(case.dtype)
        case.equal("activation_backward", da=case.normal(case.matrix), a=a, phi=phi, s=s if phi.needs_input else None)


def column_sum(case):
    case.equal("column_sum", A=case.normal(case.matrix), out=case.wide.nan(*case.row), K=case.B)


def softmax(case):
    for operation in ("softmax", "log_softmax"):
        for scale in (1, 50):
            case.equal(operation, z=case.normal(case.matrix, scale) + 100, out=case.nan(*case.matrix), K=case.O)
        z = case.normal(case.matrix)
        a = getattr(REFERENCE, operation)(z.astype(np.float64), np.empty(case.matrix)).astype(case.dtype)
        case.equal(f"{operation}_backward", da=case.normal(case.matrix), a=a, K=case.O)


def pointwise_loss(case):
    for loss in POINTWISE:
        z, y = case.normal(case.matrix), case.wide.normal(case.matrix)
        if loss.name.startswith("binary"): y = (y > 0).astype(y.dtype)
        if loss.name == "binary_cross_entropy": z = case.uniform(case.matrix, 0.05, 0.95)
        if loss.name == "hinge": y = np.sign(y)
        for weight in (None, case.wide.uniform(case.column)):
            for dz in (case.no_gradient(), None):
                case.equal("pointwise_loss", kind=loss, z=z, y=y, weight=weight, dz=dz, K=z.size)
    z = np.resize([0.0, 1, 1, 0], case.matrix).astype(case.dtype)
    y = np.resize([0.0, 1, 0], case.matrix).astype(case.wide.dtype)
    case.equal("pointwise_loss", kind=LOSSES["binary_cross_entropy"], z=z, y=y, weight=None, dz=case.no_gradient())
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
    for y in (labels, labels.astype(np.int64), case.wide.distribution()):
        for weight in (None, case.wide.uniform(case.column)):
            for v in (None, case.wide.uniform(case.row, 0.5, 2)):
                for smoothing, dz in ((0.0, case.no_gradient()), (0.1, case.no_gradient()), (0.1, None)):
                    case.equal(
                        "softmax_cross_entropy", z=case.normal(case.matrix, 3), y=y, weight=weight, class_weight=v,
                        label_smoothing=smoothing, dz=dz, K=max(case.B * case.O, 1024),  # softmax − r cancels
                    )  # fmt: skip


def dropout(case):
    step = np.array([2**33 + 5])
    for rate, seed, row in ((0.3, 2**40 + 5, 9), (0.0, 0, 0), (0.999, -1, 2**32 - 2)):
        out = case.nan(*case.matrix)
        case.equal("dropout_mask", relative=0, rate=rate, seed=seed, step=step, layer=2, row=row, out=out)
    mask = np.where(case.uniform(case.matrix) > 0.5, 1.5, 0).astype(case.dtype)
    case.equal("dropout", relative=0, x=case.normal(case.matrix), mask=mask, out=case.nan(*case.matrix))


def gather(case):
    index = case.rng.integers(0, case.B, 2 * case.B + 1)
    for source in ("uint8", "int32", "int64", "float32", "float64"):
        rows = (case.rng.normal(scale=1000, size=case.matrix) % 60000).astype(source)
        case.equal("take", relative=0, rows=rows, index=index, out=case.nan(len(index), case.O))
        if source[0] == "i":
            case.equal("take", relative=0, rows=rows[:, 0].copy(), index=index, out=np.full(len(index), 7, source))
    case.equal("take", relative=0, rows=case.normal(case.column), index=index, out=case.nan(len(index)))


def layer_norm(case):
    (B, O), x = case.matrix, case.normal(case.matrix) + (100 if case.dtype == "float32" else 0)
    gain, bias = case.normal(case.row), case.normal(case.row)
    eps, K = 1e-3, B * O
    for kept in ({"xhat": None, "rstd": None}, {"xhat": case.nan(B, O), "rstd": case.wide.nan(B)}):
        case.equal("layer_norm", x=x, gain=gain, bias=bias, eps=eps, out=case.nan(B, O), K=K, **kept)
    xhat, rstd = case.normal(case.matrix), case.wide.uniform(case.column, 0.5, 2)
    for dx in (case.nan(B, O), None):
        given = {"da": case.normal(case.matrix), "gain": gain, "xhat": xhat, "rstd": rstd}
        given |= {"dgain": case.wide.nan(O), "dbias": case.wide.nan(O)}
        case.equal("layer_norm_backward", overwritten=["da"], dx=dx, K=K, **given)


def batch_norm(case):
    (B, O), x = case.matrix, case.normal(case.matrix) + (100 if case.dtype == "float32" else 0)
    gain, bias = case.normal(case.row), case.normal(case.row)
    kept = {"xhat": case.nan(B, O)} | {name: case.wide.nan(O) for name in ("rstd", "mean", "variance")}
    case.equal("batch_norm", x=x, gain=gain, bias=bias, eps=1e-3, out=case.nan(B, O), K=B * O, **kept)
    statistics = {"mean": case.wide.normal(case.row), "variance": case.wide.uniform(case.row, 0.5, 2)}
    x = case.normal(case.matrix)
    case.equal("batch_norm_inference", x=x, gain=gain, bias=bias, eps=1e-3, out=case.nan(B, O), **statistics)
    for dx in (case.nan(B, O), None):
        given = {"da": case.normal(case.matrix), "gain": gain, "xhat": x, "rstd": case.wide.uniform(case.row, 0.5, 2)}
        given |= {"dgain": case.wide.nan(O), "dbias": case.wide.nan(O)}
        case.equal("batch_norm_backward", overwritten=["da"], dx=dx, K=B * O, **given)


def scaled(case):
    case.equal("scaled", x=case.wide.normal(case.matrix), factor=np.array([1 / 3]), out=case.nan(*case.matrix))


def vectors(case):
    """θ, ∇θ and the numbers of the step, for the rules."""
    scalars = np.array([3.0, 0.05, 0.6])
    return {"theta": case.normal(case.matrix).ravel(), "grad": case.normal(case.matrix).ravel(), "scalars": scalars}


def advance(case):
    case.backend.advance(scalars := case.backend.asarray([3.0, 0.05, 0.6]), step := case.backend.asarray([7]))
    case.backend.advance_product(scalars, 0.9, 4e-3)
    assert case.backend.to_host(step).tolist() == [8]
    want = [4, 0.05, 0.6 * 0.9 * (1 - 0.5 * 0.96 ** (4 * 4e-3))]
    assert_close(case.backend.to_host(scalars), np.array(want), tolerance("product", "float64"))


def clip_by_norm(case):
    grad = vectors(case)["grad"]
    for limit in (0.5, 1e6):
        case.equal("clip_by_norm", grad=grad, limit=limit, K=grad.size)


def penalties(case):
    given = vectors(case)
    theta, grad, scalars = given["theta"], given["grad"], given["scalars"]
    theta[::3] = 0
    for l2, l1 in ((0.1, 0.0), (0.0, 0.2), (0.1, 0.2)):
        case.equal("penalize", theta=theta, grad=grad, l2=l2, l1=l1)
    case.equal("decay", theta=theta, scalars=scalars, rate=0.3)


def sgd(case):
    for momentum, nesterov in ((0.0, False), (0.9, False), (0.9, True)):
        velocity = vectors(case)["grad"] if momentum else None
        case.equal("sgd", **vectors(case), velocity=velocity, momentum=momentum, nesterov=nesterov)


def rmsprop(case):
    for momentum in (0.0, 0.9):
        given = vectors(case) | {"v": case.uniform((case.B * case.O,))}
        velocity = case.normal((case.B * case.O,)) if momentum else None
        case.equal("rmsprop", **given, velocity=velocity, rho=0.99, eps=1e-3, momentum=momentum)


def adagrad(case):
    case.equal("adagrad", **vectors(case), v=case.uniform((case.B * case.O,)), eps=1e-3)


def adam(case):
    m, v = case.normal((case.B * case.O,)), case.uniform((case.B * case.O,))
    case.equal("adam", **vectors(case), m=m, v=v, beta1=0.9, beta2=0.999, eps=1e-3)


def nadam(case):
    m, v = case.normal((case.B * case.O,)), case.uniform((case.B * case.O,))
    case.equal("nadam", **vectors(case), m=m, v=v, beta1=0.9, beta2=0.999, eps=1e-3, psi=4e-2)


def lion(case):
    case.equal("lion", **vectors(case), m=case.normal((case.B * case.O,)), beta1=0.9, beta2=0.99)


CHECKS = {
    check.__name__: check for check in (
        bias_activation, activation_backward, column_sum, softmax, pointwise_loss, cross_entropy, softmax_cross_entropy,
        dropout, gather, layer_norm, batch_norm, scaled,
        advance, clip_by_norm, penalties, sgd, rmsprop, adagrad, adam, nadam, lion,
    )
}  # fmt: skip
MATRICES = [name for name in CHECKS if list(CHECKS).index(name) < list(CHECKS).index("advance")]  # those with 16-bit kernels
assert all(list(inspect.signature(check).parameters) == ["case"] for check in CHECKS.values())
