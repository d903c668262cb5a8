"""Bugs to plant in the package: if `new` replaces the only `old` in `file`, a test must fail.

NAMED are eighteen bugs by which gradient checks of other libraries were measured, and TF32. FURTHER are
common mistakes in layers, losses, optimizers and activations.
"""

from dataclasses import dataclass
from pathlib import Path

ACTIVATIONS, LOSS, OPTIMIZERS = (
    "ffnn_gpu/nn/activations.py",
    "ffnn_gpu/nn/losses/standard.py",
    "ffnn_gpu/optim/optimizers.py",
)
REFERENCE, NUMPY = "ffnn_gpu/backends/reference/backend.py", "ffnn_gpu/backends/cpu/numpy_backend.py"
LOSSES, UPDATES, CONTROL = (
    f"ffnn_gpu/backends/reference/{name}.py" for name in ("losses", "updates", "step_control")
)
MUON, RATES = "ffnn_gpu/backends/reference/muon.py", "ffnn_gpu/nn/rates.py"
NORM, SOFTMAX = "ffnn_gpu/backends/reference/normalization.py", "ffnn_gpu/backends/reference/softmax.py"
DENSE, DROPOUT = "ffnn_gpu/nn/layers/dense.py", "ffnn_gpu/nn/layers/dropout.py"
BATCH_NORM, LAYER_NORM = "ffnn_gpu/nn/layers/batch_norm.py", "ffnn_gpu/nn/layers/layer_norm.py"
PERIODIC, PIECEWISE, PER_COLUMN, MAPS = (
    f"ffnn_gpu/backends/reference/{name}.py"
    for name in ("periodic", "piecewise_linear", "per_column", "column_maps")
)
NTK, FROM_DATA = "ffnn_gpu/nn/layers/ntk_dense.py", "ffnn_gpu/nn/data_dependent.py"
SCHEDULES, TASK = "ffnn_gpu/nn/schedules.py", "ffnn_gpu/estimators/task.py"
LOOP, ONE_PASS = "ffnn_gpu/backends/elementwise/loop_code.py", "ffnn_gpu/testing/one_pass.py"
RESIDUAL, TABLES = "ffnn_gpu/nn/layers/residual.py", "ffnn_gpu/backends/reference/embedding.py"


@dataclass(frozen=True)
class Bug:
    """A bug to plant."""

    name: str
    file: str
    old: str
    new: str

    def text(self, root: Path) -> str:
        """Return the file with the bug. Raises ValueError unless `old` occurs exactly once."""
        source = (root / self.file).read_text(encoding="utf-8")
        if source.count(self.old) != 1:
            raise ValueError(
                f"{self.name}: {self.old!r} occurs {source.count(self.old)} times in {self.file}, not once"
            )
        return source.replace(self.old, self.new)


_DZ = "dz[...] = kind.derivative(xp, z, y) * scale"
_DB = "            self.column_sum(delta, out=db)"
_DW = "        self.gemm(x.T, delta, out=dW)\n"
_RELU = 'Activation("relu", lambda xp, s, _: xp.maximum(s, 0), lambda xp, a, _: '
_TANH = 'Activation("tanh", lambda xp, s, _: xp.tanh(s), lambda xp, a, _: '
_GEMM = "        return self.xp.matmul(A, B, out=out)"
_TF32 = """        if A.dtype == np.float32:
            bits = (self.xp.ascontiguousarray(M).view(np.uint32) + np.uint32(0x1000) for M in (A, B))
            A, B = ((b & np.uint32(0xFFFFE000)).view(np.float32) for b in bits)
"""

