"""A scorer is trained, written, loaded by DeitaComplexity and DeitaQuality, and measured on held-out samples."""

import json
import re

import numpy as np
import pytest
import torch
import transformers as tf
import yaml
from datasets import Dataset, DatasetDict
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import hf_dsel
from hf_dsel.scorers.deita import COMPLEXITY, QUALITY
from hf_dsel.scorers.models import ModelNotLoaded, release
from hf_dsel.scorers.score_templates import SETTINGS_FILE, LabelNotOneToken, WrongScorer
from hf_dsel.training.scorer_training import OutputInTheWay, check_output, prepare, train_scorer

from ..conftest import save, sizes

LEVELS = ["rain", "poem", "sea", "Paris", "sum", "food"]
FAST = {"epochs": 12, "learning_rate": 3e-3, "batch_size": 16}
SHORT = {"complexity": "Text {instruction} is", "quality": "Question {instruction} and answer {response} is"}


def table(scores="complexity", samples=40, template=None):
    """Variants whose score is told by one word, whatever the length."""
    template = template or {"complexity": COMPLEXITY, "quality": QUALITY}[scores]
    rng, rows = np.random.default_rng(0), []
    for sample in range(samples):
        for score in rng.permutation(6)[:4] + 1:
            noise = " ".join(rng.choice(["a", "the", "and", "of"], rng.integers(1, 6)))
            told = f"{noise} {sample} {LEVELS[score - 1]}"
            texts = {"instruction": told} if scores == "complexity" else {"instruction": f"Q{sample}", "response": told}
            text = template.replace("{instruction}", texts["instruction"]).replace(
                "{response}", texts.get("response", "")
            )
            rows.append({"text": text, "score": int(score), "seed_row": sample, "scores": scores, "template": template,
                         "ranked_by": "a model"} | texts)  # fmt: skip
    return Dataset.from_list(rows)


@pytest.mark.parametrize("scores", ["complexity", "quality"])
def test_it_learns_and_the_scorer_loads_it(scores, tiny_qwen2, tmp_path):
    data, out = table(scores, 60, SHORT[scores]), tmp_path / "scorer"
    report = train_scorer(data, tiny_qwen2, out, held_out=0.2, **FAST)
    assert (report.scores, report.trained_samples, report.held_out_samples, report.held_out_rows) == (
        scores,
        48,
        12,
        48,
    )
    assert report["scorer"].spearman > 0.8 > 0.5 > report["length"].spearman
    assert report["scorer"].within > 0.8 and report["scorer"].exact > 0.5 > report["most frequent score"].exact
    saved = json.loads((out / SETTINGS_FILE).read_text())
    assert saved.pop("training") and saved == {"scores": scores, "template": data["template"][0]}
    scorer = (hf_dsel.DeitaComplexity if scores == "complexity" else hf_dsel.DeitaQuality)(str(out), dtype="float32")
    easy, hard = (f"the 7 {LEVELS[i]}" for i in (0, 5))
    batch = {"prompt": [easy, hard], "completion": ["-", "-"]}
    if scores == "quality":
        batch = {"prompt": ["Q7", "Q7"], "completion": [easy, hard]}
    low, high = scorer(batch)[scores]
    assert low < 2.5 and high > 4.5
    with pytest.raises(WrongScorer):
        (hf_dsel.DeitaQuality if scores == "complexity" else hf_dsel.DeitaComplexity)(str(out))(batch)


@pytest.fixture(scope="module")
def trained(tiny_qwen2, tmp_path_factory):
    """A scorer of complexity after one short epoch, and its report."""
    out = tmp_path_factory.mktemp("scorer") / "here"
    return out, train_scorer(table(samples=12), tiny_qwen2, out, held_out=0.25, epochs=1, learning_rate=1e-3)


def test_the_report_is_what_the_scorer_gives_the_held_out_rows(trained):
    out, report = trained
    release()
    data = prepare(table(samples=12), str(out), held_out=0.25).data
    found = hf_dsel.DeitaComplexity(str(out))({"prompt": [t["instruction"] for t in data.held_out.texts]})["complexity"]
    off = np.abs(np.floor(np.array(found, float) + 0.5) - np.array(data.held_out.scores))
    assert report["scorer"].exact == np.mean(off == 0) and report["scorer"].within_one == np.mean(off <= 1)
    assert report.held_out_rows == len(found) == 12


