"""BD-accuracy and the smallest lead against curves whose answer is known."""

import numpy as np
import pytest

from vae_jcc.benchmark.bd import TooFewPoints, bd_accuracy, smallest_lead

RATES = (0.2, 0.5, 0.9, 1.4, 2.5, 4.0)
CURVE = (50.0, 63.0, 71.0, 76.0, 80.0, 81.5)


def test_a_constant_offset_is_returned():
    assert bd_accuracy(RATES, [a + 3.25 for a in CURVE], RATES, CURVE) == pytest.approx(3.25, abs=1e-12)


def test_swapping_the_curves_turns_the_sign():
    other_rates, other = (0.3, 0.4, 0.8, 1.1, 3.0), (55.0, 57.0, 66.0, 79.0, 80.0)
    there, back = bd_accuracy(RATES, CURVE, other_rates, other), bd_accuracy(other_rates, other, RATES, CURVE)
    assert there == pytest.approx(-back, abs=1e-12) and there != 0


def test_lines_in_the_log_of_the_rate_have_the_closed_form():
    """10 points a doubling against 8, equal at 1 bpp, over the common range 0.5 to 4 bpp: 2 * mean of log2(rate)."""
    ours, theirs = 2.0 ** np.arange(-3, 3), 2.0 ** np.arange(-1, 4)
    value = bd_accuracy(ours, 60 + 10 * np.log2(ours), theirs, 60 + 8 * np.log2(theirs))
    assert value == pytest.approx(2 * (-1 + 2) / 2, abs=1e-12)


def test_order_of_points_and_unit_of_rates_do_not_matter():
    other = [a - 2 * r for a, r in zip(CURVE, RATES, strict=True)]
    value = bd_accuracy(RATES, CURVE, RATES, other)
    scaled = [1000 * r for r in RATES]
    assert bd_accuracy(RATES[::-1], CURVE[::-1], RATES, other) == value
    assert bd_accuracy(scaled, CURVE, scaled, other) == pytest.approx(value, abs=1e-9)


def test_too_few_points_and_no_common_rates_are_refused():
    with pytest.raises(TooFewPoints, match=r"too few points \(4"):
        bd_accuracy(RATES[:4], CURVE[:4], RATES, CURVE)
    with pytest.raises(TooFewPoints, match="no common rates"):
        bd_accuracy([r / 100 for r in RATES], CURVE, RATES, CURVE)


@pytest.mark.parametrize("bad", [0.0, -1.0, RATES[1]])
def test_rates_that_make_no_curve_are_refused(bad):
    with pytest.raises(ValueError, match="positive and differ"):
        bd_accuracy((bad, *RATES[1:]), CURVE, RATES, CURVE)


def test_the_smallest_lead_is_where_the_curves_come_nearest():
    """On lines in the log of the rate: at the end of the common range; with a dip between two points, at the dip."""
    ours, theirs = 2.0 ** np.arange(-3, 3), 2.0 ** np.arange(-1, 4)
    value = smallest_lead(ours, 60 + 10 * np.log2(ours), theirs, 40 + 8 * np.log2(theirs))
    assert value == pytest.approx(20 - 2, abs=1e-9)  # at 0.5 bpp
    dip = [a - (4 if r == 0.9 else 0) for a, r in zip(CURVE, RATES, strict=True)]
    assert smallest_lead(RATES, [a + 9 for a in dip], RATES, CURVE) == pytest.approx(5, abs=0.05)
    assert smallest_lead(RATES[:2], [60.0, 70.0], RATES, CURVE) == pytest.approx(7, abs=1e-9)


def test_no_lead_without_common_rates():
    with pytest.raises(TooFewPoints, match="no common rates"):
        smallest_lead((10.0, 20.0), (80.0, 90.0), RATES, CURVE)
    with pytest.raises(TooFewPoints, match="1, needs 2"):
        smallest_lead((1.0,), (80.0,), RATES, CURVE)
