from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2ForCausalLM

from hf_dsel.scorers import token_stats as module
from hf_dsel.scorers.token_stats import stats_of, token_stats

SEQUENCES = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14, 15, 16, 17, 18, 19]]
N_SCORED = [2, 1, 7]


class WithoutABody(Qwen2ForCausalLM):
    """A model whose body nobody can find, like some that bring their own code."""

    base_model_prefix = "nowhere"


@pytest.fixture
def model(tiny_qwen2):
    return AutoModelForCausalLM.from_pretrained(tiny_qwen2, dtype=torch.float32).eval()


@pytest.mark.parametrize("distribution", [True, False])
def test_the_size_of_a_head_chunk_does_not_matter(model, distribution, monkeypatch):
    options = {"distribution": distribution, "batch_tokens": 1000}
    whole = token_stats(model, SEQUENCES, N_SCORED, **options)
    monkeypatch.setitem(module.HEAD_BYTES, "cpu", 4 * model.config.vocab_size * 3)  # three tokens
    calls = []
    model.lm_head.register_forward_hook(lambda _, __, output: calls.append(output.shape[-2]))
    chunked = token_stats(model, SEQUENCES, N_SCORED, **options)
    assert [a.shape for a in whole] == [(n, 5 if distribution else 1) for n in N_SCORED]
    for a, b in zip(whole, chunked, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert max(calls[-4:]) == 3 and sum(calls[-4:]) == sum(N_SCORED)  # only scored tokens, three at a time


def test_a_model_that_cannot_be_split_gives_the_same(model):
    whole = WithoutABody(model.config).eval()
    whole.load_state_dict(model.state_dict())
    options = {"distribution": True, "batch_tokens": 1000}
    for a, b in zip(
        token_stats(model, SEQUENCES, N_SCORED, **options),
        token_stats(whole, SEQUENCES, N_SCORED, **options),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert not module._splits[whole] and module._splits[model]


def test_the_body_is_put_back(model):
    body = model.model
    token_stats(model, SEQUENCES, N_SCORED, distribution=False, batch_tokens=10)
    assert model.model is body


def test_impossible_tokens_do_not_spoil_the_entropy():
    logits = torch.tensor([[0.0, 0.0, -torch.inf], [5.0, -torch.inf, -torch.inf]])
    got = stats_of(logits, torch.tensor([1, 0]), True)
    np.testing.assert_allclose(got[0], [np.log(2), np.log(2), 0, 0.5, np.sqrt(0.5)], atol=1e-6)
    np.testing.assert_allclose(got[1], [0, 0, 1, 0, 0], atol=1e-6)
