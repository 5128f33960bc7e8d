"""How a training process on a CPU gets its memory."""

import os
import sys

_SETTING = "glibc.malloc.hugetlb"


def use_huge_pages() -> None:
    """Starts this process anew, once, with glibc's allocator asking the system for huge pages.

    A training step on a CPU allocates hundreds of megabytes and frees them again. In pages of 2 MiB they are mapped in
    hundreds of page faults, not in a hundred thousand, and take few of the processor's translation entries; that is a
    tenth to a fifth of a step. glibc (2.35 and later; others ignore it) reads the setting only when a process begins,
    from GLIBC_TUNABLES: a value that it has there already stays, so GLIBC_TUNABLES=glibc.malloc.hugetlb=0 turns this
    off.

    Call it first, from a process of one's own (`python -m vae_jcc.main`): whatever ran before runs again.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if _SETTING in tunables or not sys.executable or not _is_glibc():
        return
    environment = os.environ | {"GLIBC_TUNABLES": ":".join(filter(None, (tunables, f"{_SETTING}=1")))}
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _is_glibc() -> bool:
    try:
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except (ValueError, OSError, AttributeError):  # no such name, or no such function: macOS, musl, Windows
        return False
