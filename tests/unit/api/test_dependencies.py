"""FastAPI runs a plain function among the dependencies in a thread: two switches that cost more than most of them do."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from renderfleet_api import auth, pages, routes


def routes_of(package: Any) -> Iterator[APIRoute]:
    for module in pkgutil.iter_modules(package.__path__):
        router = getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "router", None)
        yield from router.routes if router else ()


def calls_of(dependant: Dependant) -> Iterator[Any]:
    yield dependant.call
    for below in dependant.dependencies:
        yield from calls_of(below)


def is_async(call: Any) -> bool:
    return any(
        inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one) for one in (call, type(call).__call__)
    )


def test_nothing_on_a_requests_way_needs_a_thread():
    every = [*routes_of(routes), *routes_of(pages)]

    plain = {call for route in every for call in calls_of(route.dependant) if not is_async(call)}

    assert plain == set()
    assert len(every) > 40


def test_no_request_pays_its_keys_rate_twice():
    doors = {auth.reader, auth.writer, auth.admin}

    for route in routes_of(routes):
        assert len(doors & set(calls_of(route.dependant))) <= 1, route.path
