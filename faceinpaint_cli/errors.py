"""Everything that faceinpaint raises on purpose.

    FaceInpaintError            exit code 1 when it ends a command
    |-- UsageError              wrong flags or arguments, found before any work; exit code 2
    |-- InputError              an input cannot be read or is refused (missing, damaged, too large, no stream)
    |   `-- MaskError           a mask cannot be read, matched or applied
    |-- OutputError             an output cannot be written (exists, read-only, disk full)
    |-- ModelError              a model file is missing, foreign or broken
    |-- DeviceError             the device asked for is not there, or is out of memory
    |-- DataError               a data set for training or measuring is unusable
    `-- GateError               a quality gate of `bench` failed; exit code 3

Each message is one line that says what was expected, what came, and what to do, naming the flag to change.
"""


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
    pass


class DeviceError(FaceInpaintError):
    pass


class DataError(FaceInpaintError):
    pass


class GateError(FaceInpaintError):
    exit_code = 3
