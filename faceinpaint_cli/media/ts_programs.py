"""The programs of a transport stream: their numbers and names, which the library's Python side does not show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKET, TIMED_PACKET, CHECKED_PACKET, SYNC = 188, 192, 204, 0x47
"""Bytes of a packet: alone, behind four of its time of arrival (Blu-ray, AVCHD), before sixteen that correct it."""
PAT_PID, SDT_PID = 0x0000, 0x0011
SERVICE_DESCRIPTOR = 0x48
IN_STEP = 5
"""Packets that begin as they should, after which the first is taken to be found."""
READ_BYTES = 2_000_000
"""Tables are said again every fraction of a second."""


@dataclass(frozen=True)
class Program:
    """`stream_id` is the transport stream's number, `map_pid` where the program's map is (ISO/IEC 13818-1, 2.4.4);
    names as in EN 300 468, 6.2.33, empty where there are none."""

    number: int
    stream_id: int
    map_pid: int
    name: str = ""
    provider: str = ""

    @property
    def label(self) -> str:
        return f"{self.number} ({self.name})" if self.name else str(self.number)


def programs(path: Path) -> list[Program]:
    """The programs that the first table of a file lists; none where it has no table."""
    with path.open("rb") as file:
        data = file.read(READ_BYTES)
    table = next(_sections(data, PAT_PID, 0x00), b"")
    names = _names(next(_sections(data, SDT_PID, 0x42), b""))
    found = []
    for at in range(8, len(table) - 3, 4):
        number, pid = _short(table, at), _short(table, at + 2) & 0x1FFF
        if number:  # zero is the network
            provider, name = names.get(number, ("", ""))
            found.append(Program(number, _short(table, 3), pid, name, provider))
    return found


def packing(data: bytes) -> tuple[int, int]:
    """(bytes from one packet to the next, where the first begins)."""
    strides = ((step, start) for step in (PACKET, TIMED_PACKET, CHECKED_PACKET) for start in range(step))
    in_step = bytes([SYNC]) * IN_STEP
    return next(((n, a) for n, a in strides if data[a : a + n * IN_STEP : n] == in_step), (PACKET, 0))


def has_times_of_arrival(path: Path) -> bool:
    """Whether the packets of a transport stream stand behind times of arrival, as in Blu-ray and AVCHD."""
    with path.open("rb") as file:
        return packing(file.read(2 * IN_STEP * CHECKED_PACKET))[0] == TIMED_PACKET


def _names(table: bytes) -> dict[int, tuple[str, str]]:
    """(provider, name) by the number of the program."""
    names, at = {}, 11
    while at + 5 <= len(table):
        end = at + 5 + (_short(table, at + 3) & 0xFFF)
        place = at + 5
        while place + 2 <= min(end, len(table)):
            content = table[place + 2 : place + 2 + table[place + 1]]
            if table[place] == SERVICE_DESCRIPTOR and len(content) > 2:
                provider = content[2 : 2 + content[1]]
                name = content[2 + content[1] :]
                names[_short(table, at)] = _text(provider), _text(name[1 : 1 + name[0]] if name else b"")
            place += 2 + table[place + 1]
        at = end
    return names


def _text(data: bytes) -> str:
    """Text whose first byte may name its alphabet (EN 300 468, annex A): 0x15 is UTF-8."""
    if data[:1] == b"\x15":
        return data[1:].decode("utf-8", "replace")
    return data.lstrip(bytes(range(0x20))).decode("latin-1")


def _sections(data: bytes, pid: int, table: int) -> Iterator[bytes]:
    """Whole tables on this PID that fit into one packet, without their checksum."""
    step, start = packing(data)
    for at in range(start, len(data) - PACKET, step):
        packet = data[at : at + PACKET]
        if packet[0] != SYNC or _short(packet, 1) & 0x5FFF != 0x4000 | pid:
            continue
        place = 4 + (1 + packet[4] if packet[3] & 0x20 else 0)
        if place >= PACKET - 4:
            continue
        place += 1 + packet[place]
        section = packet[place : place + 3 + (_short(packet, place + 1) & 0xFFF)]
        if section[:1] == bytes([table]) and not _checksum(section):
            yield section[:-4]


def _checksum(data: bytes) -> int:
    """The CRC of ISO/IEC 13818-1, annex A: zero over a section with its checksum."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc >> 31 else crc << 1) & 0xFFFFFFFF
    return crc


def _short(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")
