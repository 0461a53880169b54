"""IterIT whole: IFD of the model in training, times words that no pick has, over the best of the first round."""

import numpy as np
import pytest
from datasets import Dataset

import hf_dsel
from hf_dsel.training.reselect import Reselect
from tests.conftest import save
from tests.strategies.test_iterit import by_formula
from tests.training.tiny_runs import sft

WORDS = "the sea is blue and rain falls in Paris so take a coat".split()


def pool(n=40):
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, size=rng.integers(2, 9))) for _ in range(n)]
    asked = [f"Say {'abcdefghij'[i % 10]}{'klmno'[i // 10]}." for i in range(n)]  # a saved tokenizer splits numbers
    return Dataset.from_dict({"instruction": asked, "input": [""] * n, "output": texts})


@pytest.mark.parametrize("given", [True, False])
def test_rounds_of_the_paper(tmp_path, given):
    rows, k = pool(), 6
    trainer = sft(rows, output_dir=str(tmp_path / "out"), save_strategy="epoch", per_device_train_batch_size=2)
    model = save(trainer.model, trainer.processing_class, tmp_path / "start")
    ceiling = {"ceiling": 1.2}  # a model of random weights
    reselect = Reselect("iterit", k, score="ifd", narrow=3, params=ceiling)
    reselect.bind(trainer, rows if given else None)
    trainer.train()

    candidates = None
    for number in range(3):
        scored = hf_dsel.score(rows, hf_dsel.IFD(model, dtype="float32"))
        if candidates is None:
            candidates = np.sort(by_formula(scored, 3 * k, **ceiling)[0])
            assert len(candidates) == 3 * k
        expected, gains = by_formula(scored.select(candidates), k, **ceiling)
        found = reselect.selections[number]
        assert found.indices.tolist() == candidates[expected].tolist()
        assert found.gains == pytest.approx(gains, rel=1e-4)
        model = str(tmp_path / f"out/checkpoint-{3 * (number + 1)}")
    assert reselect.selections[2].indices.tolist() != reselect.selections[0].indices.tolist()
    assert "response_ngrams" not in trainer.train_dataset.column_names


def test_it_goes_on_from_a_checkpoint(tmp_path):
    rows = pool()
    how = {"score": "ifd", "narrow": 3, "params": {"ceiling": None}}
    options = {"output_dir": str(tmp_path), "save_strategy": "epoch", "per_device_train_batch_size": 2}
    whole = Reselect("iterit", 6, **how).bind(trainer := sft(rows, **options), rows)
    trainer.train()
    again = sft(rows, **options | {"output_dir": str(tmp_path / "again")})
    resumed = Reselect("iterit", 6, **how).bind(again, rows)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    for number in (1, 2):
        assert resumed.selections[number].indices.tolist() == whole.selections[number].indices.tolist()