def test_the_card_has_the_numbers_and_how_to_use_it(trained, tiny_qwen2):
    out, report = trained
    text = (out / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["library_name"] == "transformers" and {"hf_dsel", "complexity"} <= set(front["tags"])
    for part in (report.what[1:], "hf_dsel.DeitaComplexity(", "on rankings by `a model`", json.dumps(COMPLEXITY),
                 "num_train_epochs = 1", f"| {report['scorer'].exact:.1%} |"):  # fmt: skip
        assert part in text
    assert str(out.parent) not in text and tiny_qwen2 not in text  # no paths of this machine


def test_only_the_label_is_learned(tiny_qwen2, tiny_tokenizer):
    ready = prepare(table(samples=4), tiny_qwen2, held_out=0)
    digits = [tiny_tokenizer.convert_tokens_to_ids(d) for d in "123456"]
    for ids, labels, text, score in zip(
        ready.training["input_ids"][:], ready.training["labels"][:], ready.data.training.filled(COMPLEXITY),
        ready.data.training.scores, strict=True,
    ):  # fmt: skip
        assert ids == tiny_tokenizer(text)["input_ids"] + [digits[score - 1]]  # no end token
        assert labels == [-100] * (len(ids) - 1) + [digits[score - 1]]


def test_the_training_lowers_the_loss_of_the_label_alone(tiny_qwen2, tmp_path):
    """One plain gradient step of −ln p(label) equals the trainer's, weight for weight."""
    data = table(samples=2)
    ready = prepare(data, tiny_qwen2, held_out=0)
    settings = {"optim": "sgd", "lr_scheduler_type": "constant", "warmup_steps": 0, "max_grad_norm": 0.0,
                "max_steps": 1, "bf16": False}  # fmt: skip
    train_scorer(data, tiny_qwen2, tmp_path / "out", held_out=0, learning_rate=0.5, batch_size=8, training=settings)
    model = tf.AutoModelForCausalLM.from_pretrained(tiny_qwen2, dtype=torch.float32)
    losses = []
    for ids in ready.training["input_ids"][:]:
        logits = model(torch.tensor([ids[:-1]])).logits[0, -1]
        losses.append(-logits.log_softmax(-1)[ids[-1]])
    torch.stack(losses).mean().backward()
    trained = tf.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).state_dict()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(trained[name], (weight - 0.5 * weight.grad).detach(), atol=1e-5, rtol=1e-4)


def test_bos_stands_where_the_tokenizer_puts_it(tmp_path):
    from ..conftest import make_tokenizer

    tokenizer = make_tokenizer(bos=True)
    from tokenizers.processors import TemplateProcessing

    bos = tokenizer.bos_token_id
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<|begin|> $A <|im_end|>", special_tokens=[("<|begin|>", bos), ("<|im_end|>", tokenizer.eos_token_id)]
    )
    tf.set_seed(0)
    folder = save(tf.GPT2LMHeadModel(tf.GPT2Config(**sizes(tokenizer))), tokenizer, tmp_path / "model")
    ready = prepare(table(samples=3), folder, held_out=0)
    assert all(ids[0] == bos and tokenizer.eos_token_id not in ids for ids in ready.training["input_ids"][:])


# --- tokenizers that join white space and label ---


