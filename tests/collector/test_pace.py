import itertools

from imitrace_collector.pace import Pace


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
