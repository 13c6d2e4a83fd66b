"""The shop's story holds: what each phase can serve and what a flash sale does to it, with intervals.

Nothing of it is scripted: the phases differ in hosts, steps and caches only, and the sale in its arrivals.
"""

import importlib.util
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PHASES = ("phase-0", "phase-1", "phase-2", "phase-3")


@cache
def study():
    spec = importlib.util.spec_from_file_location("ecommerce_study", ROOT / "experiments" / "ecommerce" / "study.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def sale(phase):
    return study().flash_sale(study().load(f"{phase}-flash-sale"), replications=4)


@cache
def capacity(phase, workload):
    return study().capacity_of(study().load(phase), workload)


@pytest.mark.parametrize("phase", PHASES[1:])
def test_a_phase_is_a_change_of_the_one_before(phase):
    text = (ROOT / "models" / "ecommerce" / f"{phase}.yaml").read_text()
    before = f"phase-{int(phase[-1]) - 1}"
    assert f"extends: {before}.yaml" in text


@pytest.mark.slow
def test_the_monolith_does_about_500_requests_a_second():
    pages = capacity("phase-0", "visitors")
    assert pages.low > 400
    assert pages.high < 600


@pytest.mark.slow
def test_the_monolith_collapses_in_the_sale():
    """Overload, time-outs and reloads: it serves less than 100 of 5,000 requests a second, and no orders."""
    assert sale("phase-0").peak_offered.low > 5000
    assert sale("phase-0").peak_served.high < 250
    assert sale("phase-0").peak_served.value < 100
    assert sale("phase-0").order_p95.low == float("inf")


@pytest.mark.slow
def test_the_monolith_stays_down_after_the_sale():
    """Metastable: the load is as before the sale, and yet it is not served."""
    found = sale("phase-0")
    after = found.times > 120.0
    assert found.offered[after].mean() < 500
    assert found.served[after].mean() < 0.5 * found.offered[after].mean()


@pytest.mark.slow
def test_phase_1_serves_about_four_times_the_pages_and_struggles_with_orders():
    before, after = capacity("phase-0", "visitors"), capacity("phase-1", "visitors")
    assert after.low / before.high > 3.0
    assert after.high / before.low < 5.5
    assert capacity("phase-1", "buyers").high < 60
    assert sale("phase-1").peak_orders.high < 60
    assert sale("phase-1").order_p95.low == float("inf")


@pytest.mark.slow
def test_phase_2_takes_orders():
    assert capacity("phase-2", "buyers").low > 4.0 * capacity("phase-1", "buyers").high
    assert sale("phase-2").peak_orders.low > 2.5 * sale("phase-1").peak_orders.high


@pytest.mark.slow
def test_phase_3_serves_the_sale():
    found = sale("phase-3")
    assert found.peak_served.low > 5000
    assert found.order_p95.high < 0.200
    assert found.failed.high < 0.01
