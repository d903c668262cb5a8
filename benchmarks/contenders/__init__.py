"""The contenders: one file per library, written the fastest way that its users would write the job.

A file has a function for each kind of job: `train(job, variant)`, `predict(job, variant)`, `epoch(job,
variant)`. It returns a Program. `steps/` holds `step(kind, variant)`, one training step of any kind, in files
of the same names. Heavy imports are inside the functions, so that a contender's process loads only its own
library.
"""

from importlib import import_module
from typing import NamedTuple


class UnsupportedError(Exception):
    """The library cannot do this job; the message is the reason."""


class Program:
    """A prepared job.

    Args:
        launch: does the job `steps` times and returns a handle on the result: the outputs, or the loss before
        the last
            update.
        wait: blocks until that result and all earlier launches are complete.
        to_host: handle → NumPy array.
    """

    def __init__(self, launch, wait=lambda result: None, to_host=lambda result: result, steps=1):
        self.launch, self.wait, self.to_host, self.steps = launch, wait, to_host, steps
        self.latest = None

    def run(self, launches):
        """Launch the job this many times, then wait once."""
        launch = self.launch
        for _ in range(launches):
            latest = launch()
        self.wait(latest)
        self.latest = latest

    @property
    def value(self):
        return self.to_host(self.latest)


class Contender(NamedTuple):
    """A library: package, file in this folder, variant, devices, kinds of job; `ours` marks ffnn_gpu."""

    package: str
    file: str
    variant: str
    devices: tuple
    kinds: tuple
    ours: bool = False


CPU, GPU, BOTH = ("cpu",), ("cuda",), ("cpu", "cuda")
STEPS, ALL = ("train", "predict"), ("train", "predict", "epoch")
KINDS = "step"  # of any kind in benchmarks/kinds.py
CONTENDERS = {
    "ours": Contender("ffnn_gpu", "ours", "eager", BOTH, (*ALL, KINDS), ours=True),
    "ours-graph": Contender("ffnn_gpu", "ours", "graph", GPU, STEPS, ours=True),
    "ours-predict": Contender("ffnn_gpu", "ours", "checked", BOTH, ("predict",), ours=True),
    "ours-checking": Contender("ffnn_gpu", "ours", "checking", CPU, (KINDS,), ours=True),
    "numpy": Contender("numpy", "plain", "numpy", CPU, (*STEPS, KINDS)),
    "cupy": Contender("cupy", "plain", "cupy", GPU, STEPS),
    "torch": Contender("torch", "torch_", "eager", BOTH, ALL),
    "torch-fused": Contender("torch", "torch_", "fused", BOTH, ("train", "epoch", KINDS)),
    "torch-compile": Contender("torch", "torch_", "compile", BOTH, (*ALL, KINDS)),
    "torch-graph": Contender("torch", "torch_", "graph", GPU, ALL),
    "jax": Contender("jax", "jax_", "jit", BOTH, (*ALL, KINDS)),
    "jax-scan": Contender("jax", "jax_", "scan", CPU, ("train",)),
    "sklearn": Contender("sklearn", "sklearn_", "", CPU, ALL),
    "keras": Contender("keras", "keras_", "", CPU, ALL),
    "onnxruntime": Contender("onnxruntime", "onnxruntime_", "", CPU, ("predict",)),
}
PRODUCTS = {
    "cpu": Contender("numpy", "products", "numpy", CPU, ("train", "limits")),
    "cuda": Contender("nvmath", "products", "cublaslt", GPU, ("train", "limits")),
}


def contenders(device, kind):
    """Return name → Contender for this kind of job on this device; `products` is a bound, not a peer."""
    found = {name: c for name, c in CONTENDERS.items() if device in c.devices and kind in c.kinds}
    ceiling = PRODUCTS[device]
    return found | ({"products": ceiling} if kind in ceiling.kinds else {})


def program(name, job):
    """Return the Program of contender `name`. Raises UnsupportedError and the exceptions of its library."""
    contender = contenders(job.device, job.kind)[name]
    return work(contender, job.kind)(job, contender.variant)


def work(contender, kind):
    """Return the function of this contender's file that prepares this kind of job."""
    folder = "benchmarks.contenders.steps" if kind == KINDS else "benchmarks.contenders"
    return getattr(import_module(f"{folder}.{contender.file}"), kind)
