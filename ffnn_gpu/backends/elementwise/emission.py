"""Variables, loops and declarations in LLVM code."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir


def declared(builder: Any, name: str, result: Any, *args: Any) -> Any:
    """Return the function of this name, of the C library or of LLVM, declared once."""
    found = builder.module.globals.get(name)
    return found or ir.Function(builder.module, ir.FunctionType(result, args), name)


def memory(builder: Any, kind: Any) -> Any:
    """Return a pointer to memory for one value, which each call of the function has once."""
    with builder.goto_entry_block():
        return builder.alloca(kind)


def variable(builder: Any, value: Any) -> Any:
    """Return a pointer to memory that holds this value now. LLVM turns it into a register."""
    place = memory(builder, value.type)
    builder.store(value, place)
    return place


@contextmanager
def counted(builder: Any, start: Any, stop: Any, step: Any) -> Iterator[Any]:
    """Emit the body of `with` for the integers start, start + step, … below stop."""
    before, (test, body, end) = builder.block, (builder.append_basic_block() for _ in range(3))
    builder.branch(test)
    builder.position_at_end(test)
    index = builder.phi(start.type)
    builder.cbranch(builder.icmp_signed("<", index, stop), body, end)
    builder.position_at_end(body)
    yield index
    index.add_incoming(start, before)
    index.add_incoming(builder.add(index, step, flags=["nsw"]), builder.block)
    builder.branch(test)
    builder.position_at_end(end)
