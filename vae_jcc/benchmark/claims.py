"""The 2022 paper's claims of efficiency against what was measured, baseline by baseline.

Chamain, Qi and Ding (IEEE Internet of Things Journal, 2022) state that their encoders are 65 to 99 % smaller, 1.5 to
13.1 times faster, and take 25 to 99 % less power than "baseline models", without saying which. A claim is confirmed
against one baseline where our figure against it reaches the claim's lower end in every round.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        key: names it in results.
        text: as the paper has it.
        least: what a figure has to reach: a saving as a fraction, or a ratio of speeds.
        saving: whether figures are savings (0.65 is 65 % less) or ratios (1.5 is 1.5 times as fast).
        figures: (our row, a baseline's row) to a figure for each round; none where they cannot be compared.
    """

    key: str
    text: str
    least: float
    saving: bool
    figures: Callable[[Row, Row], list[float]]


def _smaller(ours: Row, other: Row) -> list[float]:
    return [1.0 - ours["parameters"] / other["parameters"]] if other["parameters"] else []


def _faster_single(ours: Row, other: Row) -> list[float]:
    return _over_rounds(other["latency_ms"], ours["latency_ms"])


def _faster_batch(ours: Row, other: Row) -> list[float]:
    return _over_rounds(ours["images_per_s"], other["images_per_s"])


def _less_energy(ours: Row, other: Row) -> list[float]:
    return [1.0 - ratio for ratio in _over_rounds(ours["joules_per_image"], other["joules_per_image"])]


def _over_rounds(upper: Row, lower: Row) -> list[float]:
    """Returns the ratio in each round, in which both ran one after the other."""
    return [a / b for a, b in zip(upper["rounds"], lower["rounds"], strict=True) if b > 0]


CLAIMS = (
    Claim("size", "encoder 65-99 % smaller (parameters)", 0.65, True, _smaller),
    Claim("latency", "x1.5-13.1 faster (one image)", 1.5, False, _faster_single),
    Claim("throughput", "x1.5-13.1 faster (batches)", 1.5, False, _faster_batch),
    Claim("energy", "25-99 % less power (energy of one image)", 0.25, True, _less_energy),
)


def verdict(figures: Sequence[float], least: float) -> str:
    """Returns "confirmed" where all rounds reach `least`, "not confirmed" where none does, else "undecided"."""
    reached = [figure >= least for figure in figures]
    return "confirmed" if all(reached) else "undecided" if any(reached) else "not confirmed"


def check_claims(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Returns a line for each claim and each of our encoders: against whom it holds.

    Args:
        rows: as `efficiency.measure` returns them; encoders are held against the baselines at their own image size.

    Returns:
        "system", "size", "claim", "text", "saving", "estimated" (the figures rest on assumed watts), and "against":
        for each baseline "system", "figure" (the median of the rounds), "least", "greatest" and "verdict".
    """
    lines = []
    for ours in (row for row in rows if row["ours"]):
        others = [r for r in rows if not r["ours"] and r["size"] == ours["size"] and r["channels"] == ours["channels"]]
        for claim in CLAIMS:
            compared = [(other["system"], claim.figures(ours, other)) for other in others]
            against = [
                {
                    "system": name,
                    "figure": median(figures),
                    "least": min(figures),
                    "greatest": max(figures),
                    "verdict": verdict(figures, claim.least),
                }
                for name, figures in compared
                if figures
            ]
            lines.append(
                {
                    "system": ours["system"],
                    "size": ours["size"],
                    "claim": claim.key,
                    "text": claim.text,
                    "saving": claim.saving,
                    "estimated": claim.key == "energy" and ours["energy"] == "estimated",
                    "against": against,
                }
            )
    return lines
