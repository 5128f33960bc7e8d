"""Joules of a piece of work: the processor's own counters where they can be read, else stated watts.

    "RAPL"        what the processor's energy counters say of all its packages (Linux; `pip install 'vae-jcc[energy]'`,
                  and read permission on /sys/class/powercap). Everything that runs meanwhile and the idle power are
                  in it.
    "estimated"   CPU-seconds of the work times the watts of one busy core, which are assumed, not measured.

What is measured here runs on the CPU, as on the devices that it is meant for, so a graphics card's counters (NVML) have
no part in it.
"""

from collections.abc import Callable
from typing import Any, Protocol

# Of one busy core: about what a server's or laptop's core draws with its share of the package. An assumption; cores of
# phones and small boards draw 0.5 to 2.
DEFAULT_WATTS = 5.0

Work = Callable[[], float]  # does the work and returns its CPU-seconds, over all threads


class Meter(Protocol):
    """Measures work."""

    @property
    def source(self) -> str:
        """How its figures come about: "RAPL" or "estimated"."""

    def joules(self, work: Work) -> float:
        """Runs the work once and returns the energy that it took."""


class Estimate:
    """CPU-seconds times watts."""

    source = "estimated"

    def __init__(self, watts: float) -> None:
        """Takes the watts of one busy core.

        Raises:
            ValueError: they are not positive.
        """
        if not watts > 0:
            raise ValueError(f"{watts} watts make no estimate: give the power of one busy core.")
        self.watts = watts

    def joules(self, work: Work) -> float:
        """Runs the work once and returns its CPU-seconds times the watts."""
        return work() * self.watts


class Rapl:
    """Difference of the processor's energy counters, read through Zeus."""

    source = "RAPL"

    def __init__(self, cpus: Any) -> None:
        """Takes `zeus.device.cpu.get_cpus()`: one counter a package."""
        self._cpus = cpus

    def joules(self, work: Work) -> float:
        """Runs the work once and returns what the counters gained."""
        before = self._total()
        work()
        return self._total() - before

    def _total(self) -> float:
        millijoules = (self._cpus.get_total_energy_consumption(i).cpu_mj for i in range(len(self._cpus)))
        return sum(millijoules) / 1000.0


def open_meter(watts: float = DEFAULT_WATTS) -> tuple[Meter, str]:
    """Returns the best meter that this machine has, and why it is no better one ("" where it measures).

    Args:
        watts: of one busy core, for the estimate.

    Raises:
        ValueError: the watts are not positive.
    """
    estimate = Estimate(watts)
    try:
        from zeus.device.cpu import get_cpus
        from zeus.exception import ZeusBaseError
    except ImportError:
        return estimate, "the optional library zeus is not installed: pip install 'vae-jcc[energy]'"
    try:
        meter = Rapl(get_cpus())
        meter.joules(lambda: 0.0)  # a counter that exists may still be closed to this user
    except (ZeusBaseError, OSError) as error:
        return estimate, " ".join(str(error).split())
    return meter, ""
