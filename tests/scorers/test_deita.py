from __future__ import annotations

import json
import pickle
import re
import shutil

import numpy as np
import pytest
import torch
import transformers as tf
from datasets import Dataset, Features, List, Value
from datasets.fingerprint import Hasher
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers import models as token_models

import hf_dsel
from hf_dsel.scorers import DeitaComplexity, DeitaQuality
from hf_dsel.scorers.deita import COMPLEXITY, QUALITY
from hf_dsel.scorers.models import Checkpoint, ModelNotLoaded
from hf_dsel.scorers.score_templates import (
    SETTINGS_FILE,
    LabelNotOneToken,
    Reading,
    WrongScorer,
    filled,
    longest,
    settings_path,
    template_of,
)

ROWS = [
    ("Write a poem.", "", "The waves roll in and the waves roll out."),
    ("Add the numbers.", "12 and 30", "42"),
    ("What is the capital of France?", "", "The capital of France is Paris. " * 4),
    ("Explain {response} and {instruction} " * 5, "", "{instruction} one %s {0} sentence"),
    ("Größe? 🌊", "", "Sehr groß – ‘naïve’ 1"),
]
BATCH = {"instruction": [r[0] for r in ROWS], "input": [r[1] for r in ROWS], "output": [r[2] for r in ROWS]}
BOTH = [(DeitaComplexity, "complexity"), (DeitaQuality, "quality")]
SPACELESS = {"complexity": COMPLEXITY.rstrip(), "quality": QUALITY.rstrip()}


def text_of(name: str, instruction: str, response: str | None) -> str:
    """What the released scorers read, letter by letter."""
    if name == "complexity":
        return (
            "You are a helpful assistant. Please identify the complexity score of the following user query. "
            f"\n##Query: {instruction}  \n##Complexity: "
        )
    return (
        "You are a helpful assistant. Please identify the quality score of the Response corresponding to the Question. "
        f"\n #Question#:\n{instruction}\n#Response#:\n{response} \n##Quality: "
    )


def slow_score(model, tokenizer, text: str) -> float:
    """One text alone: the whole model, all logits, a loop over the labels."""
    ids = tokenizer(text)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1].double()
    weights = []
    for label in "123456":
        with_label = tokenizer(text + label)["input_ids"]
        assert with_label[:-1] == ids
        weights.append(float(logits[with_label[-1]].exp()))
    return sum(i * w for i, w in enumerate(weights, start=1)) / sum(weights)


def loaded(folder):
    model = tf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, tf.AutoTokenizer.from_pretrained(folder)


def expected(folder, name, table=ROWS):
    model, tokenizer = loaded(folder)
    users = [(f"{i}\n{more}" if more else i, r) for i, more, r in table]
    return [slow_score(model, tokenizer, text_of(name, i, r)) for i, r in users]


@pytest.mark.parametrize(("scorer", "name"), BOTH)
@pytest.mark.parametrize("batch_tokens", [1, 300, 100_000])
@pytest.mark.parametrize("padding", ["left", "right"])
def test_equals_one_text_at_a_time(scorer, name, batch_tokens, padding, tiny_qwen2, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_qwen2, folder)
    tokenizer = tf.AutoTokenizer.from_pretrained(folder, padding_side=padding)
    tokenizer.save_pretrained(folder)
    got = scorer(str(folder), dtype="float32", batch_tokens=batch_tokens)(BATCH)
    want = expected(folder, name)
    np.testing.assert_allclose(np.array(got[name], float), want, rtol=1e-5)
    assert max(want) - min(want) > 0.1  # the rows differ by far more than the tolerance
    assert got[f"{name}_turns"] == [[value] for value in got[name]]
    assert got[f"{name}_status"] == ["ok"] * len(ROWS)
    assert list(got) == list(scorer(str(folder)).features())


