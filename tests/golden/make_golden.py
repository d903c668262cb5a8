"""Write the golden vectors beside this file: values and derivatives from PyTorch's autograd in float64.

    python tests/golden/make_golden.py      rewrites all files; needs PyTorch; review the diff

The tests read the stored JSON and need no PyTorch. Where PyTorch is installed, `tests/test_golden.py`
computes all of it again. Every file contains the version of PyTorch that made it. Random inputs come from
NumPy with a fixed seed and are stored with the outputs.
"""

import itertools
import json
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

torch.set_default_dtype(torch.float64)  # NAdam stores its running product in the default type
HERE = Path(__file__).parent
STEPS, TOTAL = 10, 60


def tensor(values, grad=False):
    return torch.tensor(np.asarray(values), dtype=torch.float64, requires_grad=grad)


def lists(**tensors):
    return {name: value.detach().numpy().tolist() for name, value in tensors.items()}


def with_gradient(formula, z):
    """Return (value, ∂ Σ value/∂z) of a formula at z, as lists."""
    z = tensor(z, grad=True)
    value = formula(z)
    value.sum().backward()
    return lists(value=value, slope=z.grad)


ACTIVATIONS = {
    "identity": lambda s: s * 1,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "leaky_relu.with_alpha(0.2)": lambda s: F.leaky_relu(s, 0.2),
    "elu": F.elu,
    "elu.with_alpha(0.5)": lambda s: F.elu(s, 0.5),
    "selu": F.selu,
    "gelu": F.gelu,
    "gelu_tanh": lambda s: F.gelu(s, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "softplus": lambda s: F.softplus(s, threshold=1000),  # the default returns s above 20
    "softsign": F.softsign,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": lambda s: F.relu6(s + 3) / 6,  # the slope of F.hardsigmoid is 1/6 rounded to float32
    "hard_tanh": F.hardtanh,
}


def activations():
    s = np.concatenate(
        [np.linspace(-6.1, 6.2, 24), [-700, -80, -36, -12.5, -1e-3, 1e-8, 1e-3, 12.5, 36, 80, 700]]
    )
    return {"s": s.tolist(), "of": {name: with_gradient(phi, s) for name, phi in ACTIVATIONS.items()}}


def softmax():
    rng = np.random.default_rng(1)
    z, da = 3 * rng.normal(size=(4, 5)), rng.normal(size=(4, 5))
    found = {"z": z.tolist(), "da": da.tolist()}
    for name, formula in {"softmax": F.softmax, "log_softmax": F.log_softmax}.items():
        leaf = tensor(z, grad=True)
        value = formula(leaf, dim=1)
        value.backward(tensor(da))
        found[name] = lists(value=value, dz=leaf.grad)
    jacobian = torch.stack(
        [torch.autograd.functional.jacobian(lambda r: F.softmax(r, dim=0), row) for row in tensor(z)]
    )
    return found | {"jacobian": jacobian.tolist()}


def _mean(per_row, w):
    return per_row.mean() if w is None else (w * per_row).sum() / w.sum()


def _soft(z, y, w, smoothing=0.0, class_weight=None):
    """Return the cross-entropy against distributions: PyTorch's own if there are no sample weights."""
    v = None if class_weight is None else tensor(class_weight)
    rows = F.cross_entropy(z, y, weight=v, label_smoothing=smoothing, reduction="none")
    return F.cross_entropy(z, y, weight=v, label_smoothing=smoothing) if w is None else _mean(rows, w)


def _hard(z, y, w, smoothing=0.0, class_weight=None):
    v = None if class_weight is None else tensor(class_weight)
    if w is None:
        return F.cross_entropy(z, y.long(), weight=v, label_smoothing=smoothing)
    rows = F.cross_entropy(z, y.long(), weight=v, label_smoothing=smoothing, reduction="none")
    return (w * rows).sum() / (w if v is None else w * v[y.long()]).sum()


def _pointwise(formula):
    """Return a loss: reduction="mean" without sample weights, otherwise the weighted mean of its rows."""

    def loss(z, y, w, **options):
        if w is None:
            return formula(z, y, reduction="mean", **options)
        return _mean(formula(z, y, reduction="none", **options).mean(dim=1), w)

    return loss


def _hinge(z, y, reduction):
    margin = torch.clamp(1 - y * z, min=0)
    return margin.mean() if reduction == "mean" else margin


LOSSES = {
    "mean_squared_error": _pointwise(F.mse_loss),
    "mean_absolute_error": _pointwise(F.l1_loss),
    "huber": _pointwise(F.huber_loss),
    "poisson": _pointwise(
        lambda z, y, reduction: F.poisson_nll_loss(z, y, log_input=True, reduction=reduction)
    ),
    "binary_cross_entropy": _pointwise(F.binary_cross_entropy),
    "binary_cross_entropy_with_logits": _pointwise(F.binary_cross_entropy_with_logits),
    "hinge": _pointwise(_hinge),
    "cross_entropy": lambda p, y, w: _mean(-(y * torch.log(p)).sum(dim=1), w),
    "softmax_cross_entropy hard": _hard,
    "softmax_cross_entropy soft": _soft,
}


def _cases():
    """Return tuples (loss, z, y, options) with B = 6 rows."""
    rng = np.random.default_rng(2)
    z, y = 2 * rng.normal(size=(2, 6, 3))
    classes, binary = rng.integers(0, 3, 6), rng.integers(0, 2, (6, 3))
    p, q = rng.uniform(0.02, 0.98, (6, 3)), rng.dirichlet([1, 1, 1], 6)
    hot = np.eye(3)[classes]
    yield from (("mean_squared_error", z, y, {}), ("mean_absolute_error", z, y, {}))
    yield from (("huber", z, y, {"delta": delta}) for delta in (0.3, 1.0, 2.5))
    yield "poisson", z, rng.poisson(3.0, (6, 3)), {}
    yield from (("binary_cross_entropy", p, target, {}) for target in (binary, rng.uniform(size=(6, 3))))
    yield (
        "binary_cross_entropy",
        [[0.0, 1.0], [0.0, 1.0], [1e-9, 1e-20]],
        [[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]],
        {},
    )
    yield from (
        ("binary_cross_entropy_with_logits", z, target, {}) for target in (binary, rng.uniform(size=(6, 3)))
    )
    yield (
        "binary_cross_entropy_with_logits",
        [[1e4, -1e4], [1e4, -1e4], [40, -40]],
        [[1, 0], [0, 1], [0, 1]],
        {},
    )
    yield "hinge", z, 2 * binary - 1, {}
    yield from (("cross_entropy", rng.dirichlet([1, 1, 1], 6), target, {}) for target in (hot, q))
    for options in ({}, {"smoothing": 0.1}, {"class_weight": [0.5, 2.0, 1.25]}):
        yield from (
            ("softmax_cross_entropy hard", z, classes, options),
            ("softmax_cross_entropy soft", z, q, options),
        )
    both = {"smoothing": 0.2, "class_weight": [0.5, 2.0, 1.25]}
    yield from (("softmax_cross_entropy hard", z, classes, both), ("softmax_cross_entropy soft", z, q, both))
    yield "softmax_cross_entropy hard", [[1e4, 0, -1e4], [1e4, 0, -1e4]], [0, 2], {}


def losses():
    found = []
    for name, z, y, options in _cases():
        for weight in (None, np.linspace(0.0, 2.5, len(z))):
            leaf, w = tensor(z, grad=True), None if weight is None else tensor(weight)
            value = LOSSES[name](leaf, tensor(y), w, **options)
            value.backward()
            case = {
                "loss": name,
                "options": options,
                "z": np.asarray(z, float).tolist(),
                "y": np.asarray(y).tolist(),
            }
            found.append(
                case
                | {"weight": None if weight is None else weight.tolist()}
                | lists(value=value, dz=leaf.grad)
            )
    return {"cases": found}


O = torch.optim
# Optimizers of this package → PyTorch's. The decay applies to the matrix only: this package does not decay
# biases.
OPTIMIZERS = {
    "SGD(lr=0.1)": lambda g: O.SGD(g(), lr=0.1),
    "SGD(lr=0.1, l2=0.05)": lambda g: O.SGD(g(0.05), lr=0.1),
    "SGD(lr=0.1, momentum=0.9)": lambda g: O.SGD(g(), lr=0.1, momentum=0.9),
    "SGD(lr=0.1, momentum=0.9, nesterov=True)": lambda g: O.SGD(g(), lr=0.1, momentum=0.9, nesterov=True),
    "SGD(lr=0.1, momentum=0.8, nesterov=True, l2=0.05)": lambda g: O.SGD(
        g(0.05), lr=0.1, momentum=0.8, nesterov=True
    ),
    "RMSprop(lr=0.01)": lambda g: O.RMSprop(g(), lr=0.01),
    "RMSprop(lr=0.01, rho=0.9, eps=1e-3)": lambda g: O.RMSprop(g(), lr=0.01, alpha=0.9, eps=1e-3),
    "RMSprop(lr=0.01, momentum=0.9, l2=0.05)": lambda g: O.RMSprop(g(0.05), lr=0.01, momentum=0.9),
    "Adagrad(lr=0.1)": lambda g: O.Adagrad(g(), lr=0.1),
    "Adagrad(lr=0.1, eps=1e-2, l2=0.05)": lambda g: O.Adagrad(g(0.05), lr=0.1, eps=1e-2),
    "Adam(lr=0.05)": lambda g: O.Adam(g(), lr=0.05),
    "Adam(lr=0.05, beta1=0.8, beta2=0.95, eps=1e-2)": lambda g: O.Adam(
        g(), lr=0.05, betas=(0.8, 0.95), eps=1e-2
    ),
    "Adam(lr=0.05, l2=0.05)": lambda g: O.Adam(g(0.05), lr=0.05),
    "Adam(lr=0.05, weight_decay=0.3)": lambda g: O.AdamW(g(0.3), lr=0.05),
    "AdamW(lr=0.05)": lambda g: O.AdamW(g(0.01), lr=0.05),
    "AdamW(lr=0.05, weight_decay=0.3)": lambda g: O.AdamW(g(0.3), lr=0.05),
    "Nadam(lr=0.05)": lambda g: O.NAdam(g(), lr=0.05),
    "Nadam(lr=0.05, beta1=0.8, beta2=0.95, psi=0.02)": lambda g: O.NAdam(
        g(), lr=0.05, betas=(0.8, 0.95), momentum_decay=0.02
    ),
    "Nadam(lr=0.05, l2=0.05)": lambda g: O.NAdam(g(0.05), lr=0.05),
    "Nadam(lr=0.05, weight_decay=0.3)": lambda g: O.NAdam(g(0.3), lr=0.05, decoupled_weight_decay=True),
}
SCHEDULED = (
    "SGD(lr=0.1, momentum=0.9)",
    "Adam(lr=0.05)",
    "AdamW(lr=0.05, weight_decay=0.3)",
    "Nadam(lr=0.05)",
)


# Factors on the learning rate and on the decay, of the matrix and of the bias.
FACTORS = {"W": (0.5, 2.0), "b": (0.1, 0.5)}
GROUPED = {
    "AdamW(lr=0.05, weight_decay=0.3)": lambda g: O.AdamW(g(0.3), lr=0.05),
    "SGD(lr=0.1, momentum=0.9, l2=0.05)": lambda g: O.SGD(g(0.05), lr=0.1, momentum=0.9),
}


def _ten_steps(make, W, b, gradients, factors, of_W=(1.0, 1.0), of_b=(1.0, 0.0)):
    W, b = tensor(W, grad=True), tensor(b, grad=True)
    rule = make(
        lambda wd=0.0: [
            {"params": [W], "weight_decay": wd * of_W[1]},
            {"params": [b], "weight_decay": wd * of_b[1]},
        ]
    )
    highest, path = rule.param_groups[0]["lr"], []
    for (dW, db), factor in zip(gradients, factors, strict=True):
        for group, own in zip(rule.param_groups, (of_W, of_b), strict=True):
            group["lr"] = highest * factor * own[0]
        W.grad, b.grad = tensor(dW), tensor(db)
        rule.step()
        path.append(lists(W=W, b=b))
    return path


def optimizers():
    rng = np.random.default_rng(3)
    W, b = rng.normal(size=(3, 2)), rng.normal(size=2)
    gradients = [(rng.normal(size=(3, 2)), rng.normal(size=2)) for _ in range(STEPS)]
    ones, falling = [1.0] * STEPS, [1 / (1 + t) for t in range(STEPS)]
    found = {"W": W.tolist(), "b": b.tolist(), "factors": falling}
    found["gradients"] = [{"W": dW.tolist(), "b": db.tolist()} for dW, db in gradients]
    found["of"] = {name: _ten_steps(make, W, b, gradients, ones) for name, make in OPTIMIZERS.items()}
    found["scheduled"] = {name: _ten_steps(OPTIMIZERS[name], W, b, gradients, falling) for name in SCHEDULED}
    found["factors of groups"] = FACTORS
    found["grouped"] = {
        name: _ten_steps(make, W, b, gradients, ones, FACTORS["W"], FACTORS["b"])
        for name, make in GROUPED.items()
    }
    return found


# Settings of Muon of this package → PyTorch's.
MUON = {
    "Muon(lr=0.05, weight_decay=0.3)": {"lr": 0.05, "weight_decay": 0.3},
    "Muon(lr=0.02, momentum=0.8, nesterov=False, weight_decay=0.0)": {
        "lr": 0.02, "weight_decay": 0.0, "momentum": 0.8, "nesterov": False,
    },
}  # fmt: skip


def muon():
    """Ten steps of matrices of every form, in float64: PyTorch rounds to bfloat16, which is switched off."""
    rng = np.random.default_rng(7)
    shapes = (4, 6), (6, 3), (5, 5)
    start = [rng.normal(size=shape) for shape in shapes]
    gradients = [[rng.normal(size=shape) for shape in shapes] for _ in range(STEPS)]
    found = {"W": [W.tolist() for W in start]}
    found |= {"gradients": [[g.tolist() for g in step] for step in gradients], "of": {}}
    rounded, torch.Tensor.bfloat16 = torch.Tensor.bfloat16, lambda x: x.clone()
    for name, settings in MUON.items():
        weights = [tensor(W.T, grad=True) for W in start]  # PyTorch's are (out, in)
        rule, found["of"][name] = O.Muon(weights, **settings), []
        for step in gradients:
            for weight, g in zip(weights, step, strict=True):
                weight.grad = tensor(g.T)
            rule.step()
            found["of"][name].append([weight.detach().numpy().T.tolist() for weight in weights])
    torch.Tensor.bfloat16 = rounded
    return found


S = torch.optim.lr_scheduler
# Schedules of this package → PyTorch's, for a training run of TOTAL steps.
SCHEDULES = {
    "StepDecay(every=10, gamma=0.3)": lambda rule: S.StepLR(rule, step_size=10, gamma=0.3),
    "StepDecay(every=0.25, gamma=0.5)": lambda rule: S.StepLR(rule, step_size=TOTAL // 4, gamma=0.5),
    "Exponential(gamma=0.95, every=1)": lambda rule: S.ExponentialLR(rule, gamma=0.95),
    "Cosine()": lambda rule: S.CosineAnnealingLR(rule, T_max=TOTAL),
    "Cosine(floor=0.1)": lambda rule: S.CosineAnnealingLR(rule, T_max=TOTAL, eta_min=0.1),
    "Cosine(floor=0.1, cycles=3)": lambda rule: S.CosineAnnealingWarmRestarts(
        rule, T_0=TOTAL // 3, eta_min=0.1
    ),
    "OneCycle()": lambda rule: S.OneCycleLR(rule, max_lr=1.0, total_steps=TOTAL, cycle_momentum=False),
    "OneCycle(rise=0.5, start=10.0, end=100.0)": lambda rule: S.OneCycleLR(
        rule,
        max_lr=1.0,
        total_steps=TOTAL,
        pct_start=0.5,
        div_factor=10.0,
        final_div_factor=100.0,
        cycle_momentum=False,
    ),
    "LinearWarmup(warmup=12)": lambda rule: S.LinearLR(rule, start_factor=1 / 12, total_iters=11),
}


def schedules():
    found = {}
    for name, make in SCHEDULES.items():
        rule = torch.optim.SGD([tensor([0.0], grad=True)], lr=1.0)
        scheduler, found[name] = make(rule), []
        for _ in range(TOTAL):
            found[name].append(rule.param_groups[0]["lr"])
            rule.step()
            scheduler.step()
    return {"total": TOTAL, "of": found}


def _norm_case(module, x, da):
    rng = np.random.default_rng(5)
    module.double()
    gain, bias = rng.uniform(0.5, 1.5, x.shape[1]), rng.normal(size=x.shape[1])
    module.weight.data, module.bias.data = tensor(gain), tensor(bias)
    leaf = tensor(x, grad=True)
    out = module(leaf)
    out.backward(tensor(da))
    found = {"x": x.tolist(), "da": da.tolist(), "gain": gain.tolist(), "bias": bias.tolist()}
    return found | lists(out=out, dx=leaf.grad, dgain=module.weight.grad, dbias=module.bias.grad)


def normalization():
    rng = np.random.default_rng(4)
    x, da = 2 * rng.normal(size=(7, 4)) + 1, rng.normal(size=(7, 4))
    constant = x.copy()
    constant[:, 1] = 1e4
    found = {
        "layer_norm": _norm_case(torch.nn.LayerNorm(4), x, da),
        "batch_norm": _norm_case(torch.nn.BatchNorm1d(4), x, da),
        "batch_norm constant column": _norm_case(torch.nn.BatchNorm1d(4), constant, da),
        "layer_norm constant row": _norm_case(
            torch.nn.LayerNorm(4), np.vstack([x[:2], np.full((1, 4), 1e4)]), da[:3]
        ),
    }
    running = torch.nn.BatchNorm1d(4, momentum=0.3).double()
    batches = rng.normal(size=(3, 5, 4)) * [1, 2, 3, 4] + [0, 1, -5, 100]
    for batch in batches:
        running(tensor(batch))
    running.eval()
    found["running"] = {"batches": batches.tolist(), "momentum": 0.3, "x": x.tolist()} | lists(
        mean=running.running_mean, variance=running.running_var, out=running(tensor(x))
    )
    return found


def embedding():
    """Return a case with one column of numbers and two of codes; one category does not occur."""
    rng, levels, widths = np.random.default_rng(7), [4, 3], [2, 3]
    codes = np.array([[0, 2], [3, 1], [3, 2], [0, 0], [1, 2], [3, 2]])
    x, da = np.concatenate([rng.normal(size=(6, 1)), codes], axis=1), rng.normal(size=(6, 6))
    tables = [torch.nn.Embedding(n, d, dtype=torch.float64) for n, d in zip(levels, widths, strict=True)]
    for table in tables:
        table.weight.data = tensor(rng.normal(size=table.weight.shape))
    numbers = tensor(x[:, :1], grad=True)
    rows = [table(torch.tensor(column)) for table, column in zip(tables, codes.T, strict=True)]
    a = torch.cat([numbers, *rows], dim=1)
    a.backward(tensor(da))
    E, dE = (torch.cat([of(table).reshape(-1) for table in tables]) for of in (
        lambda table: table.weight, lambda table: table.weight.grad))  # fmt: skip
    dx = torch.cat([numbers.grad, torch.zeros(6, 2)], dim=1)
    found = {"levels": levels, "widths": widths, "x": x.tolist(), "da": da.tolist()}
    return found | lists(E=E, a=a, dE=dE, dx=dx)


def table_layers():
    """Return a case of each layer for tables: numbers of the layer, a, and the gradients for a given da."""
    rng, turn = np.random.default_rng(11), 2 * np.pi
    x, F = rng.normal(size=(5, 4)), 2
    edges = [[-1.0, -0.25, 0.5, 1.5], [-0.5, 0.75]]

    def periodic(x, w, b, A, c):
        waves = [torch.cos(turn * w[f] * x[:, f : f + 1] + b[f]) for f in range(F)]
        K = w.shape[1]
        return torch.cat([*(z @ A[f * K : (f + 1) * K] + c[f] for f, z in enumerate(waves)), x], dim=1)

    def cosine(x, w, b, gain, bias):
        (F, D), b = gain.shape, b.reshape(w.shape)
        parts = [
            gain[f] * torch.cat([x[:, [f]], torch.cos(turn * (w[f] * x[:, [f]] + b[f]))], dim=1)
            + bias[f * D : (f + 1) * D]
            for f in range(F)
        ]
        return torch.cat([*parts, x[:, F:]], dim=1)

    def piecewise_linear(x, w, c, V):
        D, parts, T = V.shape[1], [], max(map(len, edges)) - 1
        for f, ends in enumerate(edges):
            e = w[f * D : (f + 1) * D] * x[:, [f]] + c[f * D : (f + 1) * D]
            for t, (low, high) in enumerate(itertools.pairwise(ends)):
                part = (x[:, [f]] - low) / (high - low)
                part = part if t == 0 else part.clamp(min=0)
                part = part if t == len(ends) - 2 else part.clamp(max=1)
                e = e + part * V[f * T + t]
            parts.append(e)
        return torch.cat([*parts, x[:, F:]], dim=1)

    def parametric(x, alpha):
        return x + alpha * (torch.nn.Mish()(x) - x)

    shapes = {
        "Scale": (lambda x, gain: x * gain, {"gain": (4,)}),
        "ParametricActivation": (parametric, {"alpha": (4,)}),
        "NTKDense": (lambda x, W, b: x @ W / 4**0.5 + b, {"W": (4, 3), "b": (3,)}),
        "PeriodicEmbedding": (periodic, {"w": (2, 5), "b": (2, 5), "A": (10, 3), "c": (2, 3)}),
        "CosineEmbedding": (cosine, {"w": (2, 3), "b": (6,), "gain": (2, 4), "bias": (8,)}),
        "PiecewiseLinearEmbedding": (piecewise_linear, {"w": (6,), "c": (6,), "V": (6, 3)}),
    }
    found = {"x": x.tolist(), "edges": edges}
    for name, (formula, of_layer) in shapes.items():
        inputs, numbers = (
            tensor(x, grad=True),
            {key: tensor(rng.normal(size=s), grad=True) for key, s in of_layer.items()},
        )
        a = formula(inputs, **numbers)
        da = rng.normal(size=a.shape)
        a.backward(tensor(da))
        gradients = {f"d{key}": value.grad for key, value in numbers.items()}
        found[name] = {"da": da.tolist()} | lists(a=a, dx=inputs.grad, **numbers, **gradients)
    return found


def network():
    """Return the case of a whole network.

    tanh, batch norm, gelu inside a residual with layer norm, relu, softmax cross-entropy.
    """
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(5, 3)), rng.integers(0, 3, 5)
    shapes = {
        "0.W": (3, 4), "0.b": (4,), "1.gain": (4,), "1.bias": (4,),
        "2.layers.0.gain": (4,), "2.layers.0.bias": (4,), "2.layers.1.W": (4, 6), "2.layers.1.b": (6,),
        "2.layers.2.W": (6, 4), "2.layers.2.b": (4,), "3.W": (4, 5), "3.b": (5,), "4.W": (5, 3), "4.b": (3,),
    }  # fmt: skip
    values = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    p, leaf = {name: tensor(value, grad=True) for name, value in values.items()}, tensor(x, grad=True)
    h = torch.tanh(leaf @ p["0.W"] + p["0.b"])
    h = F.batch_norm(h, None, None, p["1.gain"], p["1.bias"], training=True)
    f = F.layer_norm(h, (4,), p["2.layers.0.gain"], p["2.layers.0.bias"])
    h = h + F.gelu(f @ p["2.layers.1.W"] + p["2.layers.1.b"]) @ p["2.layers.2.W"] + p["2.layers.2.b"]
    z = F.relu(h @ p["3.W"] + p["3.b"]) @ p["4.W"] + p["4.b"]
    loss = F.cross_entropy(z, torch.tensor(y))
    loss.backward()
    found = {
        "x": x.tolist(),
        "y": y.tolist(),
        "theta": {name: value.tolist() for name, value in values.items()},
    }
    found["gradients"] = lists(**{name: value.grad for name, value in p.items()}, x=leaf.grad)
    return found | lists(z=z, loss=loss)


class _Residual(torch.nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = torch.nn.Sequential(*layers)

    def forward(self, x):
        return x + self.layers(x)


class _Embeddings(torch.nn.Module):
    """Replace the codes in the last columns of x by rows of tables."""

    def __init__(self, *shapes):
        super().__init__()
        self.embeddings = torch.nn.ModuleList(torch.nn.Embedding(*shape) for shape in shapes)

    def forward(self, x):
        numbers = x.shape[1] - len(self.embeddings)
        codes = x[:, numbers:].long().T
        rows = [table(column) for table, column in zip(self.embeddings, codes, strict=True)]
        return torch.cat([x[:, :numbers], *rows], dim=1)


def state_dict():
    """Return the state_dict and the outputs of a module with every layer that has weights."""
    N = torch.nn
    torch.manual_seed(0)
    rng = np.random.default_rng(8)
    module = N.Sequential(
        _Embeddings((4, 2), (3, 5)),
        N.Linear(9, 6), N.ReLU(),
        N.BatchNorm1d(6, eps=1e-3),
        N.Dropout(0.5),
        _Residual(N.LayerNorm(6), N.Linear(6, 4), N.GELU(), N.Linear(4, 6, bias=False)),
        N.Linear(6, 3),
        N.Softmax(dim=1),
    )  # fmt: skip
    x = np.concatenate([rng.normal(size=(20, 2)), rng.integers(0, [4, 3], (20, 2))], axis=1)
    for _ in range(3):  # of these, BatchNorm1d takes its running statistics
        module(tensor(x))
    module.eval()
    weights = {name: value.tolist() for name, value in module.state_dict().items()}
    return {"x": x.tolist(), "weights": weights} | lists(out=module(tensor(x)))


GROUPS = {
    "activations": activations, "softmax": softmax, "losses": losses, "optimizers": optimizers, "muon": muon,
    "schedules": schedules, "normalization": normalization, "embedding": embedding,
    "table_layers": table_layers, "network": network, "state_dict": state_dict,
}  # fmt: skip


def main():
    for name, make in GROUPS.items():
        found = {"made_by": f"PyTorch {torch.__version__}, NumPy {np.__version__}"} | make()
        (HERE / f"{name}.json").write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
