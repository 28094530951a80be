import threading

from imitrace_collector.gate import Gate

LONG = 20.0


def test_many_come_in_together() -> None:
    gate = Gate()
    with gate.together(), gate.together():
        pass


def test_one_comes_in_alone_once_the_others_have_left() -> None:
    gate, inside, leave = Gate(), threading.Event(), threading.Event()

    def stay() -> None:
        with gate.together():
            inside.set()
            leave.wait(LONG)

    other = threading.Thread(target=stay)
    other.start()
    assert inside.wait(LONG)
    with gate.alone(0.01) as alone:
        assert not alone
    leave.set()
    with gate.alone(LONG) as alone:
        assert alone
    other.join()


def test_others_wait_while_one_is_alone() -> None:
    gate, order = Gate(), []

    def come() -> None:
        with gate.together():
            order.append("together")

    with gate.alone(LONG) as alone:
        assert alone
        other = threading.Thread(target=come)
        other.start()
        with gate.alone(0.01) as second:
            assert not second
        order.append("alone")
    other.join(LONG)
    assert order == ["alone", "together"]


def test_who_gave_up_keeps_nobody_waiting() -> None:
    gate = Gate()
    with gate.together():
        with gate.alone(0.01) as alone:
            assert not alone
        with gate.together():
            pass
