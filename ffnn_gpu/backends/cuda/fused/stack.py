"""The shape of a stack of Dense layers, the text of its kernels, and the memory that they need.

What fits: layers at most WIDEST wide in bfloat16 or float16 whose parameters and activations of a tile fit
the shared memory of a block. Everything that the kernel unrolls is in the shape, so each shape is compiled.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ffnn_gpu.backends.cuda import formulas
from ffnn_gpu.backends.cuda.kernels import CTYPE, THREADS, WARP, Generated
from ffnn_gpu.backends.elementwise.cuda_function import FunctionObject

WIDEST, WIDEST_INPUT = 128, 256
MOST_LAYERS = 16  # each has four pointers among a kernel's parameters
STATIC = 1024  # bytes of shared memory of the sum of the loss over the grid, and some to spare
GAP = 8  # elements between rows in shared memory, as in dense_stack.cuh
WARPS = 8, 4  # of a block; fewer have less of a tile in shared memory
# Registers of a thread for sums over tiles, beside layers of up to this width: more would spill.
REGISTERS_FOR_SUMS = {64: 112, 128: 88}
FILES = tuple(
    Path(__file__).with_name(f"{name}.cuh")
    for name in ("matrices", "dense_stack", "dropout", "losses", "dense_stack_gradients", "dense_stack_sums")
)


class DenseLayer(NamedTuple):
    """One layer: inputs, outputs, φ and φ′ as function objects.

    of_input: whether φ′ reads the pre-activation. dropout: whether a mask multiplies the output.
    """

    I: int
    O: int
    phi: FunctionObject
    slope: FunctionObject
    of_input: bool
    dropout: bool

    @property
    def padded(self) -> tuple[int, int]:
        return _padded(self.I), _padded(self.O)

    def sums(self, warps: int) -> int:
        """Return the number of float4 in which a thread sums its gradients."""
        I, O = self.padded
        return 2 * -(-(I // 16 * (O // 16)) // warps) + -(-(O // 8) // warps)

    def text(self, in_registers: bool) -> str:
        flags = ", ".join(str(flag).lower() for flag in (self.of_input, self.dropout, in_registers))
        return f"Layer<{self.I}, {self.O}, {self.phi.name}, {self.slope.name}, {flags}>"


SAME, ONE = FunctionObject("Same", ""), FunctionObject("One", "")


def dense_layer(I: int, O: int, phi: Any, dropout: bool = False) -> DenseLayer:
    """Return a layer of this activation. Raises NoKernelError if its formula has no kernel."""
    if phi.name == "identity":
        return DenseLayer(I, O, SAME, ONE, False, dropout)
    functions = formulas.function(phi.value), formulas.function(phi.derivative)
    return DenseLayer(I, O, *functions, phi.needs_input, dropout)


class StackLoss(NamedTuple):
    """A loss as a type of dense_stack_gradients.cuh: its text, its function objects, the type of targets."""

    text: str
    functions: tuple[FunctionObject, ...]
    targets: str


CROSS_ENTROPY = StackLoss("CrossEntropyOfLabels<false>", (), "int")
WEIGHTED_CROSS_ENTROPY = StackLoss("CrossEntropyOfLabels<true>", (), "int")  # with weights of classes


def pointwise_loss(kind: Any) -> StackLoss:
    """Return a loss that is a formula. Raises NoKernelError if it has no kernel."""
    both = formulas.function(kind.value, 2), formulas.function(kind.derivative, 2)
    return StackLoss(f"PointwiseLoss<{both[0].name}, {both[1].name}>", both, "float")


@dataclass(frozen=True)
class Stack:
    """Layers of one 16-bit type, and for a training step their loss.

    most_shared: bytes of shared memory that a block of the device may have.
    """

    S: str
    layers: tuple[DenseLayer, ...]
    loss: StackLoss | None
    most_shared: int

    @cached_property
    def warps(self) -> int:
        """The number of warps of a block, 0 if the stack does not fit."""
        fitting = (warps for warps in WARPS if self._shared(warps) + STATIC <= self.most_shared)
        return next(fitting, 0)

    @property
    def rows(self) -> int:
        """The number of rows of a tile."""
        return 16 * self.warps

    @property
    def shared(self) -> int:
        """The bytes of shared memory of a block."""
        return self._shared(self.warps)

    def _shared(self, warps: int) -> int:
        parameters = sum(I * (O + GAP) + O for I, O in (layer.padded for layer in self.layers))
        columns = self.layers[0].padded[0] + GAP
        if self.loss is not None:
            kept = [layer.of_input or layer.dropout for layer in self.layers]
            columns += sum(
                (layer.padded[1] + GAP) * (1 + keeps) for layer, keeps in zip(self.layers, kept, strict=True)
            )
        return 2 * (parameters + 16 * warps * columns)

    @cached_property
    def sums(self) -> int:
        """The number of float4 in which a thread sums gradients."""
        return sum(layer.sums(self.warps) for layer in self.layers)

    @property
    def in_registers(self) -> list[bool]:
        """Whether each layer's sums are in registers: of the largest ones first, as many as there is room."""
        widest = max(layer.padded[1] for layer in self.layers)
        left = next(most for width, most in REGISTERS_FOR_SUMS.items() if width >= widest)
        found = [False] * len(self.layers)
        for number in sorted(range(len(found)), key=lambda n: -self.layers[n].sums(self.warps)):
            needed = 4 * self.layers[number].sums(self.warps)
            if needed <= left:
                found[number], left = True, left - needed
        return found

    # ------------------------------------------------------------------ text

    @property
    def prediction(self) -> Generated:
        """The kernel z = a_n."""
        T = CTYPE[self.S]
        call = f"dense_stack<{self._type}>(x, z, B, arrays)"
        return self._entry("dense_stack", f"const {T}* x, {T}* z, int B", call, f"const {T}", "W", "b")

    @property
    def gradients(self) -> Generated:
        """The kernel of the loss, and of each block's sums of gradients."""
        assert self.loss is not None
        T = CTYPE[self.S]
        parameters = (
            f"const {T}* x, const {self.loss.targets}* y, const float* w, const float* v, float smoothing, "
            "const double* total, const double* share, const double* scale, float* value, double* partial, "
            f"unsigned* finished, double* sums, int B{self._dropout_parameters}"
        )
        call = (
            f"dense_stack_gradients<{self._type}>(x, {self.loss.text}{{y, w, v, smoothing}}, "
            f"Factors{{total, share, scale}}, {self._random}, value, partial, finished, "
            "reinterpret_cast<float*>(sums), B, arrays)"
        )
        return self._entry("dense_stack_gradients", parameters, call, f"const {T}", "W", "b")

    @property
    def gradient_sums(self) -> Generated:
        """The kernel of the sums over blocks."""
        call = f"dense_stack_sums<{self._type}>(reinterpret_cast<const float*>(sums), blocks, arrays)"
        return self._entry("dense_stack_sums", "const double* sums, int blocks", call, "float", "dW", "db")

    @property
    def _dropout_parameters(self) -> str:
        numbers = [number for number, layer in enumerate(self.layers) if layer.dropout]
        each = (
            f", unsigned layer{n}, unsigned threshold{n}, float scale{n}, double rate{n}, "
            f"const double* factor{n}"
            for n in numbers
        )
        of_all = ", const Index* step, unsigned seed_low, unsigned seed_high, unsigned row" if numbers else ""
        return "".join([of_all, *each])

    @property
    def _random(self) -> str:
        if not self._dropout_parameters:
            return "Random{}"
        return "Random{step, seed_low, seed_high, row, dropouts}"

    @property
    def _dropouts(self) -> str:
        """The line that makes the layers' dropouts from the parameters."""
        if not self._dropout_parameters:
            return ""
        each = (
            f"dropout(layer{n}, threshold{n}, scale{n}, rate{n}, factor{n})" if layer.dropout else "Dropout{}"
            for n, layer in enumerate(self.layers)
        )
        return f"const Dropout dropouts[] = {{{', '.join(each)}}};\n  "

    @property
    def _type(self) -> str:
        both = zip(self.layers, self.in_registers, strict=True)
        layers = ", ".join(layer.text(in_registers) for layer, in_registers in both)
        return f"Stack<{CTYPE[self.S]}, {self.warps}, {layers}>"

    def _entry(self, template: str, parameters: str, call: str, kind: str, *arrays: str) -> Generated:
        """Return the kernel of a template whose last parameters are arrays of each layer."""
        names = [f"{name}{layer}" for layer in range(len(self.layers)) for name in arrays]
        declared = ", ".join([parameters, *(f"{kind}* {name}" for name in names)])
        threads = THREADS if template == "dense_stack_sums" else WARP * self.warps
        dropouts = self._dropouts if "dropouts" in call else ""
        body = f"{dropouts}{kind}* const arrays[] = {{{', '.join(names)}}};\n  {call};"
        widths = "_".join(map(str, (self.layers[0].I, *(layer.O for layer in self.layers))))
        digits = hashlib.sha256(f"{declared}{body}".encode()).hexdigest()[:8]
        name = f"{template}_{widths}_{digits}_{self.S}"
        head = f'extern "C" __global__ void __launch_bounds__({threads}, 1) {name}({declared})'
        functions = [f for layer in self.layers for f in (layer.phi, layer.slope)]
        functions += () if self.loss is None else self.loss.functions
        return Generated(name, tuple(f.text for f in functions), f"{head} {{\n  {body}\n}}\n", FILES)


def _padded(width: int) -> int:
    return -(-width // 16) * 16
