"""A few points of both fault suites, on a control plane of their own: enough to see that the suites and the fleet still work.

All points: `make faults SUITE=crash` and `make faults SUITE=money`.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from renderfleet_faults.accounts import Outcome
from renderfleet_faults.crash import CrashSweep
from renderfleet_faults.lab import Lab, lab
from renderfleet_faults.money import STORIES, MoneySweep
from renderfleet_faults.parts import Part
from renderfleet_faults.report import troubles
from renderfleet_faults.scenarios import SCENARIOS

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVERY_THIRD = 3
EVERY_SEVENTH = 7


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def laboratory() -> AsyncIterator[Lab]:
    async with lab("tests", "c", runners_at_a_time=3, settings={}) as made:
        yield made


async def test_a_killed_operator_is_made_good(laboratory: Lab) -> None:
    chosen = [one for one in SCENARIOS if one.name == "VoiceJob"]

    result = await CrashSweep(laboratory, chosen, quick=True).run(every=EVERY_THIRD)

    assert troubles(result.goldens, result.verdicts) == []
    assert result.stray_writes == []
    assert result.faults_of_the_harness == []
    assert sum(one.reached for one in result.verdicts) >= 5


async def test_a_killed_runner_is_paid_once(laboratory: Lab) -> None:
    chosen = [one for one in STORIES if one.name == "VoiceJob"]

    accounts = await MoneySweep(laboratory, chosen).run(quick=True, part=Part(1, EVERY_SEVENTH))

    assert [problem for one in accounts for problem in one.problems] == []
    assert {one.outcome for one in accounts} <= {Outcome.ONCE, Outcome.HELD}
    assert len(accounts) >= 4
