"""Log-probabilities and entropies against plain transformers, and the tensors between a trajectory and a forward pass."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from tests.support.varlen import reference_varlen_attn
from uec.config.schema import ModelConfig
from uec.errors import BadInput
from uec.models.attention import VarlenPieces
from uec.models.microbatch import collate
from uec.models.model_config import full_attention
from uec.models.policy import Policy, load_model, sequence_logprobs, verify, without_dropout
from uec.models.rows import Layout, Rows
from uec.types import Continuation, Kind, Trajectory, UpdatePlan

LAYOUT = Layout(torch.device("cpu"), packed=False)
PACKED = Layout(torch.device("cpu"), packed=True)
VARLEN = Layout(torch.device("cpu"), packed=True, pieces=VarlenPieces)
VOCAB = 37
SIZES = {
    "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "initializer_range": 0.3,
}  # fmt: skip


@pytest.fixture(autouse=True)
def varlen_on_cpu(monkeypatch):
    """Compute torch's variable-length attention, which runs on GPUs only, by its definition."""
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", reference_varlen_attn)


def qwen2(**changes) -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    return Qwen2ForCausalLM(Qwen2Config(**{**SIZES, "tie_word_embeddings": True, **changes}))


def sequences(count: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [tuple(rng.integers(3, VOCAB, rng.integers(1, 9), dtype=np.int32) for _ in range(2)) for _ in range(count)]


def continuations(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[Continuation]:
    """Return continuations of different prompts."""
    return [Continuation(number, *pair) for number, pair in enumerate(pairs)]


def laid_out(pairs: list[tuple[np.ndarray, np.ndarray]]) -> Rows:
    """Return tensors with one continuation per row."""
    return LAYOUT.rows([[one] for one in continuations(pairs)], {})


def plain_logits(hf: torch.nn.Module, prompt: np.ndarray, response: np.ndarray) -> Tensor:
    """Return logits [T, V] of a response's tokens by transformers alone: one row, no padding."""
    ids = torch.from_numpy(np.concatenate([prompt, response])).long()[None]
    return hf(input_ids=ids).logits[0, len(prompt) - 1 : -1].double()


def trajectory(**changes) -> Trajectory:
    fields = {
        "group": 0, "index": 0, "prompt": 0, "kind": Kind.REGULAR, "temperature": 1.0, "prompt_tokens": np.array([5, 6], np.int32),
        "tokens": np.array([7, 8, 9], np.int32), "logprobs": np.array([-1, -2, -3], np.float32), "truncated": False, "versions": (0,),
    }  # fmt: skip
    return Trajectory(**{**fields, **changes})


def share(advantages: list[float], right: list[bool]) -> UpdatePlan:
    return UpdatePlan([], [], [], [], advantages=advantages, right=right)


def test_logprobs_and_entropies_equal_those_of_plain_transformers():
    hf, rows = qwen2(), sequences(12)
    temperatures = [1.0, 1.2, 0.7] * 4
    for chunk_mb, hidden_rows in ((256, None), (1, 5)):
        policy = Policy(hf, chunk_mb, VOCAB)
        if hidden_rows:
            policy.head.rows = hidden_rows  # several chunks, the last one short
        batch = laid_out(rows)
        spread = torch.tensor(np.repeat(np.float32(temperatures), [len(r) for _, r in rows]))
        with torch.no_grad():
            scores = policy(batch, spread)
            for k, (prompt, response) in enumerate(rows):
                logits_TV = plain_logits(hf, prompt, response)
                chosen = torch.from_numpy(response).long()[:, None]
                for ours_N, temperature in ((scores.logprobs_N, 1.0), (scores.tempered_N, temperatures[k])):
                    expected = (logits_TV / temperature).log_softmax(-1).gather(1, chosen)[:, 0]
                    np.testing.assert_allclose(batch.split(ours_N)[k], expected, atol=2e-5)
                p_TV = logits_TV.softmax(-1)
                np.testing.assert_allclose(batch.split(scores.entropies_N)[k], -(p_TV * p_TV.log()).sum(-1), atol=2e-5)


def test_gradients_are_those_of_the_full_forward_with_a_mask():
    rows = sequences(6, seed=1)
    batch = laid_out(rows)
    weights = torch.linspace(-1, 1, len(batch.row_N))
    ours, theirs = qwen2(), qwen2()
    policy = Policy(ours, 256, VOCAB)
    policy.head.rows = 4
    (policy(batch).logprobs_N * weights).sum().backward()
    mask_BL = torch.zeros_like(batch.ids_BL)
    for row, (prompt, response) in enumerate(rows):
        mask_BL[row, : len(prompt) + len(response)] = 1
    logprobs_BLV = theirs(input_ids=batch.ids_BL, attention_mask=mask_BL).logits.log_softmax(-1)
    (logprobs_BLV[batch.row_N, batch.from_N].gather(1, batch.targets_N()[:, None])[:, 0] * weights).sum().backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, atol=2e-5, rtol=1e-4)


def test_a_uniform_policy_has_the_entropy_of_its_vocabulary():
    hf = qwen2(tie_word_embeddings=False)
    torch.nn.init.zeros_(hf.lm_head.weight)
    rows = continuations([(np.array([3, 4]), np.array([5, 6, 7]))])
    [logprobs], [entropies] = sequence_logprobs(Policy(hf, 256, VOCAB), rows, LAYOUT, {}, 100)
    np.testing.assert_allclose(entropies, math.log(VOCAB), rtol=1e-6)
    np.testing.assert_allclose(logprobs, -math.log(VOCAB), rtol=1e-6)


def test_ids_beyond_the_tokenizer_get_no_probability():
    hf = qwen2(tie_word_embeddings=False)
    torch.nn.init.zeros_(hf.lm_head.weight)
    [logprobs], [entropies] = sequence_logprobs(Policy(hf, 256, 30), continuations([(np.array([3]), np.array([5, 6]))]), LAYOUT, {}, 100)
    np.testing.assert_allclose(logprobs, -math.log(30), rtol=1e-6)
    np.testing.assert_allclose(entropies, math.log(30), rtol=1e-6)


@pytest.mark.parametrize(
    "hf",
    [
        pytest.param(lambda: qwen2(), id="qwen2"),
        pytest.param(lambda: qwen2(tie_word_embeddings=False), id="qwen2-untied"),
        pytest.param(lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=0.5)), id="gemma2-caps-logits"),
        pytest.param(lambda: CohereForCausalLM(CohereConfig(**SIZES, logit_scale=3.0)), id="cohere-scales-logits"),
        pytest.param(lambda: GraniteForCausalLM(GraniteConfig(**SIZES, logits_scaling=0.1)), id="granite-divides-logits"),
        pytest.param(lambda: GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4)), id="gpt2-absolute-positions"),
    ],
)
def test_architectures_have_the_logprobs_of_their_forward_pass(hf):
    torch.manual_seed(0)
    model = hf()
    without_dropout(model)
    policy = Policy(model, 256, VOCAB)
    for layout in (PACKED, VARLEN) if full_attention(model.config) else (LAYOUT,):
        assert verify(policy, policy, layout) is None  # raises where they differ


