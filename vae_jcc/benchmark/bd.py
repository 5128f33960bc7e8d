"""BD-accuracy: how many points one rate-accuracy curve lies above another, on average over the rates that both have.

Bjontegaard's delta (VCEG-M33, 2001) with accuracy in the place of PSNR: both curves are interpolated over the logarithm
of the rate, and the difference of their integrals is divided by the common range. Interpolation is PCHIP, which passes
through every point and does not overshoot between them, as the polynomial of the original does. The smallest lead is
the least difference anywhere on that range, which an average can hide.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

MIN_POINTS = 5  # fewer make the figure depend on where the points happen to lie


_Curve = tuple[np.ndarray, np.ndarray]
_STEPS = 1000  # at which the difference of two curves is looked at for its minimum


class TooFewPoints(ValueError):
    """A curve has fewer than MIN_POINTS points, or the curves have no rates in common."""


def bd_accuracy(
    rates: Sequence[float],
    accuracies: Sequence[float],
    reference_rates: Sequence[float],
    reference_accuracies: Sequence[float],
) -> float:
    """Returns the mean of accuracy minus the reference's, over the logarithm of the rates that both curves cover.

    Args:
        rates: of the curve, positive and all different, in any order and unit (the reference's unit).
        accuracies: one for each rate, in any unit.
        reference_rates: of the curve that it is compared with.
        reference_accuracies: one for each of those.

    Returns:
        The difference, in the unit of the accuracies: positive where the curve is better than the reference.

    Raises:
        TooFewPoints: a curve has fewer than MIN_POINTS points, or there is no common range.
        ValueError: a rate is not positive, or is there twice.
    """
    curve, reference, low, high = _common(
        _log_curve(rates, accuracies), _log_curve(reference_rates, reference_accuracies)
    )
    return (_interpolate(curve).integrate(low, high) - _interpolate(reference).integrate(low, high)) / (high - low)


def smallest_lead(
    rates: Sequence[float],
    accuracies: Sequence[float],
    reference_rates: Sequence[float],
    reference_accuracies: Sequence[float],
) -> float:
    """Returns the least of accuracy minus the reference's, at any rate that both curves cover.

    Arguments, unit and errors are those of `bd_accuracy`, but two points make a curve.
    """
    curves = _log_curve(rates, accuracies, 2), _log_curve(reference_rates, reference_accuracies, 2)
    curve, reference, low, high = _common(*curves)
    at = np.linspace(low, high, _STEPS)
    return float((_interpolate(curve)(at) - _interpolate(reference)(at)).min())


def _common(curve: _Curve, reference: _Curve) -> tuple[_Curve, _Curve, float, float]:
    """Returns both curves and the ends of the log rates that both cover."""
    low, high = max(curve[0][0], reference[0][0]), min(curve[0][-1], reference[0][-1])
    if low >= high:
        raise TooFewPoints("no common rates")
    return curve, reference, low, high


def _log_curve(rates: Sequence[float], accuracies: Sequence[float], least: int = MIN_POINTS) -> _Curve:
    """Returns (log rates, accuracies), both float64 [N], by rising rate."""
    x, y = np.asarray(rates, np.float64), np.asarray(accuracies, np.float64)
    if len(x) < least:
        raise TooFewPoints(f"too few points ({len(x)}, needs {least})")
    if np.any(x <= 0) or len(np.unique(x)) < len(x):
        raise ValueError("The rates of a curve must be positive and differ from each other.")
    order = np.argsort(x)
    return np.log(x[order]), y[order]


def _interpolate(curve: _Curve) -> Any:
    from scipy.interpolate import PchipInterpolator

    return PchipInterpolator(*curve)
