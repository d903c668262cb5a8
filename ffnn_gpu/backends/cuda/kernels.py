"""Compile the kernels of one device, and launch them with suitable grids.

Why no argument of a launch is a plain Python number: CuPy passes an int as 8 bytes and a float as a double
whatever the kernel declares, and drops a None argument instead of passing a null pointer. So callers pass
NumPy scalars of the declared type, and None becomes NULL here.

Why the members of a pack get a table: their launches differ in addresses and in a few numbers. One launch
over all members reads the differences from device memory, so every kernel of kernels.cu and formulas.cuh
serves packs as it is. Those of fused/ serve single networks.
"""

import functools
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ffnn_gpu.backends.cuda.launches import Collected, Launch, differences
from ffnn_gpu.backends.cuda.scratch import Scratch
from ffnn_gpu.backends.reference.backend import Backend

ARITHMETIC, FORMULAS, KERNELS = (
    Path(__file__).with_name(name) for name in ("arithmetic.cuh", "formulas.cuh", "kernels.cu")
)
OPTIONS = ("--std=c++17",)
THREADS, WARP = 256, 32  # per block, as kernels.cu declares
ROWS_PER_BLOCK = THREADS // WARP
DYNAMIC_SHARED = 48 * 1024  # bytes of dynamic shared memory that a kernel has without asking
NULL = np.uint64(0)  # a pointer to nothing
OF_MEMBERS = "-DOF_MEMBERS"  # kernels that are launched for all members of a pack
SUFFIX = {"float32": "f32", "float64": "f64", "float16": "f16", "bfloat16": "bf16"}
CTYPE = {"f32": "float", "f64": "double", "f16": "__half", "bf16": "__nv_bfloat16"}  # of a suffix


class Generated(NamedTuple):
    """A kernel of a formula, compiled at its first launch.

    Attributes:
        name: of the entry; it ends in the suffix of the type.
        functions: the texts of its function objects.
        entry: the text that makes the entry from a template of `files`.
        files: the text before the functions, after arithmetic.cuh.
    """

    name: str
    functions: tuple[str, ...]
    entry: str
    files: tuple[Path, ...] = (FORMULAS,)


class NoKernelError(Exception):
    """No kernel computes an operation for these arguments. The reference's method does."""