@pytest.mark.parametrize(
    "family", ["llama", "gemma3", "granite", "cohere", "gpt2", "opt", "mixtral", "gpt_neox", "mamba"]
)
def test_the_models_own_head_is_used(family, tmp_path, tiny_tokenizer, tiny_sizes):
    """Soft capping, logit scaling and biases of the output layer are the model's."""
    model = make_model(family, tiny_sizes).eval()
    model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    got = DeitaQuality(str(tmp_path), dtype="float32", batch_tokens=400)(BATCH)
    want = expected(tmp_path, "quality")
    np.testing.assert_allclose(np.array(got["quality"], float), want, rtol=1e-4)
    assert max(want) - min(want) > 1e-3


def make_model(family, common):
    tf.set_seed(3)
    short = {k: common[k] for k in ("vocab_size", "pad_token_id", "eos_token_id", "bos_token_id")}
    config = {
        "llama": lambda: tf.LlamaConfig(**common, num_key_value_heads=4),
        "gemma3": lambda: tf.Gemma3TextConfig(
            **common, head_dim=8, num_key_value_heads=2, final_logit_softcapping=2.0, sliding_window=8
        ),
        "granite": lambda: tf.GraniteConfig(**common, logits_scaling=4.0, embedding_multiplier=3.0),
        "cohere": lambda: tf.CohereConfig(**common, logit_scale=0.25),
        "gpt2": lambda: tf.GPT2Config(
            **short, n_embd=32, n_layer=2, n_head=4, n_positions=512, initializer_range=0.3
        ),
        "opt": lambda: tf.OPTConfig(
            **short, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=512, word_embed_proj_dim=32, init_std=0.3,
        ),
        "mixtral": lambda: tf.MixtralConfig(
            **common, num_key_value_heads=2, num_local_experts=4, output_router_logits=False
        ),
        "gpt_neox": lambda: tf.GPTNeoXConfig(**common),
        "mamba": lambda: tf.MambaConfig(**short, hidden_size=32, num_hidden_layers=2, initializer_range=0.3),
    }[family]()  # fmt: skip
    return tf.AutoModelForCausalLM.from_config(config)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(alphabet="the waves é🌊\n 123{}", min_size=1, max_size=60).filter(str.strip),
            st.text(min_size=1, max_size=60).filter(str.strip),
        ),
        min_size=1, max_size=5,
    ),
    st.integers(1, 600),
)  # fmt: skip
def test_any_text_in_any_batch(tiny_qwen2, pairs, batch_tokens):
    batch = {"prompt": [p for p, _ in pairs], "completion": [c for _, c in pairs]}
    for scorer, name in BOTH:
        got = scorer(tiny_qwen2, dtype="float32", batch_tokens=batch_tokens)(batch)
        want = expected(tiny_qwen2, name, [(p, "", c) for p, c in pairs])
        np.testing.assert_allclose(np.array(got[name], float), want, rtol=1e-4)


# --- conversations, pairs, and rows without a score ---

CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Add 1 and 2."},
    {"role": "assistant", "content": "3"},
    {"role": "user", "content": "And 4?"},
    {"role": "assistant", "content": "The sum is 7."},
    {"role": "user", "content": "And 5?"},
    {"role": "assistant", "content": ""},
    {"role": "user", "content": "Thanks."},
]


@pytest.mark.parametrize("combine", ["mean", "sum", "min", "max"])
def test_turns_are_scored_apart_and_combined(tiny_qwen2, combine):
    how = {"mean": np.mean, "sum": np.sum, "min": np.min, "max": np.max}[combine]
    model, tokenizer = loaded(tiny_qwen2)
    turns = [("Add 1 and 2.", "3"), ("And 4?", "The sum is 7."), ("And 5?", ""), ("Thanks.", None)]
    batch = {"messages": [CONVERSATION]}

    want = [slow_score(model, tokenizer, text_of("complexity", i, r)) for i, r in turns]
    got = DeitaComplexity(tiny_qwen2, combine=combine, dtype="float32")(batch)
    np.testing.assert_allclose(got["complexity_turns"][0], want, rtol=1e-5)
    assert got["complexity"][0] == pytest.approx(how(want), rel=1e-5) and got["complexity_status"] == ["ok"]

    want = [slow_score(model, tokenizer, text_of("quality", i, r)) for i, r in turns[:2]]
    got = DeitaQuality(tiny_qwen2, combine=combine, dtype="float32")(batch)
    np.testing.assert_allclose(got["quality_turns"][0][:2], want, rtol=1e-5)
    assert got["quality_turns"][0][2:] == [None, None]
    assert got["quality"][0] == pytest.approx(how(want), rel=1e-5)
    assert got["quality_status"] == ["turn 3 of 4 left out: empty response"]


