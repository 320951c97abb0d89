"""Log-probabilities and entropies in chunks, and the covariance that predicts the change of entropy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uec.algorithm.entropy import Gradients, covariance, covariance_sums, rows_per_chunk, token_scores


def identity(hidden: torch.Tensor) -> torch.Tensor:
    return hidden


def test_a_uniform_policy_has_entropy_log_v_at_every_token() -> None:
    scores = token_scores(torch.full((5, 111), 3.0), identity, torch.arange(5), rows=2)
    torch.testing.assert_close(scores.entropies_N, torch.full((5,), math.log(111)))
    torch.testing.assert_close(scores.logprobs_N, torch.full((5,), -math.log(111)))


def test_a_policy_of_halves_and_quarters() -> None:
    # p = 1/2, 1/4, 1/4: H = .5 log 2 + 2 * .25 log 4 = 1.5 log 2
    # at T = 1/2 p^2 = 1/4, 1/16, 1/16, normalised 2/3, 1/6, 1/6; at T = 1 and the entropy's T nothing changes
    logits = torch.tensor([[0.5, 0.25, 0.25]]).log().repeat(2, 1) + 7.0
    scores = token_scores(logits, identity, torch.tensor([0, 1]), rows=8, temperatures_N=torch.tensor([0.5, 1.0]))
    torch.testing.assert_close(scores.entropies_N, torch.full((2,), 1.5 * math.log(2)))
    torch.testing.assert_close(scores.logprobs_N, torch.tensor([0.5, 0.25]).log())
    torch.testing.assert_close(scores.tempered_N, torch.tensor([2 / 3, 0.25]).log())


def test_a_certain_policy_has_entropy_zero_and_masked_logits_count_nothing() -> None:
    masked = torch.finfo(torch.float32).min
    scores = token_scores(torch.tensor([[0.0, masked, masked], [0.0, 0.0, masked]]), identity, torch.tensor([0, 1]), rows=8)
    torch.testing.assert_close(scores.entropies_N, torch.tensor([0.0, math.log(2)]))


def test_log_probabilities_of_bfloat16_logits_are_float32() -> None:
    scores = token_scores(torch.randn(3, 50).bfloat16(), identity, torch.tensor([1, 2, 3]), rows=8)
    assert all(part.dtype == torch.float32 for part in scores)


def scores_and_gradients(rows: int, tokens: int, seed: int):
    torch.manual_seed(seed)
    hidden = torch.randn(tokens, 6, requires_grad=True)
    head = torch.nn.Linear(6, 17)
    temperatures = torch.tensor([1.0, 1.2, 0.7])[torch.arange(tokens) % 3]
    scores = token_scores(hidden, head, torch.randint(17, (tokens,)), rows, temperatures)
    (scores.logprobs_N * torch.randn(tokens)).sum().backward()
    assert not scores.entropies_N.requires_grad and not scores.tempered_N.requires_grad
    return scores, (hidden.grad, head.weight.grad, head.bias.grad)


@settings(max_examples=25)
@given(st.integers(1, 30), st.integers(1, 31), st.integers(0, 100))
def test_chunks_of_any_size_give_the_values_and_gradients_of_one_piece(rows: int, tokens: int, seed: int) -> None:
    whole, whole_gradients = scores_and_gradients(1000, tokens, seed)
    chunked, chunked_gradients = scores_and_gradients(rows, tokens, seed)
    for one, other in zip((*whole, *whole_gradients), (*chunked, *chunked_gradients), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6)


def test_log_probabilities_and_entropies_equal_those_of_a_plain_softmax() -> None:
    scores, _ = scores_and_gradients(4, 10, 3)
    torch.manual_seed(3)
    hidden, head = torch.randn(10, 6), torch.nn.Linear(6, 17)
    with torch.no_grad():
        probs = head(hidden).double().softmax(-1)
    targets = torch.randint(17, (10,))
    torch.testing.assert_close(scores.logprobs_N.double(), probs[torch.arange(10), targets].log(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(scores.entropies_N.double(), torch.distributions.Categorical(probs=probs).entropy(), rtol=1e-5, atol=1e-6)
    tempered = head(hidden).detach().double() / torch.tensor([1.0, 1.2, 0.7])[torch.arange(10) % 3, None]
    torch.testing.assert_close(scores.tempered_N.double(), tempered.log_softmax(-1)[torch.arange(10), targets], rtol=1e-5, atol=1e-6)


def test_the_gradient_is_exact() -> None:
    torch.manual_seed(0)
    weight, targets = torch.randn(7, 3, dtype=torch.float64, requires_grad=True), torch.tensor([0, 6, 2, 2, 5])
    hidden = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda h, w: token_scores(h, lambda piece: piece @ w.T, targets, rows=2).logprobs_N, (hidden, weight))


CHUNKS = pytest.mark.parametrize("rows", [100, 2, 1])  # a single chunk, several, one a token
MIXED = torch.tensor([1.0, 1.2, 0.7, 1.0, 2.0])


def gradcheck(part: str, gradients: Gradients, rows: int, temperatures: torch.Tensor | None = MIXED) -> bool:
    """Return whether the gradients of one value, by hidden states and by the head, equal its finite differences."""
    torch.manual_seed(0)
    weight, targets = torch.randn(7, 3, dtype=torch.float64, requires_grad=True), torch.tensor([0, 6, 2, 2, 5])
    hidden = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)

    def score(h: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return getattr(token_scores(h, lambda piece: piece @ w.T, targets, rows, temperatures, gradients), part)

    return torch.autograd.gradcheck(score, (hidden, weight))


@CHUNKS
def test_the_gradient_of_the_entropy_is_exact(rows: int) -> None:
    assert gradcheck("entropies_N", Gradients(entropy=True), rows)
    assert gradcheck("entropies_N", Gradients(entropy=True, tempered=True), rows, temperatures=None)


@CHUNKS
def test_the_gradient_at_the_temperature_of_sampling_is_exact(rows: int) -> None:
    assert gradcheck("tempered_N", Gradients(tempered=True), rows)
    assert gradcheck("tempered_N", Gradients(entropy=True, tempered=True), rows)
    assert gradcheck("tempered_N", Gradients(tempered=True), rows, temperatures=None)  # then that at T = 1


@CHUNKS
def test_the_gradient_of_the_log_probabilities_is_exact_beside_the_others(rows: int) -> None:
    assert gradcheck("logprobs_N", Gradients(entropy=True, tempered=True), rows)


@CHUNKS
def test_gradients_of_all_three_add_up(rows: int) -> None:
    # d/dz_v of H is -p_v (log p_v + H); of log p_a at T it is (1{v = a} - p_v(T)) / T
    torch.manual_seed(1)
    logits, targets = torch.randn(5, 7, dtype=torch.float64, requires_grad=True), torch.tensor([0, 6, 2, 2, 5])
    scores = token_scores(logits, lambda piece: piece * 1.0, targets, rows, MIXED, Gradients(entropy=True, tempered=True))
    (scores.logprobs_N + 2 * scores.entropies_N + 3 * scores.tempered_N).sum().backward()
    logp = logits.detach().log_softmax(-1)
    one_hot = torch.nn.functional.one_hot(targets, 7)
    of_entropy = -logp.exp() * (logp - (logp.exp() * logp).sum(-1, keepdim=True))
    of_tempered = (one_hot - (logits.detach() / MIXED[:, None]).softmax(-1)) / MIXED[:, None]
    torch.testing.assert_close(logits.grad, one_hot - logp.exp() + 2 * of_entropy + 3 * of_tempered)


@CHUNKS
def test_the_entropy_has_a_finite_gradient_where_logits_are_masked_or_the_policy_is_certain(rows: int) -> None:
    masked = torch.finfo(torch.float32).min
    logits = torch.tensor([[0.0, masked, masked], [0.0, 1.0, masked], [500.0, 0.0, 0.0]], requires_grad=True)
    temperatures = torch.tensor([1.2, 0.7, 1.2])
    gradients = Gradients(entropy=True, tempered=True)
    scores = token_scores(logits, lambda piece: piece * 1.0, torch.tensor([0, 1, 0]), rows, temperatures, gradients)
    (scores.entropies_N + scores.tempered_N).sum().backward()
    assert torch.isfinite(logits.grad).all() and not logits.grad[0].any() and not logits.grad[2].any()


def test_entropies_and_tempered_logprobs_have_a_gradient_only_where_asked() -> None:
    hidden = torch.randn(4, 5, requires_grad=True)
    for entropy in (False, True):
        for tempered in (False, True):
            for rows in (2, 100):
                asked = Gradients(entropy=entropy, tempered=tempered)
                scores = token_scores(hidden, lambda piece: piece * 1.0, torch.zeros(4, dtype=torch.long), rows, MIXED[:4], asked)
                assert [part.requires_grad for part in scores] == [True, entropy, tempered]


@settings(max_examples=25)
@given(st.integers(1, 30), st.integers(1, 31), st.integers(0, 100))
def test_values_are_the_same_with_more_gradients(rows: int, tokens: int, seed: int) -> None:
    torch.manual_seed(seed)
    logits, targets = torch.randn(tokens, 9), torch.randint(9, (tokens,))
    temperatures = torch.tensor([1.0, 1.2, 0.7])[torch.arange(tokens) % 3]
    plain = token_scores(logits, identity, targets, rows, temperatures)
    full = token_scores(logits.requires_grad_(), identity, targets, rows, temperatures, Gradients(entropy=True, tempered=True))
    for one, other in zip(plain, full, strict=True):
        torch.testing.assert_close(other.detach(), one)


def saved_for_backward(rows: int) -> int:
    """Return the elements of the largest tensor kept for the backward pass, for 64 tokens of a vocabulary of 1000."""
    sizes = [0]

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel())
        return tensor

    head = torch.nn.Linear(8, 1000, bias=False).requires_grad_(False)  # its weight is no activation
    hidden = torch.randn(64, 8, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        scores = token_scores(hidden, head, torch.zeros(64, dtype=torch.long), rows)
    assert scores.logprobs_N.requires_grad
    return max(size for size in sizes if size != head.weight.numel())


def test_no_logits_are_kept_for_the_backward_pass_where_there_are_several_chunks() -> None:
    assert saved_for_backward(rows=64) == 64 * 1000
    assert saved_for_backward(rows=16) < 1000


@pytest.mark.parametrize(("rows", "gradient"), [(4, True), (4, False), (100, True)])
def test_the_head_never_sees_more_rows_than_asked(rows: int, gradient: bool) -> None:
    seen = []

    def head(hidden: torch.Tensor) -> torch.Tensor:
        seen.append(len(hidden))
        return hidden * 1.0

    hidden = torch.randn(10, 5, requires_grad=gradient)
    scores = token_scores(hidden, head, torch.zeros(10, dtype=torch.long), rows)
    assert seen == ([4, 4, 2] if rows == 4 else [10])
    if gradient:
        scores.logprobs_N.sum().backward()
        assert sorted(seen) == ([2, 2, 4, 4, 4, 4] if rows == 4 else [10])  # one chunk is not computed twice


def test_no_tokens_have_no_log_probabilities_and_a_gradient_of_zero() -> None:
    head = torch.nn.Linear(6, 17)
    scores = token_scores(torch.zeros(0, 6), head, torch.zeros(0, dtype=torch.long), rows=4, temperatures_N=torch.zeros(0))
    scores.logprobs_N.sum().backward()
    assert [len(part) for part in scores] == [0, 0, 0]
    assert head.weight.grad is not None and not head.weight.grad.any()


def test_rows_of_a_chunk_follow_from_vocabulary_and_memory() -> None:
    # 256 MiB / (4 bytes * 151936) = 441.7
    assert rows_per_chunk(151936, 256) == 441
    assert rows_per_chunk(10**9, 1) == 1


def test_the_covariance_of_three_tokens() -> None:
    # l = -1, -2, -3, A = 3, 0, 0: E[l A] = -1, E[l] E[A] = -2 * 1: covariance 1; likely tokens are favoured: entropy falls
    assert covariance(covariance_sums(torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([3.0, 0.0, 0.0]))) == pytest.approx(1.0)


def test_the_covariance_of_no_tokens_is_zero() -> None:
    assert covariance(covariance_sums(torch.zeros(0), torch.zeros(0))) == 0.0


@given(st.integers(1, 50), st.integers(0, 50), st.integers(0, 1000))
def test_covariance_sums_add_over_micro_batches(tokens: int, cut: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logprobs, advantages = rng.normal(-2, 1, tokens), rng.normal(0, 2, tokens)
    l_N, a_N = torch.tensor(logprobs), torch.tensor(advantages)
    sums = covariance_sums(l_N[:cut], a_N[:cut]) + covariance_sums(l_N[cut:], a_N[cut:])
    assert covariance(sums) == pytest.approx(np.cov(logprobs, advantages, ddof=0)[0, 1], abs=1e-9)


def test_the_covariance_predicts_the_sign_of_the_entropy_change() -> None:
    # one policy-gradient step on a softmax policy, exact expectation over its tokens (2505.22617, theorem 1)
    for advantages in (torch.tensor([1.0, 0.0, 0.0, -1.0]), torch.tensor([-1.0, 0.0, 0.0, 1.0])):
        logits = torch.tensor([2.0, 1.0, 0.0, -1.0], requires_grad=True)
        probs = logits.softmax(-1)
        entropy = -(probs * probs.log()).sum()
        (gradient,) = torch.autograd.grad((probs * advantages).sum(), logits)
        after = (logits + 0.01 * gradient).softmax(-1)
        counts = (probs.detach() * 10000).round().long()  # tokens in the proportions of the policy
        sums = covariance_sums(probs.detach().log().repeat_interleave(counts), advantages.repeat_interleave(counts))
        change = (-(after * after.log()).sum() - entropy).item()
        assert change * covariance(sums) < 0
