"""Ties a process to its parent: when the worker dies, by whatever signal, the kernel kills its training at once.

python -m overproof.training.tether PARENT_PID PROGRAM ARGUMENT...
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PARENT = "OVERPROOF_TETHER"
"""Environment variable: process id of the one whose death ends the ranks."""


def tie_to(parent: int) -> None:
    """Die when `parent` does. Ends the process when that has already happened.

    Survives exec but not fork, so every generation ties itself. The signal follows the parent's thread: the thread that
    starts a process must outlive it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def main() -> None:
    """Tie this process to its parent, then become the program."""
    tie_to(int(sys.argv[1]))
    os.environ[PARENT] = str(os.getpid())
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - an argument list of our own making


if __name__ == "__main__":
    main()
