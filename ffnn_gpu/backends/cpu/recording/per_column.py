"""Operations with one parameter per column as commands."""

from typing import Any

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cpu.loops import formulas
from ffnn_gpu.backends.cpu.recording.arguments import checked
from ffnn_gpu.backends.cpu.recording.commands import Commands, loop_of


class PerColumnOperations(Commands):
    """The product with a gain, the parametric activation, and their adjoints."""

    @checked(x="BI", gain="I", out="BI!")
    def scale_columns(self, x: Array, gain: Array, out: Array) -> Array:
        loop = formulas.elementwise(self.dtype, "scale columns")
        self._apply(loop, *x.shape, x=x, gain=gain, out=out)
        return out

    @checked(apart=True, da="BI!", x="BI", gain="I", dgain="I!", dx="BI!?")
    def scale_columns_backward(
        self, da: Array, x: Array, gain: Array, dgain: Array, dx: Array | None
    ) -> Array | None:
        if dx is not None:
            self.scale_columns(da, gain, out=dx)
        loop = formulas.elementwise(self.dtype, "multiply")
        self._apply(loop, 1, da.size, x=da, y=x, out=da)
        self._record("column_sum", self.partition.by_columns(da), da, dgain, *da.shape)
        return dx

    @checked(x="BI", alpha="I", out="BI!")
    def parametric(self, x: Array, alpha: Array, phi: Any, out: Array) -> Array:
        loop = loop_of(formulas.parametric, self.dtype, phi.value)
        if loop is None:
            self._fallback("parametric", x, alpha, phi, out)
        else:
            self._apply(loop, *x.shape, x=x, alpha=alpha, out=out)
        return out

    @checked(apart=True, da="BI!", x="BI", alpha="I", dalpha="I!", dx="BI!?")
    def parametric_backward(
        self, da: Array, x: Array, alpha: Array, phi: Any, dalpha: Array, dx: Array | None
    ) -> Array | None:
        key = self.dtype, phi.value, phi.derivative, phi.needs_input, dx is not None
        loop = loop_of(formulas.parametric_adjoint, *key)
        if loop is None:
            self._fallback("parametric_backward", da, x, alpha, phi, dalpha, dx)
        else:
            self._apply(loop, *x.shape, da=da, x=x, alpha=alpha, dx=dx)
            self._record("column_sum", self.partition.by_columns(da), da, dalpha, *da.shape)
        return dx
