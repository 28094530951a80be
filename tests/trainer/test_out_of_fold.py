import numpy as np

from imitrace_trainer.out_of_fold import FOLDS, fold_of, out_of_fold, sketch


def test_decisions_of_one_task_are_in_one_fold_and_folds_have_as_many_tasks() -> None:
    tasks = [f"t{number % 20}" for number in range(60)]
    folds = fold_of(tasks)
    assert all(len({int(fold) for fold, name in zip(folds, tasks, strict=True) if name == task}) == 1 for task in tasks)
    assert np.bincount(folds).tolist() == [60 // FOLDS] * FOLDS


def test_a_feature_that_tells_the_action_is_learnt_from_other_tasks() -> None:
    labels = np.arange(200) % 2
    sketches = [sketch({"said": [100 + int(label), 500 + row]}) for row, label in enumerate(labels)]
    folds = fold_of([f"t{row}" for row in range(200)])
    shares = out_of_fold(sketches, labels, folds)
    assert (shares.argmax(axis=1) == labels).all()
    assert np.allclose(shares.sum(axis=1), 1, atol=1e-5)
    assert (shares == out_of_fold(sketches, labels, folds)).all()


def test_what_only_a_decision_of_the_same_task_tells_is_not_known() -> None:
    labels = np.array([task % 2 for task in range(50) for _ in range(4)])
    sketches = [sketch({"said": [1_000 + row // 4]}) for row in range(200)]
    shares = out_of_fold(sketches, labels, fold_of([f"t{row // 4}" for row in range(200)]))
    assert (shares.argmax(axis=1) == labels).mean() < 0.8


def test_a_state_without_features_has_an_empty_sketch() -> None:
    assert len(sketch({"said": [], "seen": []}).columns) == 0
