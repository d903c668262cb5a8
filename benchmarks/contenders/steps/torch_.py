"""PyTorch: eager with the fused optimizer ("fused"), or the whole step through torch.compile ("compile").

An optimizer without fused=True is called with foreach=True. Lion, the absolute penalty and the average of the
weights are written with the functions torch._foreach_*, as PyTorch's own optimizers are. 16-bit types are
autocast with float32 weights; with float16 a GradScaler too.

Why torch.compile in its default mode: with 2 cores, mode="max-autotune" compiles for longer than all rounds.
"""

import contextlib

from benchmarks.contenders import UnsupportedError
from benchmarks.contenders.steps import columns, in_turn, rules
from benchmarks.kinds import LOSS_SCALE, minibatches, real, tables, weights

FUSED, FOREACH = {"fused": True}, {"foreach": True}
OPTIMIZERS = {  # name → class and settings; Lion is not in PyTorch
    "sgd": ("SGD", FUSED), "adagrad": ("Adagrad", FUSED), "adam": ("Adam", FUSED), "adamw": ("AdamW", FUSED),
    "rmsprop": ("RMSprop", FOREACH), "nadam": ("NAdam", FOREACH),
}  # fmt: skip


def step(kind, variant):
    import torch

    if variant == "compile" and kind.precision == "float16":
        raise UnsupportedError("torch.compile cannot compile a step with GradScaler as a whole")
    torch.set_num_threads(kind.threads)
    batches = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in minibatches(kind)]
    training_step = made(kind, variant)
    if variant == "compile":
        torch._inductor.config.compile_threads = 1  # a pool of compiler processes starts for longer
        training_step = torch.compile(training_step, dynamic=False)
    return in_turn(training_step, batches, to_host=lambda value: value.item())


def made(kind, variant):
    """Return the function (x, y) → loss that makes one step."""
    import torch

    network, loss = model(kind), losses()[kind.loss]
    parameters = [*network.parameters()]
    update = updater(kind, network, variant)
    mean = [p.detach().clone() for p in parameters] if "ema" in kind.options else []
    scaler = torch.amp.GradScaler("cpu", init_scale=LOSS_SCALE) if kind.precision == "float16" else None

    def training_step(x, y):
        for p in parameters:
            p.grad = None
        with autocast(kind):
            z = network(x)
        value = loss(z if z.dtype == x.dtype else z.float(), y)
        if scaler is None:
            value.backward()
            limited(kind, parameters)
            update()
        else:
            scaler.scale(value).backward()
            scaler.step(update)
            scaler.update()
        if mean:
            with torch.no_grad():
                torch._foreach_lerp_(mean, parameters, 1 - kind.options["ema"])
        return value.detach()

    return training_step


def limited(kind, parameters):
    """Clip the gradients, and add the absolute penalty's, which no optimizer of PyTorch has."""
    import torch

    options, nn = kind.options, torch.nn.utils
    if "clip_norm" in options:
        nn.clip_grad_norm_(parameters, options["clip_norm"], foreach=True)
    if "clip_value" in options:
        nn.clip_grad_value_(parameters, options["clip_value"], foreach=True)
    if "l1" in options:
        matrices = [p for p in parameters if p.ndim > 1]
        with torch.no_grad():
            torch._foreach_add_(
                [W.grad for W in matrices], torch._foreach_sign(matrices), alpha=options["l1"]
            )


def updater(kind, network, variant):
    """Return what updates the parameters: a function, or the optimizer itself for a GradScaler."""
    import torch

    options = {name: kind.options[name] for name in ("momentum", "nesterov") if name in kind.options}
    parameters = [*network.parameters()]
    if kind.optimizer == "lion":
        return lion(kind, parameters)
    if kind.optimizer == "muon":
        return muon(kind, parameters)
    name, settings = OPTIMIZERS[kind.optimizer]
    if variant == "compile":
        settings = {}  # torch.compile fuses the plain one
    decay, groups = kind.options.get("l2", rules.DECAY.get(kind.optimizer, 0.0)), parameters
    if decay:  # of the matrices alone
        groups = [
            {"params": [p for p in parameters if (p.ndim > 1) is matrices], "weight_decay": decay * matrices}
            for matrices in (True, False)
        ]
    optimizer = getattr(torch.optim, name)(groups, lr=kind.lr, **settings, **options)
    return optimizer if kind.precision == "float16" else optimizer.step


def lion(kind, parameters):
    import torch

    moments = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def update():
        gradients = [p.grad for p in parameters]
        signs = torch._foreach_sign(torch._foreach_lerp(moments, gradients, 1 - rules.BETA1))
        torch._foreach_add_(parameters, signs, alpha=-kind.lr)
        torch._foreach_lerp_(moments, gradients, 0.01)

    return update


