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

    @checked(apart=True, x="BI", w="FK", b="P", gain="FD", bias="Q", out="BO!")
    def cosines(self, x: Array, w: Array, b: Array, gain: Array, bias: Array, out: Array) -> Array:
        _require_fit(b, w, out, gain.size + x.shape[1] - len(w))
        if bias.size != gain.size:
            raise NotRecordedError(f"bias has shape {bias.shape}")
        chunks = self.partition.chunks(WAVE * len(x) * w.size, len(x))
        self._record("cosines", chunks, x, w, b, gain, bias, out, *x.shape, *w.shape)
        return out

    @checked(apart=True, da="BO", x="BI", w="FK", b="P", gain="FD", dw="FK!", db="P!", dgain="FD!",
             dbias="Q!", dx="BI!?")  # fmt: skip
    def cosines_backward(
        self,
        da: Array,
        x: Array,
        w: Array,
        b: Array,
        gain: Array,
        dw: Array,
        db: Array,
        dgain: Array,
        dbias: Array,
        dx: Array | None,
    ) -> Array | None:
        _require_fit(b, w, da, gain.size + x.shape[1] - len(w))
        if dbias.size != gain.size:
            raise NotRecordedError(f"dbias has shape {dbias.shape}")
        chunks = self.partition.chunks(2 * WAVE * len(x) * w.size, len(w))
        operands = da, x, w, b, gain, dw, db, dgain, dbias, dx
        self._record("cosines_backward", chunks, *operands, *x.shape, *w.shape)
        return dx


def _require_fit(of_waves: Array, w: Array, outer: Array, width: int) -> None:
    """Raise NotRecordedError unless an array has a row for each wave, and the output this width."""
    require_numbers(outer)
    if len(of_waves) != w.size or outer.shape[1] != width:
        raise NotRecordedError(f"{w.size} waves have arrays {of_waves.shape}, and the output {outer.shape}")