@pytest.mark.parametrize(("which", "kept"), [("all", 4), ("first", 1), ("last", 1)])
def test_both_scores_have_an_entry_for_each_turn_asked_for(tiny_qwen2, which, kept):
    batch = {"messages": [CONVERSATION]}
    complexity = DeitaComplexity(tiny_qwen2, turns=which)(batch)["complexity_turns"][0]
    quality = DeitaQuality(tiny_qwen2, turns=which)(batch)["quality_turns"][0]
    assert len(complexity) == len(quality) == kept and None not in complexity


def test_rows_without_a_score_say_why(tiny_qwen2):
    said = lambda role, text: {"role": role, "content": text}  # noqa: E731
    batch = {
        "messages": [
            [said("user", "hi"), said("assistant", "hello")],
            [said("user", "hi"), said("assistant", " \n")],
            [said("user", "hi")],
            [said("user", " "), said("assistant", "hello")],
            [said("assistant", "hello")],
            [said("system", "Be kind."), said("assistant", "hello")],
            None,
            [said("robot", "hi")],
            [],
        ]
    }
    got = DeitaComplexity(tiny_qwen2)(batch)
    assert [v is None for v in got["complexity"]] == [False] * 3 + [True] * 6
    assert got["complexity_status"][:6] == ["ok"] * 3 + ["empty instruction", "no instruction", "empty instruction"]
    assert got["complexity_turns"][3:] == [[None]] * 3 + [None] * 3
    assert "null" in got["complexity_status"][6] and "robot" in got["complexity_status"][7]
    got = DeitaQuality(tiny_qwen2)(batch)
    assert [v is None for v in got["quality"]] == [False] + [True] * 8
    assert got["quality_status"][1:5] == ["empty response", "no response", "empty instruction", "no instruction"]
    assert got["quality_turns"][:3] == [[got["quality"][0]], [None], [None]]


def test_formats_without_instruction_or_response(tiny_qwen2):
    text = {"text": ["The waves roll in.", None]}
    for scorer, name in BOTH:
        got = scorer(tiny_qwen2)(text)
        assert got[name] == [None, None] and got[f"{name}_status"] == ["no instruction", "text is null, not a string"]
    asked = {"prompt": ["What is the sea?"]}
    assert DeitaComplexity(tiny_qwen2)(asked)["complexity_status"] == ["ok"]
    assert DeitaQuality(tiny_qwen2)(asked)["quality_status"] == ["no response"]
    nothing = {"instruction": [], "output": []}
    assert DeitaQuality(tiny_qwen2)(nothing) == {"quality": [], "quality_turns": [], "quality_status": []}


def test_both_sides_of_a_pair(tiny_qwen2):
    pair = {"prompt": ["Add 1 and 2."], "chosen": ["The sum is 3."], "rejected": ["Nothing."]}
    rejected = DeitaQuality(tiny_qwen2, side="rejected", dtype="float32")
    got = rejected(pair)
    assert list(got) == list(rejected.features()) == [f"rejected_quality{end}" for end in ("", "_turns", "_status")]
    model, tokenizer = loaded(tiny_qwen2)
    for scorer, column, answer in [
        (rejected, "rejected_quality", "Nothing."),
        (DeitaQuality(tiny_qwen2, dtype="float32"), "quality", "The sum is 3."),
    ]:
        want = slow_score(model, tokenizer, text_of("quality", "Add 1 and 2.", answer))
        assert scorer(pair)[column] == [pytest.approx(want, rel=1e-5)]
    with pytest.raises(ValueError, match="side='rejected' needs"):
        rejected.check(["instruction", "output"])


# --- too long ---


def kept_text(tokenizer, name, window, texts, c):
    """The text after each of `texts` has lost all but c characters: it fits, and with one more it would not."""
    text, more = (text_of(name, *(t[:n] for t in texts)) for n in (c, c + 1))
    assert len(tokenizer(text)["input_ids"]) <= window < len(tokenizer(more)["input_ids"])
    return text