NAMED = (
    Bug("no 1/N", LOSSES, _DZ, "dz[...] = kind.derivative(xp, z, y)"),
    Bug("N − 1", LOSSES, _DZ, _DZ + " * (B / max(B - 1, 1))"),
    Bug("/64 on a partial batch", LOSSES, _DZ, _DZ + " * (B / 64)"),
    Bug("bias mean instead of sum", REFERENCE, _DB, _DB + "\n            db /= max(len(delta), 1)"),
    Bug("last row dropped from the bias gradient", REFERENCE, _DB, _DB.replace("delta", "delta[:-1]")),
    Bug("zero bias gradient", REFERENCE, _DB, "            db[...] = 0"),
    Bug("relu′ missing", ACTIVATIONS, _RELU + "(a > 0).astype(a.dtype)", _RELU + "xp.ones_like(a)"),
    Bug(
        "relu′ of the upstream value",
        REFERENCE,
        "self.xp, s if phi.needs_input else a)",
        'self.xp, da if phi.name == "relu" else s if phi.needs_input else a)',
    ),
    Bug(
        "leak 0.01",
        ACTIVATIONS,
        _RELU + "(a > 0).astype(a.dtype)",
        _RELU + "xp.where(a > 0, xp.ones_like(a), 0.01)",
    ),
    Bug("L2 doubled", UPDATES, "of_W += update.l2 * W", "of_W += 2 * update.l2 * W"),
    Bug(
        "L2 missing on one layer",
        OPTIMIZERS,
        '{"n_decayed": group.n_decayed,',
        '{"n_decayed": group.n_decayed // 2,',
    ),
    Bug(
        "L2 on biases",
        OPTIMIZERS,
        '{"n_decayed": group.n_decayed,',
        '{"n_decayed": group.stop - group.start,',
    ),
    Bug(
        "W not transposed",
        DENSE,
        "backend.gemm(delta, p.W.T,",
        "backend.gemm(delta, p.W if len(p.W) == len(p.W.T) else p.W.T,",
    ),
    Bug("tanh′ = 1 − |a|", ACTIVATIONS, _TANH + "(1 - a) * (1 + a)", _TANH + "1 - magnitude(xp, a)"),
    Bug(
        "tanh′ with a second activation",
        ACTIVATIONS,
        _TANH + "(1 - a) * (1 + a)",
        _TANH + "1 - xp.tanh(a) ** 2",
    ),
    Bug(
        "one stale workspace row", REFERENCE, _DW, "        x = self.xp.concatenate([x[:-1], x[:1]])\n" + _DW
    ),
    Bug("one element + 1 %", REFERENCE, _DW, _DW + "        dW[0, 0] *= 1.01\n"),
    Bug("gradient rounded through float16", REFERENCE, _DW, _DW + '        dW[...] = dW.astype("float16")\n'),
    Bug("TF32 without being asked", REFERENCE, _GEMM, _TF32 + _GEMM),
)

