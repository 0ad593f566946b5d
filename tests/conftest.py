"""What every test needs to be left as it was found."""

import logging

import pytest

PACKAGES = ("", "faceinpaint_cli", "faceinpaint_train", "faceinpaint_bench")


@pytest.fixture(autouse=True)
def logging_as_before():
    """The command line sets levels and handlers for the whole process; the next test starts without them."""
    loggers = [logging.getLogger(name) for name in PACKAGES]
    before = [(logger.level, logger.handlers[:]) for logger in loggers]
    yield
    for logger, (level, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers
