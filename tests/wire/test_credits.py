"""What a talk cost is what the vendor took: the account is read before and after, and no guess is passed off as a bill."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.wire import KEYS, Bench, ObjectStore, Standin, standin_process

from renderfleet_crds.contract import ExitCode, Vendor
from renderfleet_providers.did import DID
from renderfleet_providers.ports import JobState, VideoOrder

Files = tuple[Path, Path]


@pytest.fixture(scope="module")
def dear_standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standin]:
    """A plan on which a credit buys far less than we would guess."""
    folder = tmp_path_factory.mktemp("dear")
    with standin_process(folder, talk_seconds="0.5", did_seconds_per_credit="0.3") as standin:
        yield standin


@pytest.fixture
def account(tmp_path: Path, dear_standin: Standin, store: ObjectStore) -> Iterator[Bench]:
    """Talks on that plan."""
    dear_standin.reset()
    bench = Bench(tmp_path, dear_standin, store)
    yield bench
    bench.kill_all()


@pytest.fixture
def order(talk_files: Files) -> VideoOrder:
    return VideoOrder("uid-1/0-1", talk_files[0], "image/png", talk_files[1], "audio/mpeg")


def test_a_start_tells_what_the_vendor_took(account: Bench, talk_files: Files) -> None:
    ended = account.run(account.video_start(*talk_files))

    assert ended.exit_code is ExitCode.DONE, ended.logs
    assert ended.result is not None
    [bill] = account.standin.billed("did")
    assert ended.result.usage == {"credits": bill["units"]}
    assert bill["units"] > 2, "the guess would have been 1"


@pytest.mark.parametrize("operation", ["credits", "talks.list"])
@pytest.mark.parametrize("fault", ["500_internal_server", "401_authorization", "bad_json", "hang"])
def test_books_that_cannot_be_read_stop_nothing(account: Bench, talk_files: Files, operation: str, fault: str) -> None:
    account.standin.fault("did", operation, fault, times=None, seconds=60)

    ended = account.run(account.video_start(*talk_files))

    assert ended.exit_code is ExitCode.DONE, ended.logs
    assert ended.result is not None
    assert ended.result.usage == {}
    assert len(account.standin.billed("did")) == 1


async def test_talks_begun_at_the_same_time_are_not_told_apart(account: Bench, order: VideoOrder) -> None:
    did = DID(account.provider(Vendor.DID).base_url, KEYS[Vendor.DID], {}, timeout_seconds=20)
    ours, theirs = await did.place_sources(order), await did.place_sources(order)
    first = await did.start(order, ours)
    second = await did.start(order, theirs)
    assert ours.before is not None
    assert theirs.before is not None

    while_they_work = await did.place_sources(order)
    taken = [await did.credits_taken(first.job_id, ours.before), await did.credits_taken(second.job_id, theirs.before)]
    for talk in (first, second):
        while (await did.look(talk.job_id)).state is not JobState.DONE:
            await asyncio.sleep(0.1)
    alone = await did.place_sources(order)
    third = await did.start(order, alone)
    assert alone.before is not None
    counted = await did.credits_taken(third.job_id, alone.before)
    await did.aclose()

    assert while_they_work.before is None, "one that fails would return its credits meanwhile"
    assert taken == [None, None]
    assert counted == account.standin.billed("did")[-1]["units"]


async def test_what_is_left_is_the_accounts_own_number(account: Bench, talk_files: Files) -> None:
    did = DID(account.provider(Vendor.DID).base_url, KEYS[Vendor.DID], {}, timeout_seconds=20)
    before = (await did.probe()).credits_remaining
    ended = account.run(account.video_start(*talk_files))
    after = (await did.probe()).credits_remaining
    await did.aclose()

    assert ended.result is not None
    assert before is not None
    assert after == before - ended.result.usage["credits"]
