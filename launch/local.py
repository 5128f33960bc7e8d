"""Runs one training as several processes on this machine, each with its own CPU devices.

python -m launch.local --processes=2 --devices=2 [--dry-run] -- --config=configs/quickstart.py --workdir=runs/two

It is how the code for many hosts is tried before there are many hosts. Where one process fails or is killed, the others
are ended and it is said which one it was; Ctrl-C and SIGTERM go to all of them.
"""

import argparse
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

# After one process has ended: for the others to finish a checkpoint that they agreed on, and to say what they met.
STOP_SECONDS, FAIL_SECONDS = 300.0, 10.0
_STOPPED = (75, 130)  # preempted and interrupted: vae_jcc/interrupt.py
_POLL_SECONDS = 0.1


def free_port() -> int:
    """Returns a TCP port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def make_commands(processes: int, port: int, arguments: Sequence[str]) -> list[list[str]]:
    """Returns the command of each process; `arguments` are those of vae_jcc.main."""
    start = [sys.executable, "-m", "vae_jcc.main"]
    if processes == 1:
        return [[*start, *arguments]]
    place = [f"--coordinator=localhost:{port}", f"--num_processes={processes}"]
    return [[*start, *place, f"--process_id={i}", *arguments] for i in range(processes)]


def run_together(commands: Sequence[Sequence[str]], environment: Mapping[str, str] | None = None) -> int:
    """Runs commands side by side until all have ended; SIGINT and SIGTERM are passed on.

    Args:
        commands: one a process.
        environment: variables to add.

    Returns:
        0 if all ended well, else the exit code of the first that did not (128 + signal if it was killed).
    """
    variables = os.environ | dict(environment or {})
    children: list[subprocess.Popen[bytes]] = []
    early: list[int] = []  # signals that came before all had started

    def send(number: int) -> None:
        for child in children:
            if child.poll() is None:
                child.send_signal(number)

    def pass_on(number: int, _: object) -> None:
        if len(children) < len(commands):
            early.append(number)
        else:
            send(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for command in commands:
            # In sessions of their own, so that Ctrl-C in a terminal reaches them once, through here.
            children.append(subprocess.Popen(command, env=variables, start_new_session=True))
        for number in early:
            send(number)
        return _wait(children)
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
            child.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(children: Sequence["subprocess.Popen[bytes]"]) -> int:
    """Returns when all have ended, or some time after one has failed; the caller ends the rest."""
    first, deadline = 0, float("inf")
    while any(child.poll() is None for child in children) and time.monotonic() < deadline:
        if not first:
            first, deadline = _first_failure(children)
        time.sleep(_POLL_SECONDS)
    if not first:
        first, _ = _first_failure(children)
    return first


def _first_failure(children: Sequence["subprocess.Popen[bytes]"]) -> tuple[int, float]:
    """Returns the code of a process that ended badly and the time that the others have, or (0, no end)."""
    for i, child in enumerate(children):
        code = child.poll()
        if code is None or code == 0:
            continue
        if code in _STOPPED:
            return code, time.monotonic() + STOP_SECONDS
        how = f"exited with code {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"
        rest = "; the others are ended" if len(children) > 1 else ""
        print(f"launch.local: process {i} {how}{rest}.", file=sys.stderr, flush=True)
        return code if code > 0 else 128 - code, time.monotonic() + FAIL_SECONDS
    return 0, float("inf")


def main() -> int:
    """Parses the command line and runs it; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--devices", type=int, default=1, help="CPU devices of each process")
    parser.add_argument("--port", type=int, default=0, help="of process 0; default: a free one")
    parser.add_argument("--dry-run", action="store_true", help="print what would run")
    parser.add_argument("arguments", nargs="+", help="of vae_jcc.main, after --")
    options = parser.parse_args()
    if options.processes < 1 or options.devices < 1:
        parser.error("--processes and --devices are at least 1")
    environment = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(options.devices)}
    commands = make_commands(options.processes, options.port or free_port(), options.arguments)
    if options.dry_run:
        for command in commands:
            print(*(f"{key}={value}" for key, value in environment.items()), shlex.join(command))
        return 0
    return run_together(commands, environment)


if __name__ == "__main__":
    sys.exit(main())
