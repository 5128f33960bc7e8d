"""How a training process on a CPU keeps its memory."""

import ctypes
import os

# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Makes glibc keep freed memory for the next allocation instead of returning it to the system.

    A training step on a CPU allocates the same hundreds of megabytes each time; returned and asked for again, every
    page of them is zeroed and mapped anew, which takes a tenth of the step. One arena only, because the others
    are too small for such blocks. Call it before JAX starts its threads.

    Returns:
        Whether it was done: False where the C library is not glibc.
    """
    try:
        if not os.confstr("CS_GNU_LIBC_VERSION"):
            return False
        mallopt = ctypes.CDLL(None).mallopt
    except (ValueError, OSError, AttributeError):  # no such name, library or function: macOS, musl
        return False
    return all([mallopt(_M_ARENA_MAX, 1), mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, _NEVER)])