def test_a_model_that_transforms_its_logits_in_an_unknown_way_is_refused():
    class Sharpened(Qwen2ForCausalLM):
        def forward(self, *args, **kwargs):
            out = super().forward(*args, **kwargs)
            out.logits = out.logits * 1.01
            return out

    torch.manual_seed(0)
    policy = Policy(Sharpened(Qwen2Config(**SIZES)), 256, VOCAB)
    with pytest.raises(BadInput, match="Sharpened cannot be trained"):
        verify(policy, policy, LAYOUT)


@pytest.mark.parametrize(
    "hf",
    [
        pytest.param(lambda: qwen2(attention_dropout=0.5), id="attention"),
        pytest.param(lambda: GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, resid_pdrop=0.5)), id="modules"),
    ],
)
def test_a_model_in_training_mode_has_no_dropout_and_keeps_its_config(hf):
    model = hf()
    config = model.config.to_dict()
    without_dropout(model)
    policy = Policy(model, 256, VOCAB).train()
    rows = continuations(sequences(3))
    training, _ = sequence_logprobs(policy, rows, LAYOUT, {}, 100)
    evaluating, _ = sequence_logprobs(policy.eval(), rows, LAYOUT, {}, 100)
    for a, b in zip(training, evaluating, strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.config.to_dict() == config


def test_gradient_checkpointing_changes_no_gradient():
    batch = laid_out(sequences(4))
    gradients = []
    for on in (False, True):
        policy = Policy(qwen2(), 256, VOCAB).train()
        if on:
            policy.hf.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        policy(batch).logprobs_N.sum().backward()
        gradients.append([parameter.grad for parameter in policy.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed, atol=1e-6, rtol=1e-6)


def test_sequences_keep_their_order_under_every_budget():
    policy = Policy(qwen2(), 256, VOCAB)
    rows = [*sequences(9), (np.array([3, 4]), np.empty(0, np.int32))]
    together = sequence_logprobs(policy, continuations(rows), LAYOUT, {}, 10_000)
    apart = sequence_logprobs(policy, continuations(rows), LAYOUT, {}, 1)
    for one, other in zip(together, apart, strict=True):
        assert [len(values) for values in one] == [len(response) for _, response in rows]
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5)


def test_rows_are_padded_on_the_right_and_point_at_their_response_tokens():
    rows = laid_out([(np.array([5, 6]), np.array([8])), (np.array([7]), np.array([9, 10, 11]))])
    assert rows.ids_BL.tolist() == [[5, 6, 8, 0], [7, 9, 10, 11]]
    assert (rows.row_N.tolist(), rows.from_N.tolist(), rows.col_N.tolist()) == ([0, 1, 1, 1], [1, 0, 1, 2], [2, 1, 2, 3])
    assert rows.pieces is None and rows.positions is None
    assert rows.targets_N().tolist() == [8, 9, 10, 11]
    assert (rows.counts, rows.tokens) == ([1, 3], 7)


def test_no_rows_still_run_a_forward_and_a_backward_pass():
    policy = Policy(qwen2(), 256, VOCAB)
    batch = collate([], [], [], LAYOUT, {})
    scores = policy(batch.rows, batch.temperatures_N)
    assert scores.logprobs_N.shape == (0,)
    scores.logprobs_N.sum().backward()
    assert all(float(parameter.grad.abs().max()) == 0 for parameter in policy.parameters())


def test_a_prompt_without_tokens_is_refused():
    with pytest.raises(BadInput, match="a prompt without tokens"):
        laid_out([(np.array([3]), np.array([4])), (np.empty(0, np.int32), np.array([5]))])


def test_a_micro_batch_spreads_each_rows_values_over_its_tokens():
    tokens, logprobs = np.array([7], np.int32), np.array([-4], np.float32)
    hot = trajectory(kind=Kind.EXPLORATION, tokens=tokens, logprobs=logprobs, temperature=1.2, versions=(3,))
    batch = collate([[0], [1]], [trajectory(), hot], share([0.5, -1.0], [False, True]), LAYOUT, {})
    assert batch.advantages_N.tolist() == [0.5, 0.5, 0.5, -1.0]
    assert batch.temperatures_N is not None and batch.temperatures_N.tolist() == pytest.approx([1, 1, 1, 1.2])
    assert batch.behaviour_N.tolist() == [-1, -2, -3, -4]
    assert batch.exploration_N.tolist() == batch.right_N.tolist() == [False] * 3 + [True]
    assert batch.version_N.tolist() == [0, 0, 0, 3]
    assert batch.stored_N is None


@pytest.mark.parametrize("layout", [LAYOUT, PACKED, VARLEN], ids=["padded", "blocks", "varlen"])
def test_observations_are_read_but_get_no_log_probability_and_no_loss(layout: Layout):
    policy = Policy(qwen2(), 256, VOCAB)
    mask = np.array([True, True, False, False, True])
    fields = {"tokens": np.array([7, 8, 9, 10, 11], np.int32), "logprobs": np.array([-1, -2, 0, 0, -3], np.float32)}
    turns = trajectory(**fields, generated=mask, versions=(3, 5))
    plan = share([0.5, -1.0], [False, True])
    batch = collate([[0], [1]], [turns, trajectory(prompt=1)], plan, layout, {})
    whole = policy(layout.rows([[trajectory(**fields)], [trajectory(prompt=1)]], {})).logprobs_N
    masked = policy(batch.rows).logprobs_N
    torch.testing.assert_close(masked, whole[torch.tensor([0, 1, 4, 5, 6, 7])])
    assert batch.rows.counts == [3, 3] and batch.rows.tokens == 2 + 5 + 2 + 3
    assert batch.advantages_N.tolist() == [0.5] * 3 + [-1.0] * 3
    assert batch.behaviour_N.tolist() == [-1, -2, -3, -1, -2, -3]
    assert batch.version_N.tolist() == [3, 3, 5, 0, 0, 0]


def test_rows_without_stored_logprobs_are_marked_beside_those_with():
    rows = [trajectory(), trajectory(old_logprobs=np.array([-7, -8, -9], np.float32))]
    batch = collate([[0], [1]], rows, share([1.0, 1.0], [False, False]), LAYOUT, {})
    assert batch.stored_N is not None
    assert batch.stored_N.isnan().tolist() == [True] * 3 + [False] * 3
    assert batch.stored_N[3:].tolist() == [-7, -8, -9]
    assert batch.temperatures_N is None


def test_pickled_weights_are_not_read(tmp_path: Path):
    hf = qwen2()
    hf.config.save_pretrained(tmp_path)
    torch.save(hf.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(BadInput, match="no file named model.safetensors"):
        load_model(ModelConfig(path=str(tmp_path)), str(tmp_path), "float32")


def test_a_loaded_model_has_the_dtype_asked_for(tmp_path: Path):
    qwen2(attention_dropout=0.1).save_pretrained(tmp_path)
    hf = load_model(ModelConfig(path=str(tmp_path)), str(tmp_path), "bfloat16")
    assert {parameter.dtype for parameter in hf.parameters()} == {torch.bfloat16}
    assert hf.model.layers[0].self_attn.attention_dropout == 0.0
    assert hf.config.attention_dropout == 0.1


def test_split_values_are_copies():
    rows = Rows(torch.zeros(1, 3, dtype=torch.long), torch.zeros(2, dtype=torch.long), torch.tensor([0, 1]), torch.tensor([1, 2]), [2], 3)
    values = torch.tensor([1.0, 2.0])
    [part] = rows.split(values)
    values.zero_()
    assert part.tolist() == [1.0, 2.0]


def shared(pairs: list[tuple[int, int, int]], seed: int = 0) -> list[list[Continuation]]:
    """Return rows, each a prompt of P tokens with k responses of up to T tokens."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, (p, k, t) in enumerate(pairs):
        prompt = rng.integers(3, VOCAB, p, dtype=np.int32)
        rows.append([Continuation(number, prompt, rng.integers(3, VOCAB, rng.integers(1, t + 1), dtype=np.int32)) for _ in range(k)])
    return rows


def test_a_packed_row_holds_each_prompt_once_and_its_responses_begin_where_it_ends():
    one, two = [np.array(values, np.int32) for values in ([5, 6], [8], [9, 10])], [np.array(values, np.int32) for values in ([7], [3, 4])]
    rows = PACKED.rows([[Continuation(0, one[0], one[1]), Continuation(0, one[0], one[2])], [Continuation(1, *two)]], {})
    assert rows.ids_BL.tolist() == [[5, 6, 8, 9, 10, 7, 3, 4]]
    assert rows.positions.tolist() == [[0, 1, 2, 2, 3, 0, 1, 2]]
    assert rows.row_N.tolist() == [0] * 5
    assert rows.from_N.tolist() == [1, 1, 3, 5, 6]  # first tokens follow their prompt's last
    assert rows.col_N.tolist() == [2, 3, 4, 6, 7]
    assert rows.response_N().tolist() == [0, 1, 1, 2, 2]
    assert rows.tokens == 8  # and no padding


def seen(rows: Rows) -> list[list[int]]:
    """Return the columns to which each token of a packed row attends, by its blocks."""
    found: dict[int, list[int]] = {}
    for block in rows.pieces.blocks:
        T = block.query_ST.shape[1]
        for s, queries in enumerate(block.query_ST.tolist()):
            for t in range(T):
                keys = block.key_SK[s].tolist()
                looks = [j <= t for j in range(T)] if block.mask_S1TK is None else block.mask_S1TK[s, 0, t].tolist()
                found[len(found)] = [queries[t], *(key for key, look in zip(keys, looks, strict=True) if look)]
    chosen = [found[place] for place in rows.pieces.place_N.tolist()]
    assert [token[0] for token in chosen] == list(range(rows.tokens))  # each query has its place in the output
    return [sorted(token[1:]) for token in chosen]


def test_a_prompt_attends_to_itself_and_a_response_to_its_prompt_and_itself():
    def group(number: int, prompt: int, *responses: int) -> list[Continuation]:
        return [Continuation(number, np.ones(prompt, np.int32), np.ones(response, np.int32)) for response in responses]

    assert seen(PACKED.rows([group(0, 2, 1, 2), group(1, 1, 1)], {})) == [[0], [0, 1], [0, 1, 2], [0, 1, 3], [0, 1, 3, 4], [5], [5, 6]]
    # Very different lengths in separate blocks, empty responses, and responses so long that they are joined to their prompt.
    sizes = [(40, (3, 70, 0, 20)), (1, (17,)), (9, (0,)), (20, (1, 1)), (4, (90, 2, 92)), (11, (75, 76))]
    expected: list[list[int]] = []
    for prompt, responses in sizes:
        first = len(expected)
        expected += [list(range(first, first + i + 1)) for i in range(prompt)]
        for response in responses:
            begin = len(expected)
            expected += [[*range(first, first + prompt), *range(begin, begin + i + 1)] for i in range(response)]
    rows = PACKED.rows([group(i, prompt, *responses) for i, (prompt, responses) in enumerate(sizes)], {})
    assert seen(rows) == expected
    causal = sorted(tuple(block.query_ST.shape) for block in rows.pieces.blocks if block.mask_S1TK is None)
    assert causal == [(1, 20), (1, 40), (1, 87), (2, 96), (4, 11)]  # 11 + 76, 4 + 90 and 4 + 92: longer by more than 64


SHORT, JOINED = [(6, 4, 5), (3, 1, 7), (9, 8, 3), (2, 2, 9)], [(6, 4, 150), (3, 5, 110), (40, 2, 130)]


ARCHITECTURES = {
    "qwen2": qwen2,
    "granite": lambda: GraniteForCausalLM(GraniteConfig(**SIZES, attention_multiplier=0.3)),  # another scale than 1 / sqrt(head_dim)
    "cohere": lambda: CohereForCausalLM(CohereConfig(**SIZES, use_qk_norm=True)),
    "one-key-head": lambda: qwen2(num_key_value_heads=1),
}


def in_float64(make) -> Policy:  # norms stay in float32
    torch.manual_seed(0)
    return Policy(make().double(), 256, VOCAB)


@pytest.mark.parametrize("layout", (PACKED, VARLEN), ids=("blocks", "varlen"))
@pytest.mark.parametrize("groups", (SHORT, JOINED), ids=("short", "joined"))
@pytest.mark.parametrize("make", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_responses_that_share_a_row_have_the_logprobs_and_gradients_of_separate_rows(make, groups, layout):
    rows = shared(groups)
    flat = [one for row in rows for one in row]
    together, apart = in_float64(make), in_float64(make)
    ours_N = together(layout.rows(rows, {})).logprobs_N
    theirs_N = apart(LAYOUT.rows([[one] for one in flat], {})).logprobs_N
    torch.testing.assert_close(ours_N, theirs_N, atol=1e-6, rtol=0)
    weights_N = torch.linspace(-1, 1, len(ours_N), dtype=torch.float64)
    (ours_N * weights_N).sum().backward()
    (theirs_N * weights_N).sum().backward()
    for mine, other in zip(together.parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, atol=5e-6, rtol=1e-4)


def test_banned_tokens_get_no_probability_and_entropy_stays_finite():
    hf = qwen2(tie_word_embeddings=False)
    torch.nn.init.zeros_(hf.lm_head.weight)
    policy = Policy(hf, 256, VOCAB, banned=[4, 9, 30])
    [logprobs], [entropies] = sequence_logprobs(policy, continuations([(np.array([3]), np.array([5, 9]))]), LAYOUT, {}, 100)
    assert logprobs[0] == pytest.approx(-math.log(VOCAB - 3), rel=1e-6)
    assert logprobs[1] < -1e8
    np.testing.assert_allclose(entropies, math.log(VOCAB - 3), rtol=1e-6)


def test_sliding_windows_are_not_packed_and_a_model_that_ignores_pieces_is_refused():
    assert not full_attention(Gemma2Config(**SIZES, head_dim=8))
    assert full_attention(Qwen2Config(**SIZES))

    class Heedless(Qwen2ForCausalLM):
        @property
        def base_model(self):
            return lambda pieces=None, **inputs: self.model(**inputs)

    torch.manual_seed(0)
    policy = Policy(Heedless(Qwen2Config(**SIZES)), 256, VOCAB)
    with pytest.raises(BadInput, match="learner.shared_prefix=false"):
        verify(policy, policy, PACKED)
    assert verify(policy, policy, LAYOUT) is None


def test_a_model_with_custom_attention_is_refused_only_with_packed_rows():
    class Own(Qwen2ForCausalLM):
        _supports_attention_backend = False

    policy = Policy(Own(Qwen2Config(**SIZES)), 256, VOCAB)
    with pytest.raises(BadInput, match="rows of Own cannot be packed.*learner.shared_prefix=false"):
        verify(policy, policy, PACKED)
    assert verify(policy, policy, LAYOUT) is None
