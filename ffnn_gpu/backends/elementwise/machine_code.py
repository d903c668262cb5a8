"""LLVM code → machine code for this processor → addresses.

Why llvmlite alone, and not Numba's compiler around it: Numba takes 0.15 s to import, and it optimizes each
function twice. Vectors are written out here, so fewer passes make code as fast. Milliseconds of processor
time on one thread of an AMD EPYC with AVX-512, from the start of Python to the end of the first Adam step of
784-128-10: without a cache 1900 → 860, with it 430 → 230.
"""

import functools
import os
import platform
import threading
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

X86 = platform.machine() in ("x86_64", "AMD64")
lock = threading.RLock()  # held while code is compiled or loaded
_loaded: set[str] = set()  # names of machine code in the engine


@functools.cache
def processor() -> tuple[str, str]:
    """Return name and features of the processor: this one, or Numba's settings for it."""
    name, features = os.environ.get("NUMBA_CPU_NAME"), os.environ.get("NUMBA_CPU_FEATURES")
    if features is None:
        features = "" if name == "generic" else llvm.get_host_cpu_features().flatten()
    return name or llvm.get_host_cpu_name(), features


def has(feature: str) -> bool:
    """Return whether the processor has this feature."""
    return f"+{feature}" in processor()[1].split(",")


@functools.cache
def _machine() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    name, features = processor()
    static = "static" if X86 else "default"  # how addresses of other functions are called
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(name, features, opt=3, reloc=static, codemodel="jitdefault", jit=True)


@functools.cache
def _engine() -> Any:
    """Return what holds the machine code of this process, until the process ends."""
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())


def new_module(name: str) -> Any:
    """Return an empty module of LLVM code."""
    module = ir.Module(name)
    module.triple = llvm.get_process_triple()
    module.data_layout = str(_machine().target_data)
    return module


def object_code(module: Any) -> bytes:
    """Return the object file of a module."""
    with lock:
        code = llvm.parse_assembly(str(module), llvm.create_context())
        code.verify()
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        options.loop_vectorization, options.slp_vectorization = True, False
        options.loop_unrolling = False
        builder = llvm.create_pass_builder(_machine(), options)
        builder.getModulePassManager().run(code, builder)
        return bytes(_machine().emit_object(code))


def load(name: str, code: bytes) -> None:
    """Load the object file that has the function of this name, unless that is loaded already.

    Raises RuntimeError if LLVM cannot read it.
    """
    with lock:
        file = llvm.ObjectFileRef.from_data(code)
        if not file:
            raise RuntimeError(f"LLVM cannot read the object file of {name}")
        if name not in _loaded:
            _engine().add_object_file(file)
            _engine().finalize_object()
            _loaded.add(name)


def address(name: str) -> int:
    """Return the address of a function that is loaded."""
    with lock:
        found: int = _engine().get_function_address(name)
    return found
