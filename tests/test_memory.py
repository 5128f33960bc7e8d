import ctypes
import subprocess
import sys

import pytest

from vae_jcc import memory

# Resident pages that the system had to provide anew while a large block is allocated and freed ten times.
FAULTS = """
import ctypes, resource
from vae_jcc.memory import keep_freed_memory
if {keep}: assert keep_freed_memory()
size = 64 * 2**20
def touch():
    block = ctypes.create_string_buffer(size)
    ctypes.memset(block, 1, size)
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10): touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="only glibc has these parameters")
def test_freed_memory_is_not_faulted_in_again():
    def faults(keep: bool) -> int:
        code = FAULTS.format(keep=keep)
        return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)

    assert faults(True) < faults(False) / 10


def test_another_c_library_is_left_alone(monkeypatch):
    def unknown(name):
        raise ValueError(name)

    monkeypatch.setattr(memory.os, "confstr", unknown)
    assert memory.keep_freed_memory() is False
