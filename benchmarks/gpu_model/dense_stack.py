"""What the kernel of a stack of Dense layers does, from the text of its entry and the rows of a batch.

The counts follow ffnn_gpu/backends/cuda/fused/dense_stack*.cuh: every `multiply_add` is one 16 × 16 by 16 × 8
product, zeros of padded widths and of the last tile included, and every `load_matrices` reads 512 bytes of
shared memory.
"""

import re
from dataclasses import dataclass

STACK = re.compile(r"Stack<(\w+), (\d+), ((?:Layer<[^>]*>(?:, )?)+)>")
LAYER = re.compile(r"Layer<(\d+), (\d+), \w+, \w+, (true|false), (true|false), (true|false)>")
PRODUCT, MATRICES = 2 * 16 * 16 * 8, 512  # FLOP, bytes
# Warp instructions for each product: 4,178 for the 488 of a warp and tile in the machine code for sm_90
# (NVRTC 12.9) of the training step of 64 × 6 with ReLU and softmax cross-entropy in bfloat16.
INSTRUCTIONS = 8.6


@dataclass(frozen=True)
class Work:
    """FLOP by kind, bytes of shared memory, warp instructions, and bytes of sums in memory."""

    flop: dict
    shared: float
    instructions: float
    sums: float = 0.0


NONE = Work({}, 0.0, 0.0)


def work(entry, B):
    """Return the work of a kernel, given the text of its entry. The sums over blocks have no products."""
    if "dense_stack_sums<" in entry:
        return NONE
    kind, warps, text = STACK.search(entry).groups()
    layers = [
        (_padded(int(I)), _padded(int(O)), *(flag == "true" for flag in flags))
        for I, O, *flags in LAYER.findall(text)
    ]
    rows = 16 * int(warps)
    parts = [_forward, *([_backward] if "dense_stack_gradients<" in entry else [])]
    found = [part(layers, int(warps), rows) for part in parts]
    tiles = -(-B // rows)
    products, shared = (tiles * sum(each[n] for each in found) for n in range(2))
    name = {"__half": "float16", "__nv_bfloat16": "bfloat16"}[kind]
    trains = len(parts) == 2
    in_memory = (8 * (I * O + 16 * O) for I, O, *_, in_registers in layers if not in_registers)
    sums = tiles * sum(in_memory) * trains  # read and written
    return Work({f"{name} by mma.sync": products * PRODUCT}, shared, products * INSTRUCTIONS, sums)


def _padded(width):
    return -(-width // 16) * 16


def _forward(layers, warps, rows):
    """Return (products, bytes of shared memory) of a tile."""
    products = sum(warps * I * O / 128 for I, O, *_ in layers)
    shared = 2 * rows * 2 * layers[0][0]  # x is written and read
    shared += products / 2 * MATRICES  # W, by each warp
    return products, shared


def _backward(layers, warps, rows):
    products = shared = 0
    for number, (I, O, of_input, dropout, in_registers) in enumerate(layers):
        keeps = of_input or dropout
        last = number == len(layers) - 1
        shared += rows * O * 2 * ((not last) + keeps)  # a, and what the layer keeps for φ′, are written
        shared += rows * O * 2 * (1 + (keeps or not last))  # δ is written; φ′ reads one of them
        parts, across = I // 16 * (O // 16), O // 16
        each = -(-parts // warps)  # of a warp
        if not in_registers:
            each = next(n for n in range(8, 0, -1) if each % n == 0)
        products += rows / 16 * (2 * parts + O / 8)
        shared += rows / 16 * MATRICES * (parts + (parts if across % each else parts / each) + O / 16)
        if number:
            products += warps * I * O / 128  # δ Wᵀ
            shared += warps * I * O / 256 * MATRICES
    return products, shared
