"""Everything that faceinpaint raises on purpose.

    FaceInpaintError            exit code 1 when it ends a command
    |-- UsageError              wrong flags or arguments, found before any work; exit code 2
    |-- InputError              an input cannot be read or is refused (missing, damaged, too large, no stream)
    |   `-- MaskError           a mask cannot be read, matched or applied
    |-- OutputError             an output cannot be written (exists, read-only, disk full)
    |-- ModelError              a model is unknown, or its file is missing, foreign or broken; exit code 2
    |-- DeviceError             the device asked for is not there, or is out of memory; exit code 2
    |-- DataError               a data set for training or measuring is unusable
    `-- GateError               a quality gate of `bench` failed; exit code 3

Each message is one line that says what was expected, what came, and what to do, naming the flag to change.
"""

import logging

log = logging.getLogger(__name__)


class FaceInpaintError(Exception):
    """Base of all errors that the user can do something about."""

    exit_code = 1


class UsageError(FaceInpaintError):
    exit_code = 2


class InputError(FaceInpaintError):
    pass


class MaskError(InputError):
    pass


class OutputError(FaceInpaintError):
    pass


class ModelError(FaceInpaintError):
    exit_code = 2


class DeviceError(FaceInpaintError):
    exit_code = 2


class DataError(FaceInpaintError):
    pass


class GateError(FaceInpaintError):
    exit_code = 3


def describe(error: Exception) -> str:
    """One line for the user; the traceback of what was not foreseen goes to the log at -vv."""
    if isinstance(error, FaceInpaintError):
        return str(error)
    log.debug("unexpected error", exc_info=error)
    if isinstance(error, MemoryError):
        return "not enough memory for this input; process it alone, or reduce it first"
    return f"unexpected {type(error).__name__}: {' '.join(str(error).split()) or 'no message'} (-vv shows more)"
