"""What all tests need: an interrupt that interrupts."""

from __future__ import annotations

import signal

import pytest


@pytest.fixture(scope="session", autouse=True)
def interrupts():
    """A shell ignores Ctrl-C for what it starts in the background, and children inherit that; tests send it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
