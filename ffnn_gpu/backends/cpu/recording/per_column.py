"""Operations with one parameter per column as commands."""

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cpu.loops import formulas
from ffnn_gpu.backends.cpu.recording.arguments import checked
from ffnn_gpu.backends.cpu.recording.commands import Commands


class PerColumnOperations(Commands):
    """The product with a gain and its adjoint."""

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
