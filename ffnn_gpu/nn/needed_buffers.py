"""Which buffers a pass needs: no masks for inference, and no gradient that nobody reads."""

from typing import Any

from ffnn_gpu.nn.parameters import Shapes


def needed(
    shapes: list[Shapes], parameters: list[Shapes], training: bool, reads_dx: bool
) -> tuple[list[Shapes], bool]:
    """Return (shapes of the buffers that a pass needs, else None; whether one of the layers learns)."""
    found: list[Shapes] = []
    for layer, learnt in zip(shapes, parameters, strict=True):
        kept: dict[str, Any] = {}
        learns = any(name != "layers" for name in learnt)
        for name, shape in layer.items():
            if name == "layers" and isinstance(shape, tuple):  # they lie side by side, and all read x
                each = [
                    needed([s], [p], training, reads_dx) for s, p in zip(shape, learnt[name], strict=True)
                ]
                kept[name], learns = [buffers for (buffers,), _ in each], any(learns for _, learns in each)
            elif name == "layers":
                kept[name], learns = needed(shape, learnt[name], training, reads_dx)
            else:
                kept[name] = shape if name == "a" or (training and (name != "dx" or reads_dx)) else None
        found.append(kept)
        reads_dx = reads_dx or learns
    return found, reads_dx
