"""Encoded stretches of a video on their way into the output, kept in a folder so that a run can go on."""

from __future__ import annotations

import json
import logging
import os
import shutil
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from faceinpaint_cli.errors import OutputError
from faceinpaint_cli.media.atomic import atomic_path, hidden_beside, lock_folder

log = logging.getLogger(__name__)

RECORD = struct.Struct("<q?I")  # frame number, is a key picture, size
MANIFEST = "manifest.json"
VERSION = 2


@dataclass(frozen=True)
class EncodedPacket:
    """One encoded picture: the number of its frame in order of display, and its bytes."""

    frame: int
    key: bool
    data: bytes


@dataclass
class SegmentFacts:
    """What a finished segment holds: frames [start, stop), those written, the field order of each in the source (a
    letter of `media.fields`), the reordering of its encoder in frames, and whatever the pipeline counted."""

    start: int
    stop: int
    frames: list[int] = field(default_factory=list)
    fields: str = ""
    delay: int = 0
    counts: dict[str, Any] = field(default_factory=dict)


class SegmentStore:
    """A folder beside the output: one file of packets and one of facts for each finished segment.

    `key` is what the segments depend on (input, settings); those of another key are thrown away. The folder outlives an
    interruption, and with `keep` a failure as well; the next run with `keep` and the same key goes on from there, one
    without it begins anew. Another run that writes the same output meanwhile is refused.
    """

    def __init__(self, output: Path, key: dict[str, Any], keep: bool) -> None:
        self.folder = hidden_beside(output, output.name, ".faceinpaint-segments")
        self._output = output
        self._key = {"version": VERSION, **key}
        self._keep = keep
        self._lock: int | None = None
        self.facts: dict[int, SegmentFacts] = {}

    def __enter__(self) -> SegmentStore:
        manifest = self.folder / MANIFEST
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = lock_folder(self.folder)
            if not (self._keep and _read_json(manifest) == self._key):
                for path in self.folder.iterdir():
                    path.unlink()
                with atomic_path(manifest) as temporary:
                    temporary.write_text(json.dumps(self._key), encoding="utf-8")
        except BlockingIOError as error:
            raise OutputError(f"cannot write {self._output}: another run is at work on it; let it end, or choose "
                              "another --output") from error
        except OSError as error:
            self._give_up()
            raise OutputError(f"cannot write {self.folder}: {error.strerror or error}; choose another --output"
                              ) from error
        except BaseException:
            self._give_up()
            raise
        for path in sorted(self.folder.glob("*.json")):
            content = _read_json(path)
            if path.name != MANIFEST and content is not None and path.with_suffix(".packets").is_file():
                facts = SegmentFacts(**content)
                self.facts[facts.start] = facts
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        if kind is None or not self.facts or not (self._keep or interrupted):
            self._remove()
        self._release()

    def clear(self) -> None:
        """Throw all segments away (they turned out to be of no use)."""
        for start in list(self.facts):
            self._name(start).with_suffix(".json").unlink()
            self._name(start).unlink()
            del self.facts[start]

    def add(self, facts: SegmentFacts, packets: Iterable[EncodedPacket]) -> None:
        """Write a segment while it is encoded; it counts as finished once `packets` has ended and `facts`, which
        the encoding fills in meanwhile, is written."""
        path = self._name(facts.start)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            for packet in packets:
                file.write(RECORD.pack(packet.frame, packet.key, len(packet.data)))
                file.write(packet.data)
        with atomic_path(path.with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps(asdict(facts)), encoding="utf-8")
        self.facts[facts.start] = facts

    def packets(self, start: int) -> Iterator[EncodedPacket]:
        """The packets of a finished segment, in order of decoding."""
        with self._name(start).open("rb") as file:
            while head := file.read(RECORD.size):
                frame, key, size = RECORD.unpack(head)
                yield EncodedPacket(frame, key, file.read(size))

    def _name(self, start: int) -> Path:
        return self.folder / f"{start:09d}.packets"

    def _give_up(self) -> None:
        with suppress(OSError):  # it is not there, or finished segments are in it
            self.folder.rmdir()
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _remove(self) -> None:
        if self.folder.is_dir():
            shutil.rmtree(self.folder)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
