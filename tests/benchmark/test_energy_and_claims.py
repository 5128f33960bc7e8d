import builtins
import sys
import types

import pytest

from vae_jcc.benchmark.claims import CLAIMS, check_claims, verdict
from vae_jcc.benchmark.efficiency_report import claims_table, efficiency_tables
from vae_jcc.benchmark.energy import Estimate, Rapl, open_meter
from vae_jcc.benchmark.measuring import spread


class Counters:
    """Two packages whose counters gain 1500 and 500 mJ with each piece of work."""

    def __init__(self) -> None:
        self.done = 0

    def __len__(self) -> int:
        return 2

    def get_total_energy_consumption(self, index: int) -> types.SimpleNamespace:
        return types.SimpleNamespace(cpu_mj=7.0 + self.done * (1500.0, 500.0)[index])

    def work(self) -> float:
        self.done += 1
        return 0.25


def test_estimate_is_cpu_seconds_times_watts_and_says_so():
    meter = Estimate(4.0)
    assert meter.joules(lambda: 2.5) == 10.0
    assert meter.source == "estimated"
    with pytest.raises(ValueError, match="watts"):
        Estimate(0.0)


def test_rapl_adds_up_what_the_packages_gained():
    counters = Counters()
    meter = Rapl(counters)
    assert meter.joules(counters.work) == pytest.approx(2.0)
    assert meter.source == "RAPL"


def test_without_the_library_energy_is_estimated_and_the_reason_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "zeus", None)
    monkeypatch.setitem(sys.modules, "zeus.device.cpu", None)
    meter, reason = open_meter(3.0)
    assert meter.joules(lambda: 1.0) == 3.0
    assert "zeus" in reason


def test_counters_that_are_closed_to_the_user_are_a_reason_too(monkeypatch):
    class ZeusBaseError(Exception):
        pass

    def get_cpus() -> None:
        raise ZeusBaseError("no permission\nto read")

    for name, names in {"zeus": {}, "zeus.device": {}, "zeus.device.cpu": {"get_cpus": get_cpus}}.items():
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        vars(sys.modules[name]).update(names)
    monkeypatch.setitem(sys.modules, "zeus.exception", types.ModuleType("zeus.exception"))
    vars(sys.modules["zeus.exception"])["ZeusBaseError"] = ZeusBaseError
    meter, reason = open_meter(3.0)
    assert (meter.source, reason) == ("estimated", "no permission to read")
    counters = Counters()
    monkeypatch.setattr(sys.modules["zeus.device.cpu"], "get_cpus", lambda: counters)
    meter, reason = open_meter(3.0)
    assert (meter.source, reason) == ("RAPL", "")


def row(name, ours, parameters=100, latency=(1.0, 1.0, 1.0), rate=(10.0, 10.0, 10.0), joules=(1.0, 1.0, 1.0), **other):
    return {
        "system": name,
        "ours": ours,
        "size": [32, 32],
        "channels": 3,
        "output": "bytes",
        "parameters": parameters,
        "weight_bytes": 4 * parameters,
        "macs_per_pixel": 5.0 if parameters else None,
        "bytes_per_image": 80.0,
        "peak_mib": {"batch_1": 100.0, "batch_n": 200.0},
        "latency_ms": spread(latency),
        "batch": 256,
        "images_per_s": spread(rate),
        "joules_per_image": spread(joules),
        "energy": "estimated",
    } | other


def test_verdict_needs_every_round():
    assert verdict([1.5, 2.0, 9.0], 1.5) == "confirmed"
    assert verdict([1.4, 2.0], 1.5) == "undecided"
    assert verdict([0.1, 1.4], 1.5) == "not confirmed"


def test_claims_are_checked_against_each_baseline_of_the_same_images():
    rows = [
        row("ours", True),
        row("net", False, parameters=1000, latency=(2.0, 1.2, 3.0), rate=(2.0, 2.0, 2.0), joules=(1.1, 1.2, 1.25)),
        row("codec", False, parameters=0, latency=(0.1, 0.1, 0.1), rate=(90.0, 90.0, 90.0), joules=(0.5, 0.5, 0.5)),
        row("large", False, parameters=10**6, size=[64, 64]),
    ]
    lines = {line["claim"]: line for line in check_claims(rows)}
    assert list(lines) == [claim.key for claim in CLAIMS]
    # A codec has no parameters to be smaller than.
    (size,) = lines["size"]["against"]
    assert (size["system"], size["figure"], size["verdict"]) == ("net", pytest.approx(0.9), "confirmed")
    net, codec = lines["latency"]["against"]
    assert (net["figure"], net["least"], net["greatest"], net["verdict"]) == (2.0, 1.2, 3.0, "undecided")
    assert (codec["figure"], codec["verdict"]) == (pytest.approx(0.1), "not confirmed")
    assert [a["verdict"] for a in lines["throughput"]["against"]] == ["confirmed", "not confirmed"]
    net, codec = lines["energy"]["against"]
    assert (net["figure"], net["verdict"]) == (pytest.approx(1 - 1 / 1.2), "not confirmed")
    assert codec["figure"] == pytest.approx(-1.0)
    assert lines["energy"]["estimated"] and not lines["latency"]["estimated"]


def test_the_mark_of_an_estimate_is_in_the_tables():
    rows = [row("ours", True), row("net", False, parameters=1000)]
    (table,) = efficiency_tables(rows, 1)
    assert table.title == "32x32x3, 1 thread"
    assert all(cells[-1] == "1.00 est." for cells in table.rows)
    measured = [r | {"energy": "RAPL"} for r in rows]
    assert efficiency_tables(measured, 2)[0].rows[0][-1] == "1.00"
    claims = claims_table(check_claims(rows))
    assert "[estimated]" in claims.rows[-1][1] and "[estimated]" not in claims.rows[0][1]
    assert claims.rows[0][2] == "net (90.0 %)"
    assert "[estimated]" not in claims_table(check_claims(measured)).markdown()
    assert len(claims.markdown().splitlines()) == 4 + len(CLAIMS)


def test_nothing_here_needs_the_optional_libraries(monkeypatch):
    real = builtins.__import__

    def refuse(name, *arguments):
        if name.partition(".")[0] in ("torch", "compressai", "zeus", "skimage", "torchmetrics"):
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", refuse)
    from vae_jcc.benchmark.systems import Spec, open_system

    with pytest.raises(ImportError, match=r"vae-jcc\[compressai\]"):
        open_system(Spec("compressai", "cheng2020_anchor", (32, 32), 3))
