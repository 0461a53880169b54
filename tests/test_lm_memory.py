"""What was learned with a causal LM knows it again, and no other one, wherever it lies."""

import pickle
import shutil

import numpy as np
import pytest
from datasets import Dataset
from transformers import Qwen2Config, Qwen2ForCausalLM, set_seed

from hf_dsel import CausalLM, Gate
from hf_dsel.corruptions import cut_short, words_shuffled
from hf_dsel.gate_file import to_bytes
from hf_dsel.lm_memory import ANSWERS, LMMemory, OtherLM
from hf_dsel.scorers.models import release
from tests.conftest import make_tokenizer, save, sizes
from tests.scorers.test_gate import clean

FEW = (cut_short, words_shuffled)


def qwen2(folder, seed, spread):
    """A random model; the larger the spread of its weights, the less alike two seeds are."""
    set_seed(seed)
    tokenizer = make_tokenizer()
    config = Qwen2Config(**(sizes(tokenizer) | {"initializer_range": spread}), num_key_value_heads=2)
    return save(Qwen2ForCausalLM(config), tokenizer, folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return [qwen2(tmp_path_factory.mktemp(f"lm{seed}"), seed, spread=0.5) for seed in (0, 1)]


def test_it_is_the_nll_of_two_answers(models):
    kept = LMMemory.of(CausalLM(models[0], dtype="float32"))
    assert kept.numbers.shape == (2, 2)
    rows = {"instruction": [asked for asked, _ in ANSWERS], "output": [said for _, said in ANSWERS]}
    plain = CausalLM(models[0], dtype="float32", columns=("nll", "nll_alone"))(rows)
    np.testing.assert_allclose(kept.numbers.T, [plain["nll"], plain["nll_alone"]], rtol=1e-6)
    kept.check(CausalLM(models[0], dtype="bfloat16", columns=("ifd",), side="rejected"), "Gate")
    with pytest.raises(OtherLM, match=r"nll of .* is \d+\.\d{3} nats a token and was \d+\.\d{3}, where"):
        kept.check(CausalLM(models[1]), "Gate")


def test_a_gate_that_was_loaded_refuses_another_lm(models, tmp_path):
    pytest.importorskip("lightgbm", reason="pip install lightgbm")
    pool = Dataset.from_list(clean(320))
    mine = qwen2(tmp_path / "mine", 0, spread=0.5)
    gate = Gate.fit(pool, embedder=None, lm=mine, corruptions=FEW)
    gate.save(tmp_path / "gate")
    rows = pool[:20]
    assert Gate.load(tmp_path / "gate", lm=models[0])(rows)["gate"] == pytest.approx(gate(rows)["gate"], abs=1e-6)
    loaded = Gate.load(tmp_path / "gate", lm=models[1])
    for _ in range(2):  # not at the first use alone
        with pytest.raises(OtherLM, match=rf"'{models[1]}' is another: .*Gate\.fit\(pool, lm='{models[1]}'\)"):
            loaded(rows)
    with pytest.raises(OtherLM):
        pickle.loads(pickle.dumps(loaded))(rows)
    with pytest.raises(OtherLM):
        loaded.for_pool(pool)
    shutil.copytree(models[1], mine, dirs_exist_ok=True)
    release()
    with pytest.raises(OtherLM, match="and it says something else now"):
        Gate.load(tmp_path / "gate")(rows)

    (tmp_path / "old").write_bytes(to_bytes(gate.learned.bare(), lm=CausalLM(models[0], columns=gate._lm.columns)))
    old = Gate.load(tmp_path / "old")  # written before it was remembered
    assert old.learned.lm is None and old(rows)["gate_status"] == ["ok"] * 20
    assert old.settings()["learned"] == gate.settings()["learned"]


def test_smollm2_is_known_again_in_every_precision(smollm2_folder):
    kept = LMMemory.of(CausalLM(smollm2_folder, dtype="float32"))
    kept.check(CausalLM(smollm2_folder, dtype="bfloat16"), "Gate")
    with pytest.raises(OtherLM):
        kept.check(CausalLM(smollm2_folder, template="plain"), "Gate")
