"""Mistakes to plant in kernels.cu, as data: with the only `old` replaced by `new`, the check named must fail."""

import re
from dataclasses import dataclass

ENTRY = re.compile(r"^(?:KERNEL|KERNEL_32_64|UPDATE)\((\w+),.*?\)\)\n", re.S | re.M)


@dataclass(frozen=True)
class Mutant:
    """A planted mistake and the one of kernel_checks.CHECKS that must raise; offset and dtype as in `Case`."""

    name: str
    check: str
    old: str
    new: str
    offset: int = 0
    dtype: str = "float32"

    def text(self, source, needed):
        """The source with the mistake, and of the entries only those `needed`, which builds in a third of the time."""
        if source.count(self.old) != 1: raise ValueError(f"{self.name}: {self.old!r} occurs {source.count(self.old)} times")
        text = source.replace(self.old, self.new)
        return ENTRY.sub(lambda entry: entry[0] if entry[1] in needed else "", text)


MUTANTS = (
    Mutant("bias of the wrong column", "bias_activation", "int c = column_of(k * width, O);", "int c = column_of(k, O);"),
    Mutant("column does not wrap", "bias_activation", "c = c + 1 == O ? 0 : c + 1;", "c = c + 1;"),
    Mutant("bias of the tail counted from the tail", "bias_activation", "b[column_of(i, O)]", "b[column_of(j, O)]"),
    Mutant("pre-activation after the activation", "bias_activation", "if (s) pack(s, k) = pre;",
           "if (s) pack(s, k) = post;"),
    Mutant("tail missing", "activation_backward", "Index i = packs * width + j;\n    da[i]",
           "if (j) break;\n    Index i = n - 1;\n    da[i]"),
    Mutant("packs without alignment", "activation_backward", "% 16 ? 0 :", "% 4 ? 0 :", offset=1),
    Mutant("slope of tanh", "activation_backward", "return (A(1) - a) * (A(1) + a);", "return A(1) - a;"),
    Mutant("slope of silu", "activation_backward", "return p * (A(1) + a * (A(1) - p));", "return p * (A(1) + a);"),
    Mutant("slope of leaky relu with a fixed constant", "activation_backward", "a > A(0) ? A(1) : alpha;",
           "a > A(0) ? A(1) : A(0.01);"),
    Mutant("order of the activations", "bias_activation", "SILU, MISH,", "MISH, SILU,"),
    Mutant("gelu by the wrong cube", "bias_activation", "#define GELU_CUBE 0.044715", "#define GELU_CUBE 0.0449"),
    Mutant("no barrier before the warps' sums are read", "clip_by_norm", "  __syncthreads();\n  if (threadIdx.x < WARP)",
           "  if (threadIdx.x < WARP)"),
    Mutant("no barrier before the flag is read", "clip_by_norm", "  __syncthreads();\n  if (!last)", "  if (!last)"),
    Mutant("no fence before a block counts itself", "clip_by_norm", "    __threadfence();\n    last =", "    last ="),
    Mutant("the first block finishes the sum", "clip_by_norm", "== gridDim.x - 1;", "== 0;"),
    Mutant("count of finished blocks stays", "pointwise_loss", "if (threadIdx.x == 0) *finished = 0;", ""),
    Mutant("norm without its root", "clip_by_norm", "? limit / sqrt(sum)", "? limit / sum"),
    Mutant("no barrier in the column sums", "column_sum", "  __syncthreads();\n  if (threadIdx.y == 0",
           "  if (threadIdx.y == 0"),
    Mutant("a lane of the column sums left out", "column_sum", "int lane = 1; lane < SLAB_LANES",
           "int lane = 2; lane < SLAB_LANES"),
    Mutant("slabs overlap", "column_sum", "Index begin = (Index)blockIdx.y * R,",
           "Index begin = (Index)blockIdx.y * (R - 1),"),
    Mutant("last slab runs over", "column_sum", "begin + R < B ? begin + R : B", "begin + R"),
    Mutant("log-softmax adds", "softmax", "v - log_sum : exp_(v) / sum", "v + log_sum : exp_(v) / sum"),
    Mutant("lane skips a column", "softmax", "for (int c = lane; c < C; c += WARP) {\n      A v = (A)widen(of[c]) - top;",
           "for (int c = lane; c < C - 1; c += WARP) {\n      A v = (A)widen(of[c]) - top;"),
    Mutant("softmax backward without the sum", "softmax", "v * (d - sum)", "v * d"),
    Mutant("mean without 1/N", "pointwise_loss", "total ? *total : (double)B;", "total ? *total : 1.0;"),
    Mutant("mean without 1/O", "pointwise_loss", "A(1.0 / (divisor(total, B) * O))", "A(1.0 / divisor(total, B))"),
    Mutant("weight of the wrong row", "pointwise_loss", "w[row_of(i, O)]", "w[column_of(i, B)]"),
    Mutant("huber without a half", "pointwise_loss", "alpha * (abs_(d) - A(0.5) * alpha)", "alpha * (abs_(d) - alpha)"),
    Mutant("all-zero weights divide by zero", "pointwise_loss", "return N == 0 ? 1.0 : N;", "return N;"),
    Mutant("gradient of cross-entropy without p", "cross_entropy", "from(f / v)", "from(f)"),
    Mutant("class weights left out of the gradient", "softmax_cross_entropy", "* mass - r) * scale", "- r) * scale"),
    Mutant("class weight of the row, not of its label", "softmax_cross_entropy", "(double)v[y[b]]", "(double)v[b % C]"),
    Mutant("Philox with a wrong constant", "dropout", "k1 += 0xBB67AE85u", "k1 += 0xBB67AE86u"),
    Mutant("Philox with nine rounds", "dropout", "round < 10", "round < 9"),
    Mutant("row of the batch forgotten", "dropout", "make_uint4(quad, row + r,", "make_uint4(quad, r,"),
    Mutant("last of four words", "dropout", "if (left > 3) to[3] = word.w", "if (left > 3) to[3] = word.z"),
    Mutant("mask runs over the row", "dropout", "if (left > 1) to[1]", "to[1]"),
    Mutant("gather by the wrong width", "gather", "index[row_of(i, d)] * d +", "index[row_of(i, d)] * n +"),
    Mutant("unbiased variance", "layer_norm", "warp_sum(variance) / I + eps", "warp_sum(variance) / (I - 1) + eps"),
    Mutant("adjoint without the projection", "layer_norm", "- (double)widen(xhat[at + i]) * product;", ";"),
    Mutant("adjoint without the mean", "batch_norm", "- sum_da[c] / B -", "-"),
    Mutant("statistics without eps", "batch_norm", "1.0 / sqrt(sigma2 + eps)", "1.0 / sqrt(sigma2)"),
    Mutant("inference without the mean", "batch_norm", "(widen(x[i]) - mean[c]) * factor", "widen(x[i]) * factor"),
    Mutant("sum of a column rounded to 16 bits", "column_sum", "out[column] = (Arithmetic<T>)sum;",
           "out[column] = widen(Narrow<T>::from((Arithmetic<T>)sum));", dtype="bfloat16"),
    Mutant("softmax summed in 16 bits", "softmax", "sum += exp_((A)widen(of[c]) - top);\n    sum = warp",
           "sum = widen(Narrow<T>::from(sum + exp_((A)widen(of[c]) - top)));\n    sum = warp", dtype="bfloat16"),
    Mutant("loss rounded to 16 bits", "softmax_cross_entropy", "*value = (A)loss;",
           "*value = widen(Narrow<T>::from((A)loss));", dtype="bfloat16"),
    Mutant("gradient of the loss rounded to float16", "pointwise_loss",
           "Narrow<LossGradient<T>>::from(pointwise_slope(kind, v, t, alpha) * f)",
           "widen(Narrow<T>::from(pointwise_slope(kind, v, t, alpha) * f))", dtype="float16"),
    Mutant("normalized rows rounded twice", "layer_norm", "out[at + i] = Narrow<T>::from(h *",
           "out[at + i] = Narrow<T>::from(widen(Narrow<T>::from(h)) *", dtype="bfloat16"),
    Mutant("1/σ rounded to 16 bits", "layer_norm", "rstd[row] = (A)factor;",
           "rstd[row] = widen(Narrow<T>::from((A)factor));", dtype="float16"),
    Mutant("mean rounded to 16 bits", "batch_norm", "mean[c] = (Arithmetic<T>)wide_mean[c];",
           "mean[c] = widen(Narrow<T>::from((Arithmetic<T>)wide_mean[c]));", dtype="bfloat16"),
    Mutant("fractions cut off on the way to bfloat16", "gather", "Narrow<__nv_bfloat16>::from((float)x);",
           "Narrow<__nv_bfloat16>::from((float)(int)x);", dtype="bfloat16"),
    Mutant("loss scale forgotten", "scaled", "Narrow<T>::from(f * x[i])", "Narrow<T>::from(x[i])", dtype="float16"),
    Mutant("count of updates stands still", "advance", "*step += 1;", ""),
    Mutant("sign of the penalty", "penalties", "g += l1 * sign(x);", "g += l1;"),
    Mutant("decay without the rate", "penalties", "1 - rate * scalars[1]", "1 - rate"),
    Mutant("Nesterov without the look-ahead", "sgd", "nesterov ? g + momentum * v : v", "v"),
    Mutant("velocity not kept", "rmsprop", "velocity[i] = u = momentum", "u = momentum"),
    Mutant("sum of squares not kept", "adagrad", "M w = v[i] + g * g;\n    v[i] = w;", "M w = v[i] + g * g;"),
    Mutant("Adam without the correction of v", "adam", "spread = M(sqrt(1 - pow(beta2, scalars[0])));", "spread = M(1);"),
    Mutant("Nadam without the look-ahead", "nadam", "nadam_momentum(t + 1, beta1, psi);\n    rate_of_m",
           "mu;\n    rate_of_m"),
    Mutant("Lion moves by the old moment", "lion", "sign(b1 * m[i] + of_g * g)", "sign(m[i])"),
)  # fmt: skip