def kept_characters(status, texts):
    """c, from what the status says of each text; None where nothing was cut."""
    cuts = {k: n for k, n in re.findall(r"(instruction|response) cut by (\d+) of", status)}
    said = ", ".join(f"{k} cut by {n} of {len(texts[k])} characters" for k, n in cuts.items())
    assert status == (said or "ok")
    left = {len(texts[k]) - int(n) for k, n in cuts.items()}
    assert len(left) <= 1 and all(len(t) <= c for c in left for k, t in texts.items() if k not in cuts)
    return next(iter(left), None)


@pytest.mark.parametrize(
    ("instruction", "response"),
    [("Short?", "the waves roll out and in " * 60), ("Explain how rain forms " * 60, "Short."),
     ("Explain how rain forms " * 60, "the waves roll " * 60), ("é🌊" * 300, "ä" * 200)],
)  # fmt: skip
@pytest.mark.parametrize("max_length", [None, 130])
def test_the_longer_text_is_cut_and_never_the_template(tiny_qwen2, instruction, response, max_length):
    model, tokenizer = loaded(tiny_qwen2)
    window, options = max_length or 512, {"dtype": "float32", "max_length": max_length}
    batch = {"prompt": ["fits", instruction], "completion": ["too", response]}

    for scorer, name in BOTH:
        texts = {"instruction": instruction, "response": response if name == "quality" else ""}
        got = scorer(tiny_qwen2, **options)(batch)
        first, status = got[f"{name}_status"]
        assert first == "ok"
        c = kept_characters(status, texts)
        whole = text_of(name, *texts.values())
        assert (c is None) == (len(tokenizer(whole)["input_ids"]) <= window)
        text = whole if c is None else kept_text(tokenizer, name, window, texts.values(), c)
        assert got[name][1] == pytest.approx(slow_score(model, tokenizer, text), rel=1e-5)


def test_a_window_with_no_room(tiny_qwen2):
    tokenizer = tf.AutoTokenizer.from_pretrained(tiny_qwen2)
    alone = len(tokenizer(text_of("complexity", "", None))["input_ids"])
    with pytest.raises(ValueError, match=rf"template alone takes {alone} tokens.*max_length={alone} is too small"):
        DeitaComplexity(tiny_qwen2, max_length=alone)(BATCH)
    got = DeitaComplexity(tiny_qwen2, max_length=alone + 1)({"prompt": ["🌊🌊", "a", "bc"]})
    assert [v is None for v in got["complexity"]] == [True, False, False]
    assert got["complexity_status"][0].startswith("not one character fits beside the template")
    assert got["complexity_status"][2] in ("ok", "instruction cut by 1 of 2 characters")
    with pytest.raises(ValueError, match=r"max_length=1000.*512"):
        DeitaComplexity(tiny_qwen2, max_length=1000)(BATCH)


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_halving_finds_the_largest(limit, too_many):
    assert longest(lambda c: c <= limit, too_many) == min(limit, too_many - 1)


# --- labels in context ---


