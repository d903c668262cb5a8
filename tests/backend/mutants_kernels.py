"""Mistakes to plant in kernels.cu, as data: with the only `old` replaced by `new`, the check named must fail."""

import re
from dataclasses import dataclass

ENTRY = re.compile(r"^(?:KERNEL|KERNEL_32_64|UPDATE)\((\w+),.*?\)\)\n", re.S | re.M)


@dataclass(frozen=True)
class Mutant:
    """A planted mistake and the one of kernel_checks.CHECKS that must raise; offset as in `Case`."""

    name: str
    check: str
    old: str
    new: str
    offset: int = 0

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
    Mutant("no barrier before the warps' sums are read", "gradient_factor", "  __syncthreads();\n  if (threadIdx.x < WARP)",
           "  if (threadIdx.x < WARP)"),
    Mutant("no barrier before the flag is read", "gradient_factor", "  __syncthreads();\n  if (!last)", "  if (!last)"),
    Mutant("no fence before a block counts itself", "gradient_factor", "    __threadfence();\n    last =", "    last ="),
    Mutant("the first block finishes the sum", "gradient_factor", "== gridDim.x - 1;", "== 0;"),
    Mutant("count of finished blocks stays", "pointwise_loss", "if (threadIdx.x == 0) *finished = 0;", ""),
    Mutant("norm without its root", "gradient_factor", "norm = sqrt(sum) / S", "norm = sum / S"),
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
    Mutant("class weight of the row, not of its label", "softmax_cross_entropy", "widen(v[y[b]])", "widen(v[b % C])"),
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
    Mutant("inference without the mean", "batch_norm", "(widen(x[i]) - widen(mean[c])) * factor", "widen(x[i]) * factor"),
    Mutant("count of updates stands still", "advance", "*step += 1;", ""),
    Mutant("a skipped update is counted", "advance",
           "if (control && control[1] != 0) return;\n  scalars[0]", "scalars[0]"),
    Mutant("a skipped update multiplies its momentum in", "advance",
           "if (control && control[1] != 0) return;\n  scalars[2]", "scalars[2]"),
    Mutant("learning rate not taken", "advance", "if (lr) scalars[1] = *lr;", ""),
    Mutant("bound without the loss scale", "clip_by_value", "loss_scale ? limit * *loss_scale : limit", "limit"),
    Mutant("clipping hides an overflow", "clip_by_value", "if (!loss_scale || is_finite(g)) grad", "grad"),
    Mutant("norm of the scaled gradient", "gradient_factor", "norm = sqrt(sum) / S", "norm = sqrt(sum)"),
    Mutant("factor keeps the loss scale", "gradient_factor", "(norm > limit ? limit / norm : 1) / S;",
           "norm > limit ? limit / norm : 1;"),
    Mutant("tail of the norm missing", "gradient_factor", "    sum += g * g;", ""),
    Mutant("infinity passes for finite", "gradient_factor", "return x - x == A(0);", "return x == x;"),
    Mutant("NaN passes for finite", "gradient_factor", "return x - x == A(0);", "return !(x == A(INF));"),
    Mutant("overflow not told", "gradient_factor", "control[1] = overflow;", "control[1] = 0;"),
    Mutant("loss scale quartered", "gradient_factor", "largest(S / 2, 1.0)", "largest(S / 4, 1.0)"),
    Mutant("loss scale below 1", "gradient_factor", "largest(S / 2, 1.0)", "S / 2"),
    Mutant("loss scale without end", "gradient_factor", "smallest(2 * S, LARGEST_SCALE)", "2 * S"),
    Mutant("good updates counted through an overflow", "gradient_factor", "good = overflow ? 0 : loss_scale[1] + 1;",
           "good = loss_scale[1] + 1;"),
    Mutant("good updates not reset by growth", "gradient_factor", "loss_scale[1] = grown ? 0 : good;",
           "loss_scale[1] = good;"),
    Mutant("average by the wrong share", "average", "widen(mean[i]) + keep * (", "keep * ("),
    Mutant("sign of the penalty", "sgd", "g += u.l1 * sign(x);", "g += u.l1;"),
    Mutant("penalty of the decayed weight", "sgd", "      if (u.l2 != 0) g += u.l2 * x;\n",
           "      x *= kept;\n      if (u.l2 != 0) g += u.l2 * x;\n      x /= kept;\n"),
    Mutant("decay without the rate", "adam", "1 - u.weight_decay * u.scalars[1]", "1 - u.weight_decay"),
    Mutant("decay after the rule", "adam", "      x *= kept;\n    }\n    rule(x, g, p, q);",
           "    }\n    rule(x, g, p, q);\n    if (in_matrix) x *= kept;"),
    Mutant("matrices end one element late", "sgd", "apply(i < u.n_decayed,", "apply(i <= u.n_decayed,"),
    Mutant("matrices end by packs, not elements", "sgd", "apply(k * width < u.n_decayed,", "apply(k < u.n_decayed,"),
    Mutant("a pack half a matrix", "sgd", "u.n_decayed % width ? 0 : packs_in(u.n,", "packs_in(u.n,"),
    Mutant("rule packs without alignment", "adam", "% 16 ? 0 :", "% 4 ? 0 :", offset=1),
    Mutant("factor twice", "adagrad", "g *= c;", "g *= c * c;"),
    Mutant("factor after the penalties", "lion", "    rule(x, g, p, q);", "    g *= c;\n    rule(x, g, p, q);"),
    Mutant("skip ignored", "adam", "if (u.control && u.control[1] != 0) return;", ""),
    Mutant("tail of a rule missing", "adam", "const Index i = packs * width + j;\n    M x",
           "if (packs) break;\n    const Index i = packs * width + j;\n    M x"),
    Mutant("second moment not kept", "adam", "    if (v) pack(v, k) = q;", ""),
    Mutant("Nesterov without the look-ahead", "sgd", "nesterov ? g + momentum * v : v", "v"),
    Mutant("velocity not used", "rmsprop", "x -= lr * (velocity ? b : w);", "x -= lr * w;"),
    Mutant("sum of squares forgets", "adagrad", "q += g * g;", "q = g * g;"),
    Mutant("Adam without the correction of v", "adam", "spread = M(sqrt(1 - pow(beta2, u.scalars[0])));",
           "spread = M(1);"),
    Mutant("Nadam without the look-ahead", "nadam", "nadam_momentum(t + 1, beta1, psi);\n    rate_of_m",
           "mu;\n    rate_of_m"),
    Mutant("16-bit copy of the old θ", "shadow",
           "y.at[i] = Narrow<T>::from(x.at[i]);", "y.at[i] = Narrow<T>::from(pack(u.theta, k).at[i]);"),
    Mutant("16-bit copy without a tail", "shadow", "    if (shadow) shadow[i] = Narrow<T>::from(x);", ""),
    Mutant("Lion moves by the old moment", "lion", "sign(b1 * p + of_g * g)", "sign(p)"),
)  # fmt: skip