def muon(kind, parameters):
    """Return the step of torch.optim.Muon, which computes its products in bfloat16, and of AdamW."""
    import torch

    matrices, vectors = ([p for p in parameters if (p.ndim > 1) is wanted] for wanted in (True, False))
    first = torch.optim.Muon(matrices, lr=kind.lr, weight_decay=rules.DECAY["muon"])
    second = torch.optim.AdamW(vectors, lr=kind.options["adam_lr"], weight_decay=0.0, **FUSED)

    def update():
        first.step()
        second.step()

    return update


def autocast(kind):
    import torch

    if kind.precision not in ("float16", "bfloat16"):
        return contextlib.nullcontext()
    return torch.autocast(kind.device, getattr(torch, kind.precision))


def model(kind):
    import torch

    network = torch.nn.Sequential(*modules(kind.layers, weights(kind), kind.n_in))
    return network.to(getattr(torch, real(kind)))


def modules(layers, values, I):
    """Return the modules of these layers with the common initial weights; I is the width before them."""
    import torch
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, inside):
            super().__init__()
            self.inside = nn.Sequential(*inside)

        def forward(self, x):
            return x + self.inside(x)

    class Average(nn.Module):
        def __init__(self, members):
            super().__init__()
            self.members = nn.ModuleList(members)

        def forward(self, x):
            return sum(member(x) for member in self.members) / len(self.members)

    class OfTable(nn.Module):
        def __init__(self, name, values, arguments):
            super().__init__()
            self.values = nn.ParameterList(map(torch.from_numpy, values))
            self.name, self.arguments = name, arguments

        def forward(self, x):
            return columns.applied(torch, module, self.name, [*self.values], x, *self.arguments)

    def module(name):
        return (lambda x: x) if name == "identity" else activation(name)

    class Embedding(nn.Module):
        def __init__(self, tables):
            super().__init__()
            self.tables = nn.ModuleList(nn.Embedding.from_pretrained(E, freeze=False) for E in tables)

        def forward(self, x):
            numbers, codes = x.tensor_split([x.shape[1] - len(self.tables)], dim=1)
            rows = [table(of) for table, of in zip(self.tables, codes.long().unbind(1), strict=True)]
            return torch.cat([numbers, *rows], dim=1)

    found = []
    for (name, *arguments), arrays in zip(layers, values, strict=True):
        if name == "Dense":
            W, b = map(torch.from_numpy, arrays)
            linear = nn.utils.skip_init(nn.Linear, *W.shape, dtype=W.dtype)
            linear.load_state_dict({"weight": W.T.contiguous(), "bias": b})
            found += [linear, *([] if arguments[1] == "identity" else [activation(arguments[1])])]
            I = arguments[0]
        elif name == "Embedding":
            found.append(Embedding(map(torch.from_numpy, tables(arrays[0], *arguments))))
        elif name in columns.FUNCTIONS:
            found.append(OfTable(name, arrays, arguments))
        elif name == "Residual":
            found.append(Residual(modules(arguments[0], arrays, I)))
        elif name == "Stack":
            found.append(nn.Sequential(*modules(arguments[0], arrays, I)))
        elif name == "Average":
            found.append(Average(modules(arguments[0], arrays, I)))
        elif name == "BatchNorm":
            found.append(nn.BatchNorm1d(I))
        elif name == "LayerNorm":
            found.append(nn.LayerNorm(I))
        else:
            found.append(
                {"Dropout": nn.Dropout, "Softmax": softmax, "LogSoftmax": log_softmax}[name](*arguments)
            )
    return found


def softmax():
    import torch

    return torch.nn.Softmax(dim=1)


def log_softmax():
    import torch

    return torch.nn.LogSoftmax(dim=1)


def activation(name):
    from torch import nn

    names = {
        "relu": "ReLU", "elu": "ELU", "selu": "SELU", "silu": "SiLU", "hard_sigmoid": "Hardsigmoid",
        "hard_tanh": "Hardtanh", "leaky_relu": "LeakyReLU",
    }  # fmt: skip
    if name.startswith("gelu"):
        return nn.GELU(approximate="tanh" if name == "gelu_tanh" else "none")
    return getattr(nn, names.get(name, name.capitalize()))()


def losses():
    """Return name → function (z, y) → the mean."""
    from torch.nn import functional

    return {
        "softmax_cross_entropy": functional.cross_entropy,
        "cross_entropy": lambda p, y: functional.nll_loss(p.clamp_min(1e-12).log(), y),
        "mean_squared_error": functional.mse_loss,
        "mean_absolute_error": functional.l1_loss,
        "huber": functional.huber_loss,
        "poisson": functional.poisson_nll_loss,
        "binary_cross_entropy": functional.binary_cross_entropy,
        "binary_cross_entropy_with_logits": functional.binary_cross_entropy_with_logits,
        "hinge": lambda z, y: (1 - y * z).clamp_min(0).mean(),
    }
