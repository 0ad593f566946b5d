"""Reading and writing single bits (VP9's headers too) and Exp-Golomb codes (ITU-T H.264, 7.2 and 9.1)."""

from __future__ import annotations


class BitsExhausted(ValueError):
    """A code reaches over the end of the data: the header is cut or damaged."""


class BitReader:
    """Reads from the first bit of `data` (emulation prevention already removed)."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = len(data) * 8

    @property
    def left(self) -> int:
        """Bits not yet read."""
        return self._left

    def bits(self, count: int) -> int:
        """The next `count` bits as an unsigned number, u(n)."""
        if count > self._left:
            raise BitsExhausted(f"{count} bits wanted, {self._left} left")
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def flag(self) -> bool:
        return bool(self.bits(1))

    def unsigned(self, limit: int = 1 << 32) -> int:
        """The next unsigned Exp-Golomb code, ue(v); ValueError above `limit`."""
        zeros = 0
        while not self.bits(1):
            zeros += 1
            if zeros > 32:
                raise ValueError("Exp-Golomb code longer than 32 bits")
        value = (1 << zeros) - 1 + self.bits(zeros)
        if value > limit:
            raise ValueError(f"code {value} above its limit {limit}")
        return value

    def signed(self) -> int:
        """The next signed Exp-Golomb code, se(v)."""
        code = self.unsigned()
        return (code + 1) // 2 if code & 1 else -(code // 2)


class BitWriter:
    """Collects bits; `to_bytes` pads with zeros."""

    def __init__(self) -> None:
        self._value = 1  # a leading one keeps the zeros that follow
        self._count = 0

    def bits(self, value: int, count: int) -> None:
        if value < 0 or value >> count:
            raise ValueError(f"{value} does not fit into {count} bits")
        self._value = self._value << count | value
        self._count += count

    def flag(self, value: bool) -> None:
        self.bits(int(value), 1)

    def unsigned(self, value: int) -> None:
        length = (value + 1).bit_length()
        self.bits(value + 1, 2 * length - 1)

    def signed(self, value: int) -> None:
        self.unsigned(2 * value - 1 if value > 0 else -2 * value)

    def align(self) -> None:
        self.bits(0, -self._count % 8)

    def to_bytes(self) -> bytes:
        self.align()
        return (self._value ^ 1 << self._count).to_bytes(self._count // 8, "big")
