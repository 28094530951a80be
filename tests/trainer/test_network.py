"""The two networks against arithmetic done by hand and by plain torch."""

import pytest
import torch

from imitrace_trainer.affordances import AFFORDANCES
from imitrace_trainer.features import GROUPS
from imitrace_trainer.network import ArgumentNetwork, ChoiceNetwork, NetworkConfig, group_log_softmax

SIZES = NetworkConfig(features=7, descriptions=4, slots=6, actions=3, width=2, hidden=5)


def bags(batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    count = batch * len(GROUPS)
    return torch.arange(count) % 7, torch.linspace(0.1, 1.0, count), torch.arange(count)


@pytest.fixture
def choice() -> ChoiceNetwork:
    torch.manual_seed(0)
    network = ChoiceNetwork(SIZES).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    return network


def test_log_probabilities_within_groups_are_those_of_plain_torch() -> None:
    torch.manual_seed(0)
    scores, groups = torch.randn(40) * 30, torch.randint(0, 6, (40,))
    grouped = group_log_softmax(scores, groups, 7)
    for group in range(6):
        assert torch.allclose(grouped[groups == group], scores[groups == group].log_softmax(0), atol=1e-5)


def test_gradients_within_groups_are_those_of_plain_torch() -> None:
    scores = torch.tensor([1.0, -2.0, 500.0, 0.5, 3.0], requires_grad=True)
    groups = torch.tensor([0, 1, 0, 1, 1])
    ours = torch.autograd.grad(group_log_softmax(scores, groups, 2)[[2, 4]].sum(), scores)[0]
    plain = sum(scores[groups == group].log_softmax(0)[-1] for group in (0, 1))
    assert torch.allclose(ours, torch.autograd.grad(torch.as_tensor(plain), scores)[0], atol=1e-6)


def test_the_wide_path_is_a_weighted_sum_of_rows(choice: ChoiceNetwork) -> None:
    rows, weights, offsets = bags(1)
    wide, hidden = choice.embed(rows, weights, offsets)
    assert torch.allclose(wide[0], (choice.table.weight[rows, :3] * weights[:, None]).sum(0), atol=1e-6)
    assert hidden.shape == (1, 5)


def test_states_of_a_batch_do_not_touch_each_other(choice: ChoiceNetwork) -> None:
    rows, weights, offsets = bags(2)
    affordance, descriptions = torch.rand(2, 3, AFFORDANCES), torch.rand(3, 5)
    both, _ = choice((rows, weights, offsets), affordance, descriptions)
    half = len(GROUPS)
    second, _ = choice((rows[half:], weights[half:], offsets[:half]), affordance[1:], descriptions)
    assert torch.allclose(both[1], second[0], atol=1e-5)


def test_a_new_tool_is_scored_by_its_description_and_affordance_alone(choice: ChoiceNetwork) -> None:
    affordance, descriptions = torch.rand(1, 4, AFFORDANCES), torch.rand(4, 5)
    logits, hidden = choice(bags(1), affordance, descriptions)
    fitting = affordance[0, 3] @ choice.shared_affordance.weight[0]
    assert logits[0, 3].item() == pytest.approx(
        (hidden[0] @ descriptions[3] + choice.bias.min() + fitting).item(), 1e-5
    )


def test_a_new_tool_that_is_just_like_a_known_one_gets_its_score(choice: ChoiceNetwork) -> None:
    affordance, descriptions = torch.rand(1, 4, AFFORDANCES), torch.rand(4, 5)
    affordance[0, 3], descriptions[3] = affordance[0, 1], descriptions[1]
    logits, _ = choice(bags(1), affordance, descriptions, torch.tensor([[0.0, 1.0, 0.0]]))
    assert logits[0, 3].item() == pytest.approx(logits[0, 1].item(), 1e-5)


def test_a_new_tool_leaves_the_known_ones_scores_alone(choice: ChoiceNetwork) -> None:
    affordance, descriptions = torch.rand(1, 4, AFFORDANCES), torch.rand(4, 5)
    with_new, _ = choice(bags(1), affordance, descriptions)
    without, _ = choice(bags(1), affordance[:, :3], descriptions[:3])
    assert torch.allclose(with_new[:, :3], without, atol=1e-5)


def test_the_ranker_scores_each_candidate_by_its_own_rows() -> None:
    torch.manual_seed(0)
    ranker = ArgumentNetwork(SIZES)
    rows = torch.tensor([1, 2, 3, 3, 5])
    together = ranker(rows, torch.tensor([0, 2, 2, 4]))
    alone = [ranker(part, torch.tensor([0]))[0] for part in (rows[:2], rows[:0], rows[2:4], rows[4:])]
    assert torch.allclose(together, torch.stack(alone), atol=1e-6)


def test_networks_without_any_known_feature_still_answer() -> None:
    empty = NetworkConfig(features=0, descriptions=0, slots=0, actions=1)
    nothing, weights = torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    offsets = torch.zeros(len(GROUPS), dtype=torch.int64)
    logits, _ = ChoiceNetwork(empty).eval()(
        (nothing, weights, offsets), torch.zeros(1, 1, AFFORDANCES), torch.zeros(1, 96)
    )
    assert logits.shape == (1, 1)
    assert torch.isfinite(logits).all()
    assert ArgumentNetwork(empty)(nothing, torch.zeros(2, dtype=torch.int64)).shape == (2,)