def test_labels_of_a_tokenizer_like_llamas(tmp_path, tiny_sizes):
    """ "1" alone is two tokens there, and one after the template, behind BOS; the EOS that it adds is left off."""
    tokenizer = sentencepiece_like()
    alone = tokenizer("1", add_special_tokens=False)["input_ids"]
    assert len(alone) == 2 and tokenizer("a")["input_ids"][-1] == tokenizer.eos_token_id
    config = tiny_sizes | {"vocab_size": len(tokenizer), "eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0}
    tf.set_seed(5)
    tf.LlamaForCausalLM(tf.LlamaConfig(**config, num_key_value_heads=4)).eval().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    reading = Reading.of(Checkpoint(str(tmp_path)), COMPLEXITY, None)
    assert reading.label_ids == [tokenizer.convert_tokens_to_ids(x) for x in "123456"] and alone[1] in reading.label_ids
    assert reading.start == [1]
    model = tf.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = tokenizer(text_of("complexity", "Write a poem.", None))["input_ids"][:-1]  # without the EOS
    assert ids[0] == 1 and ids[-1] == tokenizer.convert_tokens_to_ids("▁")
    z = model(torch.tensor([ids])).logits[0, -1, reading.label_ids].detach()
    got = DeitaComplexity(str(tmp_path), dtype="float32")({"prompt": ["Write a poem."]})
    assert got["complexity"][0] == pytest.approx(float(z.softmax(-1) @ torch.arange(1.0, 7)), rel=1e-5)


def sentencepiece_like():
    """White space as "▁", one in front of every text, single letters, bytes for the rest, BOS and EOS around."""
    letters = [chr(i) for i in range(33, 127)] + ["\n", "▁"]
    vocab = {t: i for i, t in enumerate(["<pad>", "<s>", "</s>", "<unk>", *(f"<0x{i:02X}>" for i in range(256))])}
    vocab |= {letter: len(vocab) + i for i, letter in enumerate(letters)}
    for merged in ("▁a", "▁p", "▁▁"):
        vocab[merged] = len(vocab)
    merges = [("▁", "a"), ("▁", "p"), ("▁", "▁")]
    inner = Tokenizer(token_models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    from tokenizers.processors import TemplateProcessing

    inner.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>",
        model_max_length=512,
    )  # fmt: skip


def merging_tokenizer(*pairs):
    """Bytes, with the given pairs joined."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate(["<|pad|>", "<|im_end|>", *alphabet, *map("".join, pairs)])}
    inner = Tokenizer(token_models.BPE(vocab, list(pairs)))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|pad|>", model_max_length=512
    )


@pytest.fixture(scope="module")
def merges_the_space(tmp_path_factory, tiny_sizes):
    """A GPT-2, whose tokenizer reads " 3" as one token."""
    folder, tokenizer = tmp_path_factory.mktemp("merges"), merging_tokenizer(("Ġ", "3"))
    tf.set_seed(6)
    common = tiny_sizes | {"vocab_size": len(tokenizer), "eos_token_id": 1, "pad_token_id": 0}
    make_model("gpt2", common).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(("scorer", "name"), BOTH)
def test_a_label_that_merges_with_the_space_is_an_error_that_says_what_to_change(scorer, name, merges_the_space):
    with pytest.raises(LabelNotOneToken, match=r"(?s)label '3'.*Ġ3.*Without the white space.*template=") as error:
        scorer(merges_the_space)(BATCH)
    assert repr(SPACELESS[name]) in str(error.value)
    got = scorer(merges_the_space, template=SPACELESS[name], dtype="float32")(BATCH)  # what the message says
    model, tokenizer = loaded(merges_the_space)
    users = [f"{i}\n{more}" if more else i for i, more, _ in ROWS]
    want = [slow_score(model, tokenizer, text_of(name, u, r[2]).rstrip()) for u, r in zip(users, ROWS, strict=True)]
    np.testing.assert_allclose(np.array(got[name], float), want, rtol=1e-5)


def test_labels_that_merge_without_a_space_or_are_unknown(tmp_path, tiny_sizes, merges_the_space):
    folder = tmp_path / "colon"
    shutil.copytree(merges_the_space, folder)
    merging_tokenizer(("Ġ", "3"), (":", "4")).save_pretrained(folder)
    with pytest.raises(LabelNotOneToken, match=r"label '3'.*another ending"):  # without the space it is '4'
        DeitaComplexity(str(folder))(BATCH)
    words = Tokenizer(token_models.WordLevel({"[UNK]": 0, "You": 1, "1": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tf.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(folder)
    with pytest.raises(LabelNotOneToken):
        DeitaComplexity(str(folder))(BATCH)


# --- templates and the settings file ---


def with_settings(source, folder, text):
    shutil.copytree(source, folder)
    (folder / SETTINGS_FILE).write_text(text if isinstance(text, str) else json.dumps(text))
    return str(folder)


def test_the_models_own_template_is_used(tiny_qwen2, tmp_path):
    own = "Q: {instruction}\nA: {response}\nHow good (1 to 6)?\n"
    folder = with_settings(tiny_qwen2, tmp_path / "m", {"scores": "quality", "template": own, "trained_on": 3})
    scorer = DeitaQuality(folder, dtype="float32")
    model, tokenizer = loaded(folder)
    want = slow_score(model, tokenizer, "Q: Write a poem.\nA: Waves.\nHow good (1 to 6)?\n")
    row = {"prompt": ["Write a poem."], "completion": ["Waves."]}
    assert scorer(row)["quality"] == [pytest.approx(want, rel=1e-5)]
    assert scorer.settings()["template"] == own
    given = DeitaQuality(folder, template=QUALITY, dtype="float32")  # yours wins
    assert given(row)["quality"] == [
        pytest.approx(slow_score(model, tokenizer, text_of("quality", "Write a poem.", "Waves.")), rel=1e-5)
    ]
    assert given.settings()["template"] == QUALITY
    released = with_settings(tiny_qwen2, tmp_path / "n", {"scores": "complexity"})
    assert DeitaComplexity(released).settings()["template"] == COMPLEXITY


@pytest.mark.parametrize(
    ("text", "message"),
    [({"scores": "complexity", "template": None}, "was trained to score complexity, not quality; use DeitaComplexity"),
     ("{'scores'", "is not JSON"), ([1], "must hold"), ({"scores": "beauty"}, "must hold"),
     ({"scores": "quality", "template": "{instruction}:"}, "its template=.*{instruction} and {response} once each"),
     ({"scores": "quality", "template": 3}, "its template is int")],
)  # fmt: skip
def test_a_settings_file_that_does_not_fit(tiny_qwen2, tmp_path, text, message):
    folder = with_settings(tiny_qwen2, tmp_path / "m", text)
    for run in (lambda: DeitaQuality(folder).check(["prompt", "completion"]), lambda: DeitaQuality(folder)(BATCH)):
        with pytest.raises(WrongScorer, match=message):
            run()


def test_the_released_models_are_told_apart_without_a_connection():
    with pytest.raises(WrongScorer, match="use DeitaQuality with it"):
        template_of(Checkpoint("hkust-nlp/deita-quality-scorer"), "complexity", None, COMPLEXITY)
    assert DeitaComplexity().model == "hkust-nlp/deita-complexity-scorer"
    assert DeitaQuality().model == "hkust-nlp/deita-quality-scorer"


def test_a_model_on_the_hub_whose_settings_cannot_be_seen(monkeypatch, tmp_path):
    """Never the released template by chance: a model with one of its own would be read wrongly."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelNotLoaded, match=rf"(?s){SETTINGS_FILE}.*Next: .*template="):
        settings_path(Checkpoint("someone/some-scorer"))


@pytest.mark.parametrize(
    ("scorer", "template", "message"),
    [(DeitaComplexity, "Score: ", "has {instruction} once"), (DeitaComplexity, "{instruction}", "needs an ending"),
     (DeitaComplexity, "{instruction} {response}: ", "no other place"),
     (DeitaComplexity, "{instruction} {instruction}: ", "once each"), (DeitaComplexity, 3, "template is int"),
     (DeitaQuality, "{instruction}: ", "{instruction} and {response} once each")],
)  # fmt: skip
def test_templates_that_are_refused(scorer, template, message):
    with pytest.raises(ValueError, match=message):
        scorer("gpt2", template=template)


@given(st.text(), st.text())
def test_filling_puts_the_texts_in_as_they_are(instruction, response):
    got = filled(QUALITY, {"instruction": instruction, "response": response})
    assert got == text_of("quality", instruction, response)


# --- the house contract ---


@pytest.mark.parametrize(("scorer", "name"), BOTH)
def test_score_writes_the_columns_and_resumes(scorer, name, tiny_qwen2, tmp_path):
    pool = Dataset.from_dict(BATCH | {"output": [*BATCH["output"][:-1], ""]})
    made = scorer(tiny_qwen2, dtype="float32")
    assert Features(made.features())[f"{name}_turns"] == List(Value("float32"))
    scored = hf_dsel.score(pool, made, cache_dir=tmp_path, shard_rows=2)
    assert scored.column_names == [*pool.column_names, *made.features()]
    whole = made(pool[:])
    np.testing.assert_allclose(
        np.array(scored[name][:], float), np.array(whole[name], float), rtol=1e-5
    )  # other micro-batches
    again = hf_dsel.score(pool, scorer(tiny_qwen2, dtype="float32", batch_tokens=7), cache_dir=tmp_path, shard_rows=2)
    assert again[name][:] == scored[name][:]


@pytest.mark.parametrize(("scorer", "name"), BOTH)
def test_hash_pickle_join_and_settings(scorer, name, tiny_qwen2):
    made = scorer(tiny_qwen2)
    before = Hasher.hash(made)
    made.on_rows = print
    made({"prompt": [], "completion": []})
    assert Hasher.hash(made) == before
    copied = pickle.loads(pickle.dumps(made))
    assert copied == made and copied.on_rows is None
    assert made.joined(scorer(tiny_qwen2)) is made and made.joined(scorer(tiny_qwen2, combine="max")) is None
    found = made.settings()
    assert json.loads(json.dumps(found)) == found and found["scorer"] == scorer.__name__ and found["algorithm"] >= 1
    assert found == scorer(tiny_qwen2, batch_tokens=3).settings() != scorer(tiny_qwen2, combine="max").settings()
    assert scorer("gpt2").settings()["template"] is None


def test_progress_counts_every_row_once(tiny_qwen2):
    for scorer, _ in BOTH:
        seen = []
        made = scorer(tiny_qwen2, batch_tokens=150, max_length=140)
        made.on_rows = seen.append
        made({"messages": [CONVERSATION, [], CONVERSATION[1:3], None, [{"role": "user", "content": "🌊" * 900}]]})
        assert sum(seen) == 5 and len(seen) > 1


@pytest.mark.parametrize(
    ("bad", "message"),
    [({"combine": "median"}, "'median'"), ({"turns": "second"}, "'second'"), ({"side": "both"}, "'both'"),
     ({"dtype": "fp8"}, "'fp8'"), ({"max_length": 1}, "max_length=1"), ({"batch_tokens": 0}, "batch_tokens=0")],
)  # fmt: skip
def test_bad_options_are_named(bad, message):
    for scorer, _ in BOTH:
        with pytest.raises(ValueError, match=message):
            scorer("gpt2", **bad)
    with pytest.raises(TypeError):
        DeitaQuality("gpt2", history=True)  # turns are scored apart


def test_check_looks_at_columns_and_disk(tiny_qwen2, tiny_bert, tmp_path):
    DeitaQuality(tiny_qwen2).check(["messages"])
    DeitaQuality().check(["messages"])
    with pytest.raises(ValueError, match="no known format"):
        DeitaQuality(tiny_qwen2).check(["question"])
    with pytest.raises(ModelNotLoaded, match="Check the path"):
        DeitaQuality(f"{tmp_path}/nowhere").check(["messages"])
    with pytest.raises(ModelNotLoaded, match="BertModel"):
        DeitaComplexity(tiny_bert, template="Rate: {instruction}\n")(BATCH)


def test_bfloat16_is_close(tiny_qwen2):
    for scorer, name in BOTH:
        exact, rough = (scorer(tiny_qwen2, dtype=d)(BATCH)[name] for d in ("float32", "bfloat16"))
        np.testing.assert_allclose(np.array(rough, float), np.array(exact, float), atol=0.2)


@pytest.mark.slow
def test_a_real_model(smollm2_folder):
    """SmolLM2 in float32 beside one text at a time; the labels are one token after the released templates."""
    checkpoint = Checkpoint(smollm2_folder)
    model, tokenizer = checkpoint.load("causal", dtype="float32"), checkpoint.tokenizer()
    for scorer, name in BOTH:
        got = scorer(smollm2_folder, template={"complexity": COMPLEXITY, "quality": QUALITY}[name], dtype="float32")(
            BATCH
        )
        users = [(f"{i}\n{more}" if more else i, r) for i, more, r in ROWS]
        want = [slow_score(model, tokenizer, text_of(name, i, r)) for i, r in users]
        np.testing.assert_allclose(np.array(got[name], float), want, atol=1e-3)
