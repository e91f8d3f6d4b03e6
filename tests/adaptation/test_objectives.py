"""What the unlabelled target teaches, against loops written from the formulas."""

from __future__ import annotations

import math

import pytest
import torch

from munitaug.adaptation.objectives import confirmed_label_loss, information_maximisation, view_consistency


def softmax(row: list[float]) -> list[float]:
    powers = [math.exp(value - max(row)) for value in row]
    return [power / sum(powers) for power in powers]


def entropy(chances: list[float]) -> float:
    return -sum(chance * math.log(chance) for chance in chances if chance > 0.0)


def test_information_maximisation_is_mean_entropy_minus_entropy_of_the_mean() -> None:
    logits = torch.randn(7, 4) * 3.0
    rows = [softmax(row) for row in logits.tolist()]
    mean = [sum(row[label] for row in rows) / 7 for label in range(4)]
    expected = sum(entropy(row) for row in rows) / 7 - entropy(mean)
    assert information_maximisation(logits).item() == pytest.approx(expected, abs=1e-5)


def test_information_maximisation_with_shares_is_mean_entropy_plus_divergence_from_them() -> None:
    torch.manual_seed(0)
    logits, shares = torch.randn(7, 4), torch.tensor([0.4, 0.3, 0.2, 0.1])
    chances = logits.softmax(dim=1)
    each = sum(-sum(float(p) * math.log(float(p)) for p in row) for row in chances) / 7
    mean = chances.mean(dim=0)
    divergence = sum(float(p) * math.log(float(p) / float(q)) for p, q in zip(mean, shares, strict=True))
    assert information_maximisation(logits, shares).item() == pytest.approx(each + divergence, abs=1e-5)
    even = information_maximisation(logits, torch.full((4,), 0.25))
    assert even.item() == pytest.approx(information_maximisation(logits).item() + math.log(4), abs=1e-5)


def test_information_maximisation_of_uniform_predictions_is_zero() -> None:
    assert information_maximisation(torch.zeros(6, 5)).item() == pytest.approx(0.0, abs=1e-6)


def test_information_maximisation_of_sure_and_even_predictions_is_minus_log_of_the_classes() -> None:
    logits = 100.0 * torch.eye(5).repeat(3, 1)
    assert information_maximisation(logits).item() == pytest.approx(-math.log(5), abs=1e-5)


def test_information_maximisation_of_sure_predictions_of_one_class_is_zero() -> None:
    logits = torch.zeros(6, 5)
    logits[:, 2] = 100.0
    assert information_maximisation(logits).item() == pytest.approx(0.0, abs=1e-6)


def test_information_maximisation_has_finite_gradients_at_the_extremes() -> None:
    logits = (1e4 * torch.eye(4)).requires_grad_()
    information_maximisation(logits).backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


def test_view_consistency_is_cross_entropy_with_the_sure_predictions() -> None:
    weak, strong = torch.randn(9, 3) * 4.0, torch.randn(9, 3)
    total, sure = 0.0, 0
    for weak_row, strong_row in zip(weak.tolist(), strong.tolist(), strict=True):
        chances = softmax(weak_row)
        if max(chances) >= 0.8:
            total -= math.log(softmax(strong_row)[chances.index(max(chances))])
            sure += 1
    assert 0 < sure < 9
    assert view_consistency(weak, strong, threshold=0.8).item() == pytest.approx(total / 9, abs=1e-5)


def test_view_consistency_of_unsure_predictions_is_zero() -> None:
    assert view_consistency(torch.zeros(4, 3), torch.randn(4, 3)).item() == 0.0


def test_view_consistency_lets_no_gradient_into_the_weak_view() -> None:
    weak, strong = (5.0 * torch.eye(3)).requires_grad_(), torch.randn(3, 3, requires_grad=True)
    view_consistency(weak, strong).backward()
    assert weak.grad is None
    assert strong.grad is not None


def test_labels_count_where_the_teacher_gives_them_and_is_sure() -> None:
    known = torch.tensor(
        [[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.4, 0.0, 0.0], [0.0, 0.0, 4.0]]
    )  # sure, sure, unsure, sure
    labels = torch.tensor([0, 2, 0, 2])  # right, wrong, right, right
    logits = torch.randn(4, 3)
    rows = [softmax(row) for row in logits.tolist()]
    expected = (-math.log(rows[0][0]) - math.log(rows[3][2])) / 4
    assert confirmed_label_loss(known, logits, labels, 0.9).item() == pytest.approx(expected, abs=1e-5)


def test_no_gradient_flows_into_the_teacher_that_confirms() -> None:
    known = torch.tensor([[9.0, 0.0]], requires_grad=True)
    logits = torch.zeros(1, 2, requires_grad=True)
    confirmed_label_loss(known, logits, torch.tensor([0])).backward()
    assert known.grad is None
    assert logits.grad is not None


def test_the_threshold_itself_is_sure_enough() -> None:
    logits = torch.zeros(1, 2)  # a chance of one half each
    assert view_consistency(logits, torch.tensor([[0.0, 1.0]]), threshold=0.5).item() > 0.5
    assert view_consistency(logits, torch.tensor([[0.0, 1.0]]), threshold=0.51).item() == 0.0
