"""What was learned with an encoder knows it again, and no other one, wherever it lies."""

import pickle
import shutil

import numpy as np
import pytest
from datasets import Dataset
from transformers import BertConfig, BertModel, set_seed

from hf_dsel import Embed, FlippedLabels, Gate
from hf_dsel.corruptions import cut_short, words_shuffled
from hf_dsel.encoder_memory import SENTENCES, EncoderMemory, OtherEncoder
from hf_dsel.gate_file import from_bytes, to_bytes
from hf_dsel.scorers.models import release
from tests import test_flipped_labels
from tests.conftest import make_tokenizer, save, sizes
from tests.scorers.test_gate import clean

pytest.importorskip("lightgbm", reason="pip install lightgbm")


def bert(folder, seed, **changed):
    set_seed(seed)
    tokenizer = make_tokenizer(template=False, max_length=128)
    return save(BertModel(BertConfig(**(sizes(tokenizer) | changed))), tokenizer, folder)


@pytest.fixture(scope="module")
def other_bert(tmp_path_factory):
    """Of the same shape as tiny_bert, with other weights."""
    return bert(tmp_path_factory.mktemp("other_bert"), seed=7)


@pytest.fixture(scope="module")
def plain():
    """Rows whose answers repeat the question, which random weights see too."""
    return Dataset.from_list([row | {"output": f"{row['instruction']} {row['output'][:25]}"} for row in clean(320)])


@pytest.fixture(scope="module")
def gate(plain, tiny_bert):
    return Gate.fit(plain, embedder=tiny_bert, corruptions=(cut_short, words_shuffled))


@pytest.fixture(scope="module")
def file(gate, tmp_path_factory):
    place = tmp_path_factory.mktemp("gate") / "gate.safetensors"
    gate.save(place)
    return place


def test_it_is_the_cosine_of_two_sentences(tiny_bert, other_bert):
    kept = EncoderMemory.of(Embed(tiny_bert))
    plain = Embed(tiny_bert, store="float32")({"text": list(SENTENCES)})["embedding"]
    np.testing.assert_allclose(kept.vectors, plain, atol=1e-3)
    for same in (Embed(tiny_bert), Embed(tiny_bert, store="float32", normalize=False, dtype="bfloat16"),
                 Embed(tiny_bert, of="response", side="rejected", column="x")):  # fmt: skip
        kept.check(same, "Gate")
    words = "a long word before every text: "
    for other in (Embed(other_bert), Embed(tiny_bert, pooling="cls"), Embed(tiny_bert, prefix=words)):
        with pytest.raises(OtherEncoder, match=r"has the cosine -?0\.\d\d with"):
            kept.check(other, "Gate")


def test_a_gate_that_was_loaded_refuses_another_encoder(plain, gate, file, other_bert, tiny_bert, tmp_path):
    rows = plain[:30]
    assert Gate.load(file)(rows) == gate(rows) == pickle.loads(pickle.dumps(gate))(rows)
    copied = str(shutil.copytree(tiny_bert, tmp_path / "copy"))
    assert Gate.load(file, embedder=copied)(rows) == gate(rows)
    loaded = Gate.load(file, embedder=other_bert)
    for _ in range(2):  # not at the first use alone
        with pytest.raises(OtherEncoder, match=r"learned with the embedder '.*tiny_bert.*' is another: its vector"):
            loaded(rows)
    with pytest.raises(OtherEncoder, match=rf"Gate\.load\(path, embedder=.*Gate\.fit\(pool, embedder='{other_bert}'\)"):
        plain.map(loaded.of_side("chosen"), batched=True)
    with pytest.raises(OtherEncoder, match="is another"):
        pickle.loads(pickle.dumps(loaded))(rows)
    wide = bert(tmp_path / "wide", 2, hidden_size=64)
    with pytest.raises(OtherEncoder, match="its vectors have 64 numbers, not 32"):
        Gate.load(file, embedder=wide)(rows)


def test_other_weights_in_the_same_folder(plain, other_bert, tmp_path):
    place = bert(tmp_path / "encoder", seed=11)
    Gate.fit(plain, embedder=place, corruptions=(cut_short, words_shuffled)).save(tmp_path / "gate")
    shutil.copytree(other_bert, place, dirs_exist_ok=True)
    release()
    with pytest.raises(OtherEncoder, match="and it embeds otherwise now: its vector"):
        Gate.load(tmp_path / "gate")(plain[:5])


def test_columns_are_compared_with_the_embedder_after_loading_too(plain, file, tiny_bert, other_bert, gate):
    theirs = plain.map(Embed(other_bert), batched=True)
    with pytest.raises(ValueError, match="the column 'embedding' holds other vectors than the embedder"):
        Gate.load(file, embedding="embedding")(theirs[:30])
    with pytest.raises(OtherEncoder):  # the columns and the embedder agree, and neither is what it learned with
        Gate.load(file, embedding="embedding", embedder=other_bert)(theirs[:30])
    own = plain.map(Embed(tiny_bert), batched=True)
    found = Gate.load(file, embedding="embedding")(own[:30])["gate"]
    np.testing.assert_allclose(found, gate(plain[:30])["gate"], atol=0.01)


def test_a_file_from_before_is_not_compared(plain, gate, other_bert, tiny_bert, tmp_path):
    (tmp_path / "old").write_bytes(to_bytes(gate.learned.bare(), embedder=Embed(tiny_bert), side="chosen", seed=0))
    old = Gate.load(tmp_path / "old")
    assert old.learned.encoder is None and old(plain[:30]) == gate(plain[:30])
    assert Gate.load(tmp_path / "old", embedder=other_bert)(plain[:5])["gate_status"] == ["ok"] * 5
    assert old.settings() == gate.settings()  # scores that were cached before stay good


def test_flipped_labels_do_the_same(tiny_bert, other_bert, tmp_path):
    pairs, _ = test_flipped_labels.planted(400, 0.1)
    flips = FlippedLabels.fit(pairs, embedder=tiny_bert)
    flips.save(tmp_path / "flips")
    assert FlippedLabels.load(tmp_path / "flips")(pairs[:9]) == flips(pairs[:9])
    other = FlippedLabels.load(tmp_path / "flips", embedder=other_bert)
    for _ in range(2):
        with pytest.raises(OtherEncoder, match=r"this FlippedLabels learned with .* FlippedLabels\.load\(path"):
            other(pairs[:9])
    with pytest.raises(OtherEncoder):
        pickle.loads(pickle.dumps(other))(pairs[:9])
    assert flips.settings()["learned"] == FlippedLabels.load(tmp_path / "flips").settings()["learned"]


def test_without_an_encoder_there_is_nothing_to_remember(plain, tmp_path):
    gate = Gate.fit(plain, embedder=None, corruptions=(cut_short, words_shuffled))
    assert gate.learned.encoder is None and from_bytes(to_bytes(gate.learned), "here")[0].encoder is None


def test_minilm_is_known_again_in_every_precision(minilm):
    kept = EncoderMemory.of(Embed(minilm))
    for dtype in ("float32", "bfloat16"):
        kept.check(Embed(minilm, dtype=dtype), "Gate")
    with pytest.raises(OtherEncoder, match="cosine"):
        kept.check(Embed(minilm, pooling="cls"), "Gate")