def or_reference(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Return the operation that runs the reference's method of the same name if it raises NoKernelError."""
    reference = getattr(Backend, operation.__name__)

    @functools.wraps(operation)
    def run(self: Any, *args: Any, **named: Any) -> Any:
        with suppress(NoKernelError):
            return operation(self, *args, **named)
        return reference(self, *args, **named)

    return run


def source(*files: Path) -> str:
    """Return one text of several files."""
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def generated(kernels: Sequence[Generated]) -> str:
    """Return the text that follows formulas.cuh for these kernels."""
    functions = dict.fromkeys(text for kernel in kernels for text in kernel.functions)
    return "".join([*functions, *(kernel.entry for kernel in kernels)])


# Entries, and lines that make several: `only` leaves out all but one.
ENTRY = re.compile(r"^(?:KERNEL|KERNEL_32_64)\((\w+),.*?\)\)\n", re.S | re.M)
OTHER_ENTRIES = re.compile(r"^(?:IF_16_BIT\()?GATHERS?\(.*\n", re.M)


def only(code: str, name: str) -> str:
    """Return the text of kernels.cu with the entries of one kernel alone."""
    code = ENTRY.sub(lambda entry: entry[0] if entry[1] == name else "", code)
    return OTHER_ENTRIES.sub("", code)


class Kernels(Scratch):
    """All kernels for the array module `xp`, on the device that is current at each call.

    Attributes:
        most_blocks: of a kernel over elements or rows; enough to fill any GPU several times.
        most_partials: the most blocks of a kernel that sums over its whole grid.
        slab_rows: the fewest rows in a slab, the unit into which the rows of a column sum are split.
        column_blocks: the approximate number of blocks of a column sum; each sums 32 columns of one slab.
    """

    most_blocks = 4096
    most_partials = 2048
    slab_rows = 128
    column_blocks = 1024

    def __init__(self, xp: Any) -> None:
        super().__init__(xp)
        self._modules: dict[str, Any] = {}
        self._functions: dict[str, Any] = {}
        self._of_members: dict[str, Any] = {}

    def each(self, kernel: str | Generated, n: int, *arguments: Any) -> None:
        """Launch a kernel over n elements; do nothing if n is 0."""
        self._launch(kernel, (min(-(-n // THREADS), self.most_blocks),), (THREADS,), arguments)

    def rows(self, name: str, B: int, *arguments: Any) -> None:
        """Launch a kernel with one warp per row; do nothing if there are no rows."""
        self._launch(name, (min(-(-B // ROWS_PER_BLOCK), self.most_blocks),), (THREADS,), arguments)

    def total(self, kernel: str | Generated, n: int, *arguments: Any, rows: bool = False) -> None:
        """Launch a kernel that sums over n elements or, by a warp each, `rows`; even for n = 0."""
        blocks = max(1, min(-(-n // (ROWS_PER_BLOCK if rows else THREADS)), self.most_partials))
        self._launch(kernel, (blocks,), (THREADS,), (*arguments, *self.partials()))

    def columns(self, S: str, x: Any, y: Any, centre: Any, first: Any, second: Any, out: Any = None) -> None:
        """Launch column_sums of the matrix x. `first` and `second` are (slabs, O), as split by `slabs`."""
        B, O = x.shape
        slabs, rows = self.slabs(B, O)
        grid, block = (-(-O // WARP), slabs), (WARP, THREADS // WARP)
        arguments = x, y, centre, first, second, out, np.int64(B), np.int32(O), np.int32(rows)
        self._launch(f"column_sums_{S}", grid, block, arguments)

    def slabs(self, B: int, O: int) -> tuple[int, int]:
        """Return (number of slabs, rows in each) for a matrix (B, O)."""
        most = max(1, self.column_blocks // max(1, -(-O // WARP)))
        rows = max(self.slab_rows, -(-B // most))
        return max(1, -(-B // rows)), rows

    def blocks(self, kernel: Generated, n: int, threads: int, shared: int, *arguments: Any) -> None:
        """Launch a kernel of n blocks with these bytes of dynamic shared memory each."""
        self._launch(kernel, (n,), (threads,), arguments, shared)

    def partials(self) -> tuple[Any, Any]:
        """Return the last arguments of a kernel that sums over its whole grid."""
        return self.scratch("partial", self.most_partials), self._finished()

    def once(self, name: str, *arguments: Any) -> None:
        """Launch a kernel of one thread."""
        self._launch(name, (1,), (1,), arguments)

    def launch_together(self, collected: Collected, table: Callable[[tuple[int, ...]], Any]) -> None:
        """Launch what was collected, each kernel once for all members.

        table: returns integers on the device, or None; then each member has a launch of its own.
        """
        for same in zip(*collected.launches, strict=True):
            arguments = same[0].arguments
            rows = table(tuple(n for each in same for n in differences(arguments, each.arguments)))
            if rows is None:
                for each in same:
                    self._launch(*each)
            elif min(same[0].grid):
                grid = *(*same[0].grid, 1)[:2], len(same)
                self._function_of_members(same[0])(grid, same[0].block, (*_pointers(arguments), rows))

    def _module_of(self, name: str) -> Any:
        """Return the module of the type in a kernel's name."""
        options = _options(name)
        key = " ".join(options)
        if key not in self._modules:
            self._modules[key] = self._compiled(source(ARITHMETIC, KERNELS), options)
        return self._modules[key]

    def compile(self, *kernels: Generated) -> None:
        """Compile kernels of formulas that are not compiled yet, all together."""
        kernels = tuple(kernel for kernel in kernels if kernel.name not in self._functions)
        if not kernels:
            return
        module = self._module_of_formulas(kernels)
        self._functions |= {kernel.name: module.get_function(kernel.name) for kernel in kernels}

    def _module_of_formulas(self, kernels: Sequence[Generated], *options: str) -> Any:
        narrow = any(kernel.name.endswith(("_f16", "_bf16")) for kernel in kernels)
        files = dict.fromkeys(file for kernel in kernels for file in kernel.files)
        code = source(ARITHMETIC, *files) + generated(kernels)
        return self._compiled(code, [*options, *(["-DWITH_16_BIT"] if narrow else [])])

    def _compiled(self, code: str, options: list[str]) -> Any:
        # CuPy writes the code to a file in the locale's encoding.
        code = code.encode("ascii", "replace").decode()
        return self.xp.RawModule(code=code, options=(*OPTIONS, *options))

    def _launch(
        self,
        kernel: str | Generated,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        arguments: tuple[Any, ...],
        shared: int = 0,
    ) -> None:
        launch = Launch(kernel, grid, block, arguments, shared)
        if self._collected is not None:
            self._collected.append(launch)
            return
        if launch.name not in self._functions:
            if isinstance(kernel, str):
                self._functions[kernel] = self._module_of(kernel).get_function(kernel)
            else:
                self.compile(kernel)
        if min(grid):
            function = self._functions[launch.name]
            if shared > DYNAMIC_SHARED:
                function.max_dynamic_shared_size_bytes = shared
            function(grid, block, _pointers(arguments), **({"shared_mem": shared} if shared else {}))

    def _function_of_members(self, launch: Launch) -> Any:
        """Return the entry of this kernel that is launched for all members of a pack."""
        kernel, name = launch.kernel, launch.name
        if name not in self._of_members:
            if isinstance(kernel, str):
                code = only(source(ARITHMETIC, KERNELS), name.rpartition("_")[0])
                module = self._compiled(code, [OF_MEMBERS, *_options(name)])
            else:
                module = self._module_of_formulas([kernel], OF_MEMBERS)
            self._of_members[name] = module.get_function(name)
        return self._of_members[name]


def _pointers(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(NULL if argument is None else argument for argument in arguments)


def _options(name: str) -> list[str]:
    """Return the options for the type in a kernel's name. Kernels without a type are in all modules."""
    options = ["-DONLY_F64" if name.endswith("_f64") else "-DONLY_F32"]
    return [*options, "-DWITH_16_BIT"] if name.endswith(("_f16", "_bf16")) else options
