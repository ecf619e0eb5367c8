"""On PYTHONPATH of a program that is not our own: each of its pythons dies with the one that started it (prctl(2)).

The supervisor's children do so by themselves; what those start would outlive a supervisor that is killed.
"""

import contextlib
import ctypes
import signal

PR_SET_PDEATHSIG = 1

with contextlib.suppress(OSError, AttributeError):  # not on Linux
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
