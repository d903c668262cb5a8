"""Python's operators for values that stand for numbers: symbols of a trace, and vectors in compiled code."""

from abc import abstractmethod
from typing import Any, Self


class Operators:
    """A value whose operators call `operate` with the operation's name and its operands in order."""

    @abstractmethod
    def operate(self, operation: str, *operands: Any) -> Self:
        """Return the result of an operation, at least one of whose operands is this value."""

    def __add__(self, other: Any) -> Self:
        return self.operate("add", self, other)

    def __radd__(self, other: Any) -> Self:
        return self.operate("add", other, self)

    def __sub__(self, other: Any) -> Self:
        return self.operate("sub", self, other)

    def __rsub__(self, other: Any) -> Self:
        return self.operate("sub", other, self)

    def __mul__(self, other: Any) -> Self:
        return self.operate("mul", self, other)

    def __rmul__(self, other: Any) -> Self:
        return self.operate("mul", other, self)

    def __truediv__(self, other: Any) -> Self:
        return self.operate("div", self, other)

    def __rtruediv__(self, other: Any) -> Self:
        return self.operate("div", other, self)

    def __pow__(self, other: Any) -> Self:
        return self.operate("power", self, other)

    def __rpow__(self, other: Any) -> Self:
        return self.operate("power", other, self)

    def __and__(self, other: Any) -> Self:
        return self.operate("and", self, other)

    def __rand__(self, other: Any) -> Self:
        return self.operate("and", other, self)

    def __or__(self, other: Any) -> Self:
        return self.operate("or", self, other)

    def __ror__(self, other: Any) -> Self:
        return self.operate("or", other, self)

    def __xor__(self, other: Any) -> Self:
        return self.operate("xor", self, other)

    def __rxor__(self, other: Any) -> Self:
        return self.operate("xor", other, self)

    def __lt__(self, other: Any) -> Self:
        return self.operate("lt", self, other)

    def __le__(self, other: Any) -> Self:
        return self.operate("le", self, other)

    def __gt__(self, other: Any) -> Self:
        return self.operate("gt", self, other)

    def __ge__(self, other: Any) -> Self:
        return self.operate("ge", self, other)

    def __eq__(self, other: Any) -> Self:  # type: ignore[override]
        return self.operate("eq", self, other)

    def __ne__(self, other: Any) -> Self:  # type: ignore[override]
        return self.operate("ne", self, other)

    def __neg__(self) -> Self:
        return self.operate("neg", self)

    def __pos__(self) -> Self:
        return self

    def __abs__(self) -> Self:
        return self.operate("abs", self)

    def __invert__(self) -> Self:
        return self.operate("not", self)

    __hash__ = None  # type: ignore[assignment]
