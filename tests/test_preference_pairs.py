"""Preference pairs through every scorer and strategy into DPOTrainer, with real (tiny) models."""

import numpy as np
import pytest
from datasets import Dataset

import hf_dsel

WORDS = "sea rain health numbers poem sky France Paris sleep move".split()


def pairs(n=24):
    return Dataset.from_dict(
        {
            "prompt": [f"Write about {WORDS[i % 10]} and {i}." for i in range(n)],
            "chosen": [f"The {WORDS[i % 7]} is {'very ' * (i % 4)}good." for i in range(n)],
            "rejected": [f"No {WORDS[i % 3]}." if i != 5 else "" for i in range(n)],
        }
    )


@pytest.fixture(scope="module")
def scored(tiny_qwen2, tiny_bert, tmp_path_factory):
    scorers = [
        hf_dsel.IFD(tiny_qwen2),
        hf_dsel.NLL(tiny_qwen2),
        hf_dsel.NLL(tiny_qwen2, side="rejected"),
        hf_dsel.Embed(tiny_bert),
        hf_dsel.Length(of="response", unit="words"),
        hf_dsel.Length(of="response", unit="words", side="rejected"),
        hf_dsel.Length(of="example", unit="tokens", tokenizer=tiny_qwen2),
    ]
    return hf_dsel.score(pairs(), scorers, cache_dir=tmp_path_factory.mktemp("scores"))


def test_both_sides_are_scored_side_by_side(scored):
    assert {"ifd", "nll", "rejected_nll", "embedding", "response_words", "rejected_response_words"} <= set(
        scored.column_names
    )
    assert scored["response_words"][0] == 4 and scored["rejected_response_words"][0] == 2
    assert scored["rejected_nll"][5] is None and "empty" in scored["rejected_nll_status"][5]
    assert scored["nll"][5] is not None
    differ = np.asarray(scored["nll"][:6]) - np.asarray([x or 0 for x in scored["rejected_nll"][:6]])
    assert (np.abs(differ) > 1e-4).all()


def test_scorers_of_one_model_share_one_pass(tiny_qwen2, tmp_path):
    hf_dsel.score(pairs(), [hf_dsel.NLL(tiny_qwen2), hf_dsel.IFD(tiny_qwen2)], cache_dir=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["nll+ifd"]


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        ("random", {}),
        ("stratified", {"column": "response_words"}),
        ("mixture", {"column": "response_words", "weights": {"4": 1}}),
        ("curriculum", {"column": "nll", "part": 0.7}),
        ("iterit", {"complexity": "nll", "ceiling": None}),
        ("top_k", {"column": ["nll", "rejected_nll"], "weights": [-1, 1]}),
        ("percentile", {"column": "ifd", "low": 10, "high": 90}),
        ("threshold", {"column": "nll", "low": 0}),
        ("k_center", {"gamma": 1, "quality": "ifd"}),
        ("knn", {"quality": "ifd"}),
        ("pibe", {"quality": "ifd"}),
        ("deita", {"complexity": "nll", "quality": "ifd", "threshold": 0.9999}),
        ("qdit", {"quality": "ifd", "alpha": 0.5}),
        ("qdit_threshold", {"quality": "ifd", "threshold": 0.9999}),
        ("qdit_cluster", {"quality": "ifd", "clusters": 4}),
    ],
)
def test_every_strategy_picks_pairs(scored, strategy, options):
    subset = scored.select_by(strategy, k=6, **options)
    assert len(subset) == 6 and {"prompt", "chosen", "rejected", "selection_rank"} <= set(subset.column_names)
    assert "embedding" not in subset.column_names or strategy in (
        "random",
        "stratified",
        "mixture",
        "curriculum",
        "iterit",
        "top_k",
        "percentile",
        "threshold",
    )


def test_every_strategy_is_here():
    [mark] = [m for m in test_every_strategy_picks_pairs.pytestmark if m.name == "parametrize"]
    assert sorted(name for name, _ in mark.args[1]) == hf_dsel.strategy_names()


def test_the_subset_trains(scored, tiny_qwen2, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    subset = scored.select_by("qdit", k=6, quality="ifd", alpha=0.5)
    args = DPOConfig(
        output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=2, use_cpu=True, bf16=False,
        report_to="none", save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = DPOTrainer(
        AutoModelForCausalLM.from_pretrained(tiny_qwen2), args=args, train_dataset=hf_dsel.to_trl(subset),
        processing_class=AutoTokenizer.from_pretrained(tiny_qwen2),
    )  # fmt: skip
    assert trainer.train().training_loss > 0