FURTHER = (
    # layers
    Bug("dropout masks forward only", DROPOUT,
        "return backend.dropout_backward(da, buf.mask, *self._of_mask(buf))", "return da"),
    Bug("dropout keeps what it should drop", DROPOUT, "return stream.rate(self.rate),",
        "return stream.rate(1 - self.rate),"),
    Bug("dropout's factor in the threshold alone", REFERENCE, "(1.0 / (1.0 - p)).astype(out.dtype)",
        "(1.0 / (1.0 - rate + 0 * p)).astype(out.dtype)"),
    Bug("same mask in every dropout layer", DROPOUT, "stream.step, buf.number,", "stream.step, 0,"),
    Bug("mask ignores the row within the batch", DROPOUT, "buf.number, stream.row,", "buf.number, 0,"),
    Bug("layer norm without ε", LAYER_NORM, "p.bias, self.eps, out=buf.a", "p.bias, 0.0, out=buf.a"),
    Bug("gradient of gain without x̂", NORM, "self.column_sum(da * xhat, out=dgain)",
        "self.column_sum(da, out=dgain)"),
    Bug("normalization's adjoint without the projection", NORM, "(dxhat - mean - xhat * slope)",
        "(dxhat - mean)"),
    Bug("normalization's adjoint without the mean", NORM, "(dxhat - mean - xhat * slope)",
        "(dxhat - xhat * slope)"),
    Bug("running variance biased", NORM, "unbiased = rows / (rows - 1)", "unbiased = 1.0"),
    Bug("momentum of the running mean reversed", NORM, "running_mean += momentum *",
        "running_mean += (1 - momentum) *"),
    Bug("inference by the batch's own statistics", BATCH_NORM,
        "mean, variance = p.running_mean, p.running_variance",
        "mean, variance = x.mean(axis=0), x.var(axis=0)"),
    Bug("residual forgets the skip's gradient", RESIDUAL, "return backend.add(buf.dx, df, out=buf.dx)",
        "return df"),
    Bug("codes of the next column", TABLES, "codes, (n, d) = xp.real(x[:, k])",
        "codes, (n, d) = xp.real(x[:, k if k + 1 == x.shape[1] else k + 1])"),
    Bug("last row dropped from the tables' gradients", TABLES, "hot = self.one_hot(x[:, k],",
        "hot = (np.arange(len(x)) < len(x) - 1)[:, None] * self.one_hot(x[:, k],"),
    Bug("gradient of the next category", TABLES, "self.one_hot(x[:, k], n,", "self.one_hot(x[:, k] + 1, n,"),
    Bug("codes with a gradient", TABLES, "        dx[:, N:] = 0\n", "        dx[:, N:] = 1\n"),
    Bug("any code accepted", TABLES, "if bool(wrong.any()):", "if False:"),
    Bug("gain's gradient by the mean", PER_COLUMN, "    self.column_sum(da * x, out=dgain)\n",
        "    self.column_sum(da * x / len(x), out=dgain)\n"),
    Bug("strength's gradient without the identity", PER_COLUMN, "da * (a - x), out=dalpha",
        "da * a, out=dalpha"),
    Bug("slope of the parametric activation at its output", PER_COLUMN, "x if phi.needs_input else a", "a"),
    Bug("periodic embedding without its skip's gradient", PERIODIC, "        dx[...] = direct\n",
        "        dx[...] = direct\n        dx[:, : len(w)] = 0\n"),
    Bug("frequencies without 2π in their gradient", PERIODIC, "dw[...] = TURN * self.xp.sum(",
        "dw[...] = self.xp.sum("),
    Bug("phases in radians", PERIODIC, "angles(x, w, TURN * b.reshape(w.shape)), da",
        "angles(x, w, b.reshape(w.shape)), da"),
    Bug("first bin clipped below", PIECEWISE, "xp.maximum(raw, bins.low)", "xp.maximum(raw, 0)"),
    Bug("slope beyond the bin", PIECEWISE, "inside = (raw > bins.low) & (raw <= bins.high)",
        "inside = raw > bins.low"),
    Bug("map of the next wave", MAPS, "self.xp.sum(z * maps[:, :, d], axis=2)",
        "self.xp.sum(z * maps[:, ::-1, d], axis=2)"),
    Bug("NTK factor missing in backward", NTK,
        "        delta = backend.scaled(delta, factor, out=delta)  # δ ← δ/√I\n", ""),
    Bug("bias of the unscaled outputs", FROM_DATA, "np.take_along_axis(s / scale,", "np.take_along_axis(s,"),
    Bug("softmax's adjoint without a", SOFTMAX, "    da *= a\n", ""),
    Bug("log-softmax's adjoint by the mean", SOFTMAX, "self.xp.exp(a) * da.sum(",
        "self.xp.exp(a) * da.mean("),
    Bug("log-softmax overflows", SOFTMAX,
        "    xp.subtract(z, z.max(axis=1, keepdims=True), out=out)\n    out -=",
        "    out[...] = z\n    out -="),
    Bug("bias added twice", REFERENCE, "            out += b\n", "            out += 2 * b\n"),
    Bug("pre-activation kept after φ", REFERENCE,
        "        if s is not None:\n            s[...] = out\n        return self.activate(out, phi)",
        "        self.activate(out, phi)\n        if s is not None:\n            s[...] = out\n"
        "        return out"),
    # losses
    Bug("squared error with a half in its value", LOSS, "lambda xp, z, y, _: (z - y) ** 2",
        "lambda xp, z, y, _: 0.5 * (z - y) ** 2"),
    Bug("huber's slope unbounded", LOSS, "xp.clip(z - y, -alpha, alpha)", "z - y"),
    Bug("huber's slope bounded by 1, whatever α", LOSS, "xp.clip(z - y, -alpha, alpha)",
        "xp.clip(z - y, -1, 1)"),
    Bug("hinge's margin at 0", LOSS, "xp.where(y * z < 1,", "xp.where(y * z < 0,"),
    Bug("σ′ twice in the logistic loss", LOSS, "sigmoid.value(xp, z) - y",
        "(sigmoid.value(xp, z) - y) * sigmoid.value(xp, z)"),
    Bug("poisson without z", LOSS, "xp.exp(z) - y * z", "xp.exp(z) - y"),
    Bug("smoothing spread over C − 1", LOSSES, "label_smoothing / C", "label_smoothing / (C - 1)"),
    Bug("class weights left out of the mean", LOSSES, "norm, w = w * of_row, w * (of_row != 0)",
        "w = w * (of_row != 0)"),
    Bug("sample weights divided by their number", LOSSES,
        "self.xp.where(total == 0, 1, total)).astype(weight",
        "len(weight)).astype(weight"),
    Bug("cross-entropy divided by rows and classes", NUMPY, "1 / max(B, 1), z.dtype",
        "1 / max(B * z.shape[1], 1), z.dtype"),
    Bug("log p without a floor", LOSSES, "p = xp.where(p > smallest, p, smallest + 0 * p)", "p = p + 0"),
    Bug("gradient of the label only", NUMPY, "            dz[rows, y] -= 1\n",
        "            dz[rows, y] = -1\n"),
    # optimizers
    Bug("Adam's t off by one", UPDATES, "rate = (lr / (1 - beta1**t))",
        "rate = (lr / (1 - beta1 ** (t + 1)))"),
    Bug("Adam's ε under the root", UPDATES, "rate * m / (self.xp.sqrt(v) / spread + eps)",
        "rate * m / self.xp.sqrt(v / spread**2 + eps)"),
    Bug("decay without the learning rate", UPDATES,
        "(1 - decay * update.scalars[RATE])", "(1 - decay + 0 * update.scalars[RATE])"),
    Bug("decay on biases", UPDATES, "W = theta[: update.n_decayed]\n            decay =",
        "W = theta\n            decay ="),
    Bug("Nesterov without looking ahead", UPDATES, "g + momentum * velocity if nesterov else velocity",
        "velocity"),
    Bug("momentum damped", UPDATES, "    velocity += g\n", "    velocity += (1 - momentum) * g\n"),
    Bug("Adagrad forgets", UPDATES, "    v += g * g\n", "    v[...] = g * g\n"),
    Bug("Lion's moment with β₁", UPDATES, "m += (1 - beta2) * (g - m)", "m += (1 - beta1) * (g - m)"),
    Bug("Nadam without its product", OPTIMIZERS,
        "        backend.advance_product(scalars, self.beta1, self.psi, control)\n", "        pass\n"),
    Bug("learning-rate factor ignored", UPDATES, "scalars[RATE] *= update.lr_factor",
        "scalars[RATE] *= 1.0"),
    Bug("decay ignores its schedule", UPDATES, "else update.weight_decay * update.decay[0]",
        "else update.weight_decay + 0 * update.decay[0]"),
    Bug("groups with other decay joined", RATES, "decay = whole and first.decay == second.decay",
        "decay = whole"),
    Bug("Muon's rate for the other form", MUON, "max(1.0, O / I)", "max(1.0, I / O)"),
    Bug("Muon with four iterations", MUON, "ITERATIONS, SMALLEST_NORM = 5,",
        "ITERATIONS, SMALLEST_NORM = 4,"),
    Bug("Muon scaled over the whole stack", MUON, "axis=(1, 2), keepdims=True",
        "axis=(0, 1, 2), keepdims=True"),
    Bug("Muon without looking ahead", MUON, "g + momentum * (m - g) if nesterov else m", "m"),
    Bug("clipping lengthens short gradients", CONTROL,
        "norm > (float(\"inf\") if limit is None else limit)", "norm > 0"),
    Bug("clipping from one side", CONTROL, "self.xp.clip(grad, -limit, limit, out=grad)",
        "self.xp.minimum(grad, limit, out=grad)"),
    Bug("average by the wrong share", UPDATES, "mean += (1 - decay) *", "mean += decay *"),
    Bug("a skipped update is counted", UPDATES, "one = 1 if control is None else control[SKIP] == 0",
        "one = 1"),
    Bug("blocks of the update overlap", NUMPY, "piece = update.piece(start, start + BLOCK)",
        "piece = update.piece(start, start + BLOCK + 1)"),
    Bug("running statistics exchanged with their average, not equal to it", OPTIMIZERS,
        "        params.backend.copy(params.state, out=state.mean_state)\n", ""),
    Bug("warm-up without its broken step", SCHEDULES,
        "        warm = math.ceil(steps(self.warmup, total))\n        return",
        "        warm = math.floor(steps(self.warmup, total))\n        return"),
    Bug("parts of a run rounded up", SCHEDULES, "return without_rounding(duration * total) if",
        "return duration * total if"),
    Bug("one-cycle's short fall not finished", SCHEDULES,
        "u = (step - top) / (total - 1 - top) if step < total - 1 else 1.0",
        "u = min((step - top) / max(total - 1 - top, 1), 1.0)"),
    # activations
    Bug("gelu_tanh′ overflows", ACTIVATIONS, "    s = _within(xp, s, FLAT)\n    twice", "    twice"),
    Bug("silu of −∞ is NaN", ACTIVATIONS, "return xp.maximum(s, -FLAT) * _sigmoid(xp, s)",
        "return s * _sigmoid(xp, s)"),
    Bug("elu′ with α = 1, whatever α", ACTIVATIONS, "xp.ones_like(a), a + alpha)",
        "xp.ones_like(a), a + 1)"),
    Bug("leaky relu′ with α = 0.01, whatever α", ACTIVATIONS, "alpha * xp.ones_like(a)",
        "0.01 * xp.ones_like(a)"),
    Bug("gelu′ without s Φ′", ACTIVATIONS, "return _normal_cdf(xp, s) + s * _normal_pdf(xp, s)",
        "return _normal_cdf(xp, s)"),
    Bug("silu′ without s", ACTIVATIONS, "return _sigmoid(xp, s) + s * _sigmoid_slope(xp, s)\n",
        "return _sigmoid(xp, s) + _sigmoid_slope(xp, s)\n"),
    Bug("mish′ without 1 + e^s", ACTIVATIONS, "t + 4 * s * (1 + e) * xp.where", "t + 4 * s * xp.where"),
    Bug("softsign′ not squared", ACTIVATIONS, "(1 - magnitude(xp, a)) ** 2", "1 - magnitude(xp, a)"),
    Bug("softplus′ of the other sign", ACTIVATIONS, "-xp.expm1(-a))", "xp.exp(-a))"),
    Bug("sigmoid overflows", ACTIVATIONS,
        "return xp.exp(xp.minimum(s, 0)) / (1 + xp.exp(xp.minimum(s, -s)))",
        "return 1 / (1 + xp.exp(-s))"),
    Bug("hard sigmoid′ = 1/5", ACTIVATIONS, "xp.ones_like(a) / 6)", "xp.ones_like(a) / 5)"),
    Bug("selu without its scale below 0", ACTIVATIONS, "a + SELU_SCALE * SELU_ALPHA", "a + SELU_ALPHA"),
    # tables and frames
    Bug("columns of a frame in its own order", "ffnn_gpu/estimators/inputs.py",
        "frame = frame.select(self.feature_names)", "frame = frame"),
    Bug("a missing integer of a frame is 0", "ffnn_gpu/arrays/frames.py",
        'if kind == "Boolean" else values, mask=missing)', 'if kind == "Boolean" else values, mask=False)'),
    Bug("six digits of a predicted float", "ffnn_gpu/tables/answers.py", "        writer.writerows(rows)\n",
        '        writer.writerows([f"{v:.6g}" if type(v) is float else v for v in row] for row in rows)\n'),
    Bug("local times of a frame", "ffnn_gpu/tables/frames.py", "value.astimezone(UTC).replace(",
        "value.replace("),
    Bug("integers of a frame as float64", "ffnn_gpu/tables/frames.py",
        "return _filled(present, missing, np.int64)", "return _filled(present, missing, np.float64)"),
    # tasks, compiled loops, the testing kit
    Bug("probabilities through σ twice", TASK, '("cross_entropy", "binary_cross_entropy")\n\n\n@',
        '("cross_entropy",)\n\n\n@'),
    Bug("weights of the first rows for every part", LOOP,
        "place = builder.add(slots[name], builder.mul(r, integer(self.size)))",
        "place = builder.add(slots[name], builder.mul(builder.sub(r, self.top), integer(self.size)))"),
    Bug("0 · ∞ is 0 beside one number", NUMPY, "A.itemsize == 2 or A.size == 1 or B.size == 1:",
        "A.itemsize == 2:"),
    Bug("moments of a rule unchecked", ONE_PASS, "        _require_moments(network, optimizer, steps)\n",
        "        pass\n"),
    Bug("gradient at x left infinite", "ffnn_gpu/nn/network.py",
        "if scale == 1 or backend.all_finite(dx):", "if True:"),
    Bug("relu hides NaN", NUMPY, 'return np.maximum(s, 0, out=s)', 'return np.fmax(s, 0, out=s)'),
)  # fmt: skip
