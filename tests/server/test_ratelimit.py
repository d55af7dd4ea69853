"""Token buckets: what a person does always passes, what runs wild is slowed, and nobody is known by an address."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hypothesis import given, settings
from hypothesis import strategies as st

from psychophysics_server.web.ratelimit import Buckets, Limits, Rate

STEPS = st.lists(st.floats(0, 3, allow_nan=False), max_size=60)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@settings(max_examples=80, deadline=None, derandomize=True)
@given(steps=STEPS, burst=st.integers(1, 9), per_second=st.floats(0.1, 5))
def test_no_more_passes_than_the_rate_allows_and_no_less(steps, burst, per_second):
    clock = Clock()
    buckets = Buckets(Rate(burst=burst, per_second=per_second), clock=clock)
    level, passed = float(burst), 0
    for step in steps:
        clock.now += step
        level = min(burst, level + step * per_second)
        waited = buckets.wait("one")
        if abs(level - 1) > 1e-6:
            assert (waited == 0) == (level >= 1)
        if waited == 0:
            level, passed = level - 1, passed + 1
    assert passed <= burst + per_second * (clock.now - 100.0) + 1e-6


@settings(max_examples=40, deadline=None, derandomize=True)
@given(steps=STEPS)
def test_whoever_waits_as_told_passes(steps):
    clock = Clock()
    buckets = Buckets(Rate(burst=2, per_second=0.5), clock=clock)
    for step in steps:
        clock.now += step
        if waited := buckets.wait("one"):
            clock.now += waited + 1e-9
            assert buckets.wait("one") == 0


def test_one_bucket_takes_nothing_from_another():
    clock = Clock()
    buckets = Buckets(Rate(burst=1, per_second=1), clock=clock)
    assert buckets.wait("one") == 0
    assert buckets.wait("one") > 0
    assert buckets.wait("two") == 0


def test_memory_is_bounded():
    buckets = Buckets(Rate(burst=1, per_second=1), clock=Clock(), largest=10)
    for number in range(100):
        buckets.wait(str(number))
    assert len(buckets) == 10


def test_many_threads_take_no_more_than_there_is():
    buckets = Buckets(Rate(burst=50, per_second=0.001), clock=Clock())
    with ThreadPoolExecutor(8) as pool:
        waits = list(pool.map(lambda _: buckets.wait("one"), range(400)))
    assert sum(wait == 0 for wait in waits) == 50


def test_a_session_that_runs_wild_waits_while_others_go_on(running):
    wild, other = running.person("wild"), running.person("other")
    limits = Limits()
    limits.session = Buckets(Rate(burst=5, per_second=0.001))
    running.app.extensions["limen"].limits = limits
    codes = [wild.get().status_code for _ in range(8)]
    assert codes == [200] * 5 + [503] * 3
    refused = wild.say("instructions", {"viewed_ms": 5.0})
    assert (refused.status_code, refused.json["error"], refused.headers["Retry-After"]) == (503, "busy", "5")
    assert other.get().status_code == 200


def test_a_flood_of_starts_waits_while_those_who_are_in_go_on(running):
    inside = running.person("inside")
    limits = Limits()
    limits.start = Buckets(Rate(burst=2, per_second=0.001))
    running.app.extensions["limen"].limits = limits
    codes = [running.person(f"person {number}").opened.status_code for number in range(4)]
    assert codes == [201, 201, 503, 503]
    assert inside.get().status_code == 200
    assert running.person("a bot", source="bot").opened.status_code == 201