def merging(folder, *pairs):
    """A GPT-2 over bytes whose tokenizer joins the given pairs."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate(["<|pad|>", "<|end|>", *alphabet, *map("".join, pairs)])}
    inner = Tokenizer(models.BPE(vocab, list(pairs)))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    fast = tf.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>", pad_token="<|pad|>",
                                      model_max_length=512)  # fmt: skip
    tf.set_seed(3)
    config = tf.GPT2Config(vocab_size=len(vocab), n_embd=32, n_layer=2, n_head=4, n_positions=512, eos_token_id=1,
                           bos_token_id=1, pad_token_id=0)  # fmt: skip
    return save(tf.GPT2LMHeadModel(config), fast, folder)


def test_the_space_at_the_end_goes_and_is_said_and_recorded(tmp_path, capsys):
    folder = merging(tmp_path / "model", ("Ġ", "4"))
    out = tmp_path / "scorer"
    train_scorer(table("quality", 6), folder, out, held_out=0.2, epochs=0.1)
    assert "joins the white space at the end of the template with the label" in capsys.readouterr().err
    saved = json.loads((out / SETTINGS_FILE).read_text())
    assert saved["template"] == QUALITY.rstrip() and json.dumps(QUALITY.rstrip()) in (out / "README.md").read_text()
    found = hf_dsel.DeitaQuality(str(out))({"prompt": ["a"], "completion": ["b"]})
    assert 1 <= found["quality"][0] <= 6 and found["quality_status"] == ["ok"]


def test_a_tokenizer_for_which_no_ending_will_do(tmp_path):
    folder = merging(tmp_path / "model", ("Ġ", "4"), (":", "2"))
    with pytest.raises(LabelNotOneToken, match="another ending"):
        train_scorer(table(samples=3), folder, tmp_path / "scorer")
    assert not (tmp_path / "scorer").exists()
    with pytest.raises(LabelNotOneToken, match="Train on and pass a template= with another ending"):  # " " alone
        prepare(table(samples=3, template="Rate {instruction} "), folder)
    template = "Query {instruction} is of complexity\n"
    assert prepare(table(samples=3, template=template), folder).reading.template == template


# --- windows ---


def test_long_texts_are_cut_as_the_scorers_cut_and_the_ending_stays(tiny_qwen2, tiny_tokenizer):
    text = COMPLEXITY.replace("{instruction}", "rain and sun " * 200)
    data = Dataset.from_dict({"text": [text, *table()["text"][:2]], "score": [3, 1, 2], "scores": ["complexity"] * 3})
    ready = prepare(data, tiny_qwen2, held_out=0, max_length=120)
    ids = ready.training["input_ids"][0]
    assert ready.cut == 1 and 110 < len(ids) <= 120 and max(map(len, ready.training["input_ids"][:])) == len(ids)
    assert tiny_tokenizer.decode(ids[:-1]).endswith("  \n##Complexity: ") and "1 cut to the window of 120" in str(ready)
    with pytest.raises(ValueError, match="max_length=20 is too small"):
        prepare(data, tiny_qwen2, max_length=20)
    with pytest.raises(ValueError, match="the window of .* is 512"):
        prepare(data, tiny_qwen2, max_length=9999)


# --- folders, options, models ---


def test_folders_in_the_way(trained, tiny_qwen2, tmp_path):
    out, _ = trained
    with pytest.raises(OutputInTheWay, match="holds a scorer already"):
        train_scorer(table(), tiny_qwen2, out)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputInTheWay, match="is not empty and holds no scorer"):
        train_scorer(table(), tiny_qwen2, tmp_path, overwrite=True)
    with pytest.raises(OutputInTheWay, match="is a file"):
        train_scorer(table(), tiny_qwen2, tmp_path / "notes.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "stopped").mkdir()
    (tmp_path / "stopped" / SETTINGS_FILE).write_text("{}")  # all that a stopped training leaves
    assert check_output(tmp_path / "stopped", overwrite=False) == tmp_path / "stopped"


def test_a_scorer_is_replaced_and_the_new_one_is_measured(tiny_qwen2, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    data = table(samples=12)
    train_scorer(data, tiny_qwen2, tmp_path / "s", held_out=0.25, epochs=0.1, learning_rate=1e-9)
    scorer, pool = hf_dsel.DeitaComplexity(str(tmp_path / "s")), Dataset.from_dict({"prompt": ["the 7 food"]})
    before = scorer(pool[:])["complexity"]
    assert hf_dsel.score(pool, scorer)["complexity"][:] == before
    train_scorer(data, tiny_qwen2, tmp_path / "s", held_out=0.25, overwrite=True, **FAST)
    after = scorer(pool[:])["complexity"]
    assert after != before and hf_dsel.score(pool, scorer)["complexity"][:] == after  # not those of the first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs=0; it is above 0"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"training": {"weight_deca": 1}}, "has no option 'weight_deca'; did you mean 'weight_decay'"),
        ({"training": {"max_length": 9}}, "max_length is set by the training of scorers"),
        ({"held_out": 1.0}, "held_out=1.0"),
        ({"scores": "depth"}, "scores='depth'"),
        ({"template": "Q: {instruction}"}, "ends with a place"),
    ],
)
def test_options_are_refused_before_anything_is_written(options, message, tiny_qwen2, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        train_scorer(table(), tiny_qwen2, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_models_that_cannot_be_trained(tiny_bert, tmp_path):
    for model, message in ((tiny_bert, "BertModel; give a causal"), ("./nosuch", "no such folder"),
                           ("x/model.gguf", "GGUF file, which cannot be trained")):  # fmt: skip
        with pytest.raises(ModelNotLoaded, match=message):
            train_scorer(table(), model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_whole_dataset_dict_is_refused(tiny_qwen2, tmp_path):
    with pytest.raises(TypeError, match="DatasetDict; give one datasets.Dataset"):
        train_scorer(DatasetDict({"train": table(samples=2)}), tiny_qwen2, tmp_path / "s")
    with pytest.raises(TypeError, match="DatasetDict; give one datasets.Dataset"):
        hf_dsel.evolve(DatasetDict({"train": table(samples=2)}), hf_dsel.Endpoint(model="m", store=tmp_path))


def test_without_held_out_rows_there_is_no_table(tiny_qwen2, tmp_path):
    report = train_scorer(table(samples=3), tiny_qwen2, tmp_path / "s", held_out=0, epochs=0.1)
    assert report.lines == () and "held out: none" in (tmp_path / "s/README.md").read_text()
