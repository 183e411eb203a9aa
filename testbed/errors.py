"""What can go wrong with the testbed itself."""

from __future__ import annotations


class TestbedError(Exception):
    """Something that the developer has to know or do; the message says what."""

    __test__ = False  # pytest takes what begins with Test for tests


class BuildError(TestbedError):
    """A program or an image could not be built."""


class NotRunningError(TestbedError):
    """The named cluster is not up."""
