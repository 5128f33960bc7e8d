"""A training process starts anew for its memory: once, with its arguments, and only where that is of use."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vae_jcc import memory

THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")
needs_glibc = pytest.mark.skipif(not memory._is_glibc(), reason="only glibc has this setting")

# What a process says that wants huge pages: arguments, options of the interpreter, environment, starts so far.
SAY = """
import json, os, sys
print("begun")
from vae_jcc.memory import use_huge_pages
use_huge_pages()
print(json.dumps([sys.argv[1:], sys.flags.dev_mode, os.environ["GLIBC_TUNABLES"], os.getpid()]))
"""
# Huge pages, in KiB, of a block of 64 MiB that it allocates.
TOUCH = """
import ctypes, re
from vae_jcc.memory import use_huge_pages
use_huge_pages()
block = ctypes.create_string_buffer(64 * 2**20)
ctypes.memset(block, 1, len(block))
print(sum(map(int, re.findall(r"AnonHugePages: +([0-9]+)", open("/proc/self/smaps").read()))))
"""


def environment(tunables):
    """This process's variables, with these for GLIBC_TUNABLES."""
    return {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"} | tunables


def say(tunables, *arguments):
    """Its lines, and its process number as its parent knows it."""
    command = [sys.executable, "-X", "dev", "-c", SAY, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(tunables)) as process:
        lines = process.communicate()[0].splitlines()
    assert process.returncode == 0
    return lines, process.pid


def gives_huge_pages():
    if not memory._is_glibc() or not THP.is_file() or "[madvise]" not in THP.read_text():
        return False
    major, minor = map(int, re.findall(r"[0-9]+", os.confstr("CS_GNU_LIBC_VERSION"))[:2])
    return (major, minor) >= (2, 35)


@needs_glibc
def test_it_starts_anew_once_as_the_same_process_with_the_same_arguments():
    lines, pid = say({}, "--flag=a b", "x")
    assert lines[:2] == ["begun", "begun"]
    assert json.loads(lines[2]) == [["--flag=a b", "x"], True, "glibc.malloc.hugetlb=1", pid]


@needs_glibc
def test_other_settings_stay():
    (_, _, told), _ = say({"GLIBC_TUNABLES": "glibc.malloc.check=0"})
    assert json.loads(told)[2] == "glibc.malloc.check=0:glibc.malloc.hugetlb=1"


@pytest.mark.parametrize("value", [0, 1])
def test_a_value_of_ones_own_stays_and_nothing_starts_anew(value):
    lines, _ = say({"GLIBC_TUNABLES": f"glibc.malloc.hugetlb={value}"})
    assert lines[0] == "begun" and json.loads(lines[1])[2] == f"glibc.malloc.hugetlb={value}"


def test_another_c_library_is_left_alone(monkeypatch):
    def unknown(name):
        raise ValueError(name)

    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(memory.os, "confstr", unknown, raising=False)
    monkeypatch.setattr(memory.os, "execve", None)
    memory.use_huge_pages()


@pytest.mark.skipif(not gives_huge_pages(), reason="needs glibc 2.35, and a system that gives them to who asks")
def test_memory_comes_in_huge_pages():
    def huge(**tunables):
        return int(subprocess.check_output([sys.executable, "-c", TOUCH], env=environment(tunables))) / 1024

    assert huge() > 32
    assert huge(GLIBC_TUNABLES="glibc.malloc.hugetlb=0") == 0
