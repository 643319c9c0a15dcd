import asyncio

import pytest

from renderfleet_bench.wire import Answer, Arrivals, Connection, Target, Volley, marks_in, whole_answer
from renderfleet_cluster.say import Trouble

TARGET = Target("127.0.0.1", 8080, {"Authorization": "Bearer k"})


def test_a_request_carries_what_all_carry_and_its_own():
    made = TARGET.request("POST", "/voice", b"{}", Idempotency_Key="a")

    head, _, body = made.partition(b"\r\n\r\n")
    first, *headers = head.split(b"\r\n")
    assert first == b"POST /voice HTTP/1.1"
    assert set(headers) == {
        b"Host: 127.0.0.1:8080",
        b"Authorization: Bearer k",
        b"Idempotency-Key: a",
        b"Content-Type: application/json",
        b"Content-Length: 2",
    }
    assert body == b"{}"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", None, id="head incomplete"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", None, id="body incomplete"),
        pytest.param(
            b"HTTP/1.1 202 Accepted\r\nContent-Length: 3\r\n\r\nabc", Answer(202, b"abc"), id="body by length"
        ),
        pytest.param(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n", Answer(201, b""), id="empty body"),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", Answer(304, b""), id="no body at all"),
        pytest.param(
            b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", None, id="last chunk missing"
        ),
        pytest.param(
            b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            Answer(201, b"2\r\n{}\r\n0\r\n\r\n"),
            id="all chunks",
        ),
    ],
)
def test_an_answer_is_whole_when_its_body_is(raw, expected):
    assert whole_answer(raw) == expected


async def test_an_answer_may_come_in_pieces():
    connection = Connection()
    connection._transport = _Deaf()
    asking = asyncio.create_task(connection.ask(b"GET"))
    await asyncio.sleep(0)

    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{")
    assert not asking.done()
    connection.data_received(b"}")

    assert await asking == Answer(200, b"{}")


async def test_a_connection_that_breaks_is_an_error_not_a_wait():
    connection = Connection()
    connection._transport = _Deaf()
    asking = asyncio.create_task(connection.ask(b"GET"))
    await asyncio.sleep(0)

    connection.connection_lost(None)

    with pytest.raises(ConnectionResetError):
        await asking
    with pytest.raises(ConnectionResetError):
        await connection.ask(b"GET")


def test_a_rate_counts_the_time_that_the_last_answers_took():
    assert Volley(count=300, seconds=2.5).per_second == 120


def test_marks_are_read_from_whole_events_only():
    received = bytearray(
        b'id: 4\nevent: changed\ndata: {"message":"mark-3","status":"Running"}\n\n'
        b": ping\n\n"
        b'id: 5\nevent: end\ndata: {"message": "mark-4"}\n\n'
        b'event: done\ndata: {"message":"mark-4"}\n\nid: 6\nevent: chan'
    )

    assert marks_in(received) == ["mark-3", "mark-4", "done"]
    assert received == b"id: 6\nevent: chan", "the rest waits for its other half"
    assert marks_in(received) == []


def test_events_in_chunks_are_events():
    received = bytearray(b'2a\r\nevent: changed\ndata: {"message":"mark-12"}\n\n\r\n')

    assert marks_in(received) == ["mark-12"]


async def test_delays_are_told_when_all_listeners_have_it():
    arrivals = Arrivals()
    waiting = asyncio.create_task(arrivals.until_all_have("mark-1", 2, 5))
    arrivals.note("mark-1")
    await asyncio.sleep(0)
    assert not waiting.done()

    arrivals.note("mark-1")
    await waiting

    first, second = arrivals.delays("mark-1", since=0)
    assert first <= second
    assert arrivals.delays("mark-2", since=0) == []


async def test_a_listener_that_hears_nothing_is_trouble():
    arrivals = Arrivals()
    arrivals.note("mark-1")

    with pytest.raises(Trouble, match="1 of 2 listeners have mark-1"):
        await arrivals.until_all_have("mark-1", 2, 0.01)


class _Deaf(asyncio.Transport):
    def write(self, data):
        pass
