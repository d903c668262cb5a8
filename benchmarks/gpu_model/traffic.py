"""What a launch of an own kernel reads and writes, from its parameters in the source and its arguments.

Every pointer is read or written once as a whole: const pointers are read, others are written, and those of
IN_PLACE are read as well. Rereads from a cache are not counted.
"""

import functools
import math
import re
from itertools import chain
from types import MappingProxyType

from benchmarks.gpu_model.dense_stack import NONE, Work, work
from ffnn_gpu.backends.cuda.kernels import ARITHMETIC, FORMULAS, KERNELS, NULL, source
from ffnn_gpu.testing.strict_array import StrictArray

# Parameters that are read before they are overwritten, by kernel or template of kernels.
IN_PLACE = {
    "bias_activation": {"a"}, "activation_backward": {"da"}, "update_rule": {"theta", "m", "v"},
    "advance": {"scalars", "step"}, "blend": {"wide"}, "clip_by_value": {"grad"}, "average": {"mean"},
    "softmax_backward": {"da"}, "gradient_factor": {"loss_scale"}, "advance_product": {"scalars"},
}  # fmt: skip
SCRATCH = ("partial", "finished")  # a few kilobytes
# Warp instructions of softmax_cross_entropy for the rows that a warp computes at a time. 294, 294 and 304
# were counted in the machine code for sm_90 with 2, 8 and 32 lanes for a row (bfloat16, NVRTC 12.9).
# LOSS_ROWS: (most classes, rows at a time); more than 256 classes take as long again for each 256.
LOSS_INSTRUCTIONS, LOSS_ROWS = 300, ((16, 16), (64, 4), (256, 1))
TEMPLATE = re.compile(r"^(BIAS_ACTIVATION|ACTIVATION_BACKWARD|POINTWISE_LOSS|UPDATE_RULE)\((\w+),", re.M)


@functools.cache
def parameters():
    """Return kernel or template → the declarations of its parameters."""
    text = re.sub(r"\\\n", " ", source(ARITHMETIC, FORMULAS, KERNELS))
    common = re.search(r"#define UPDATE_PARAMETERS(.*)", text)[1]
    found = {
        name: declared
        for pattern in (
            r"^KERNEL(?:_32_64)?\((\w+),\s*\((.*?)\),",
            r'extern "C" __global__ void (\w+)\(([^)]*)\)',
            r"#define (\w+)\([^)]*\)\s+FORMULA\(NAME, S, TYPE,\s*\((.*?)\),",
        )
        for name, declared in re.findall(pattern, text, re.M | re.S)
    }
    gather = re.search(r"gather_##FROM##_##TO\(\s*(.*?)\)", text, re.S)[1]
    rule = f"{common}, M* m, M* v, double n0, double n1, double n2, double n3"
    found = {name.lower(): declared for name, declared in found.items()}
    return {name: _split(text) for name, text in (found | {"gather": gather, "update_rule": rule}).items()}


def _split(declared):
    """Return (name, is a pointer, is const) of each parameter. A type stands once for `double a, b`."""
    out, const = [], False
    for each in declared.split(","):
        words = each.replace("*", " * ").split()
        if len(words) > 1 and words[0] != "*":
            const = words[0] == "const"
        out.append((words[-1], "*" in words, const))
    return out


def kernel_of(name, code):
    """Return the key of `parameters` for an entry of this text; the name of an entry of a stack."""
    if name.startswith("dense_stack"):
        return name
    for template, entry in TEMPLATE.findall(code):
        if entry == name:
            return template.lower()
    known = [key for key in parameters() if name == key or name.startswith(f"{key}_")]
    return max(known, key=len)


def accesses_of_members(kernel, arguments, code=""):
    """Return `accesses` of a launch for all members of a pack, whose last argument is their table.

    Members that read the same memory read it once.
    """
    *arguments, table = arguments
    members = table.host.reshape(-1, len(arguments))
    places = [k for k, each in enumerate(arguments) if isinstance(each, StrictArray)]
    found = [
        accesses(kernel, arguments, code, dict(zip(places, row[places].tolist(), strict=True)))
        for row in members
    ]
    reads, writes, moved, done = zip(*found, strict=True)
    shared = set(reads[0]).intersection(*reads[1:]) - set().union(*writes)
    repeated = (len(found) - 1) * sum(end - start for start, end in shared)
    return (
        list(dict.fromkeys(chain.from_iterable(reads))),
        list(dict.fromkeys(chain.from_iterable(writes))),
        sum(moved) - repeated,
        Work({}, 0.0, sum(each.instructions for each in done)),
    )


def accesses(kernel, arguments, code="", offsets=MappingProxyType({})):
    """Return (extents read, extents written, bytes moved, the other work).

    code: the text of the kernel, if it is of a stack.
    offsets: argument's number → bytes from the array to what is accessed.
    """
    entry = re.search(rf"\b{kernel}\((.*?)\) {{.*?\n}}\n", code, re.S) if kernel not in parameters() else None
    declared = parameters()[kernel] if entry is None else _split(entry[1])
    assert len(declared) == len(arguments), (kernel, len(declared), len(arguments))
    named = {name: given for (name, *_), given in zip(declared, arguments, strict=True)}
    reads, writes, moved = [], [], 0
    for k, (name, pointer, const) in enumerate(declared):
        array, by = named[name], offsets.get(k, 0)
        if not pointer or array is NULL:
            continue
        assert isinstance(array, StrictArray), (kernel, name)
        if const or name in IN_PLACE.get(kernel, ()):
            reads.append(extent(array, by))
            moved += (
                named["out"].size * array.itemsize if (kernel, name) == ("gather", "rows") else array.nbytes
            )
        if not const:
            writes.append(extent(array, by))
            moved += 0 if name in SCRATCH else array.nbytes
    if entry is not None:
        done = work(entry[0], int(named["B"])) if "B" in named else NONE
        return reads, writes, moved + done.sums, done
    return reads, writes, moved, Work({}, 0.0, _instructions(kernel, named))


def extent(array, by=0):
    """Return (first address, address after the last byte) of an array with any strides, moved by bytes."""
    start = array.data.ptr + by
    last = sum((n - 1) * abs(stride) for n, stride in zip(array.shape, array.strides, strict=True))
    return start, start + (last + array.itemsize if array.size else 0)


def _instructions(kernel, named):
    if kernel != "softmax_cross_entropy":
        return 0.0
    C, B = int(named["C"]), int(named["B"])
    for most, rows in LOSS_ROWS:
        if most >= C:
            return LOSS_INSTRUCTIONS * B / rows
    return LOSS_INSTRUCTIONS * B * math.ceil(C / LOSS_ROWS[-1][0])
