"""Periodic embeddings as commands."""

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cpu.recording.arguments import NotRecordedError, checked
from ffnn_gpu.backends.cpu.recording.commands import Commands, require_numbers

WAVE = 16  # products that take as long as a cosine with its share of the linear map


class PeriodicOperations(Commands):
    """Embeddings of columns of numbers by waves, and their adjoints."""

    @checked(apart=True, x="BI", w="FK", b="FK", A="PD", c="FD", out="BO!")
    def periodic(self, x: Array, w: Array, b: Array, A: Array, c: Array, out: Array) -> Array:
        _require_fit(A, w, out, len(c) * c.shape[1] + x.shape[1])
        sizes = *x.shape, *w.shape, c.shape[1]
        chunks = self.partition.chunks(WAVE * len(x) * w.size, len(x))
        self._record("periodic", chunks, x, w, b, A, c, out, *sizes)
        return out

    @checked(apart=True, da="BO", x="BI", w="FK", b="FK", A="PD", dw="FK!", db="FK!", dA="PD!", dc="FD!",
             dx="BI!?")  # fmt: skip
    def periodic_backward(
        self,
        da: Array,
        x: Array,
        w: Array,
        b: Array,
        A: Array,
        dw: Array,
        db: Array,
        dA: Array,
        dc: Array,
        dx: Array | None,
    ) -> Array | None:
        _require_fit(A, w, da, dc.size + x.shape[1])
        sizes = *x.shape, *w.shape, dc.shape[1]
        chunks = self.partition.chunks(2 * WAVE * len(x) * w.size, len(w))
        self._record("periodic_backward", chunks, da, x, w, b, A, dw, db, dA, dc, dx, *sizes)
        return dx


def _require_fit(A: Array, w: Array, outer: Array, width: int) -> None:
    """Raise NotRecordedError unless A has a row for each wave, and the output this width."""
    require_numbers(outer)
    if len(A) != w.size or outer.shape[1] != width:
        raise NotRecordedError(f"A has shape {A.shape}, and the output {outer.shape}")
