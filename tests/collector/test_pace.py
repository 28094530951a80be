import itertools

import pytest

from imitrace_collector.pace import Pace, Rest, Speed


def test_nobody_waits_while_nothing_urgent_is_at_work() -> None:
    looks = itertools.count()
    pace = Pace(lambda: next(looks) < 0, share=4)

    pace.give_way()

    assert next(looks) == 1


def test_a_thread_waits_until_the_urgent_work_is_done() -> None:
    looks = itertools.count()
    ticks = itertools.count()
    pace = Pace(lambda: next(looks) < 5, share=4, clock=lambda: float(next(ticks)))

    pace.give_way()

    assert next(looks) == 6


def test_urgent_work_without_an_end_holds_a_thread_up_for_its_share_only() -> None:
    looks = itertools.count()
    ticks = iter([0.0, 10.0, 10.0, 19.0, 19.0, 19.0, 25.0, 25.0])  # began, and of each look: worked until, wait, waited
    pace = Pace(lambda: next(looks) >= 0, share=1, clock=lambda: next(ticks))

    pace.give_way()

    assert next(looks) == 3
    assert next(ticks, None) is None


def test_a_portion_of_work_does_not_count_the_time_that_was_waited() -> None:
    ticks = iter([0.0, 5.0, 6.0, 9.0, 10.0])
    looks = iter([True, False])
    pace = Pace(lambda: next(looks), share=4, clock=lambda: next(ticks))

    pace.give_way()

    assert pace.worked == 10.0 - (9.0 - 6.0)


def test_a_thread_that_must_end_waits_no_more() -> None:
    pace = Pace(lambda: True, share=1_000_000)
    pace.stop()

    pace.give_way()

    assert pace.worked > 0


def test_a_rest_ends_once_nothing_has_come_in_for_a_while() -> None:
    now = [100.0]
    rest = Rest(5, calm=1, latest=30, clock=lambda: now[0])
    assert rest.left() == 5
    now[0] = 104.5
    rest.came()
    assert rest.left() == 1
    now[0] = 105.0
    rest.came()
    assert rest.left() == 1
    now[0] = 106.0
    assert rest.left() == 0


def test_a_rest_ends_though_something_comes_in_all_the_time() -> None:
    now = [100.0]
    rest = Rest(5, calm=1, latest=30, clock=lambda: now[0])
    for now[0] in (110.0, 120.0, 129.5, 130.0):
        rest.came()
    assert rest.left() == 0


def test_a_rest_is_as_long_as_is_asked_for() -> None:
    rest = Rest(5, calm=1, latest=30, clock=lambda: 100.0)
    rest.begin(60)
    assert rest.left() == 60
    rest.begin(2)
    assert rest.left() == 5


def test_how_long_work_takes_is_told_from_how_long_it_took_and_the_last_counts_most() -> None:
    speed = Speed()
    assert speed.seconds(5) is None
    speed.note(0, 9.0)
    assert speed.seconds(5) is None
    speed.note(10, 1.0)
    assert speed.seconds(5) == pytest.approx(0.5)
    for _ in range(20):
        speed.note(10, 2.0)
    assert speed.seconds(5) == pytest.approx(1.0, rel=0.01)
