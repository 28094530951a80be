import imitrace
from imitrace.testing import capture


def emit() -> None:
    with imitrace.trajectory(), imitrace.step("hi") as step:
        step.message("ok")
        imitrace.score("reward", 1)


def test_two_runs_capture_the_same_to_the_last_id_and_time() -> None:
    runs = []
    for _ in range(2):
        with capture() as seen:
            emit()
        runs.append([span.to_json() for span in seen.spans] + [score.to_json() for score in seen.scores])
    assert runs[0] == runs[1]


def test_what_was_captured_can_be_read_inside_and_after() -> None:
    with capture() as seen:
        emit()
        assert (len(seen.steps), len(seen.spans), len(seen.scores)) == (1, 2, 1)
    assert (len(seen.steps), len(seen.spans), len(seen.scores)) == (1, 2, 1)
    assert seen.stats == imitrace.Stats(steps=1, records=3, exported=3)
