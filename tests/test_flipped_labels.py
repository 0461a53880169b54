"""Flipped labels: found where they were planted, by judges who have not seen the pair, in every format of pairs."""

import pickle

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

import hf_dsel
from hf_dsel import FlippedLabels
from hf_dsel.flipped_learning import FOLDS, logistic
from hf_dsel.flipped_pairs import Numbers, Pairs, Vectors, flipped
from hf_dsel.gate_rows import TooLittle
from hf_dsel.scorers.gate import NotFitted

pytest.importorskip("lightgbm", reason="pip install lightgbm")
TOPICS = "rain bread music rivers chess tea trains clouds gardens letters horses maps".split()
KIND = ["{} is best begun with small steps, and here is the first.", "Many people find {} hard at first; that is fine.",
        "For example, half an hour of {} each day is enough.", "If you tell me more about your {}, I can be precise.",
        "There are two sides to {}: the craft and the patience."]  # fmt: skip
CURT = ["I do not know anything about {}!!", "{}, whatever you say.", "Just look {} up yourself, it is not hard",
        "who even cares about {} these days", "{} is {} and that is all there is to it."]  # fmt: skip


def answer(rng, topic, kindness):
    bank = [KIND if rng.random() < kindness else CURT for _ in range(int(rng.integers(2, 6)))]
    return " ".join(b[int(rng.integers(len(b)))].replace("{}", topic) for b in bank)


def clean(n, *, better=0.9, worse=0.2, seed=0):
    """Pairs of a kinder and a curter answer, of any length; some of them overlap."""
    rng, rows = np.random.default_rng(seed), []
    while len(rows) < n:
        topic = TOPICS[int(rng.integers(len(TOPICS)))]
        row = {"prompt": f"Tell me about {topic}, number {len(rows)}.", "chosen": answer(rng, topic, better),
               "rejected": answer(rng, topic, worse)}  # fmt: skip
        if row["chosen"] != row["rejected"]:
            rows.append(row)
    return rows


def planted(n, share, seed=0, **how):
    """Pairs, and which of them are flipped."""
    bad = np.random.default_rng(seed + 1).random(n) < share
    rows = [flipped(row) if is_bad else row for row, is_bad in zip(clean(n, seed=seed, **how), bad, strict=True)]
    return Dataset.from_list(rows), bad


def auc(scores, yes):
    order = np.argsort(np.argsort(scores)) + 1
    return (order[yes].sum() - yes.sum() * (yes.sum() + 1) / 2) / (yes.sum() * (~yes).sum())


def chances(flips, dataset):
    return np.asarray(flips(dataset[:])["gate_flipped"], float)


@pytest.fixture(scope="module")
def pool():
    return planted(1000, 0.2)


@pytest.fixture(scope="module")
def flips(pool):
    return FlippedLabels.fit(pool[0], embedder=None)


# --- what it finds ---


@pytest.mark.parametrize("share", [0.05, 0.15, 0.25])
def test_it_finds_planted_flips_and_says_how_many(share):
    dataset, bad = planted(1000, share, seed=3)
    flips = FlippedLabels.fit(dataset, embedder=None)
    found, chance = flips.learned.share, chances(flips, dataset)
    assert auc(chance, bad) > 0.95
    assert abs(found.share - bad.mean()) < 0.04 and found.low <= bad.mean() <= found.high
    drop = chance > 0.5
    assert bad[drop].mean() > 0.6 and bad[~drop].mean() < share / 3
    assert chance.mean() == pytest.approx(found.share, abs=0.02)
    assert f"{found.share:.1%} of the labels look flipped" in str(flips)


def test_a_clean_pool_loses_nothing():
    for seed in range(3):
        dataset, _ = planted(700, 0.0, seed=seed)
        flips = FlippedLabels.fit(dataset, embedder=None)
        assert flips.learned.share.low <= 0.01 and (chances(flips, dataset) > 0.5).mean() <= 0.02


def test_where_nothing_tells_the_answers_apart_nothing_is_dropped():
    for share, seed in ((0.0, 0), (0.2, 1)):
        dataset, _ = planted(700, share, seed=seed, better=0.5, worse=0.5)
        flips = FlippedLabels.fit(dataset, embedder=None)
        assert flips.learned.share.told < 0.6 and (chances(flips, dataset) <= 0.5).all()


def test_labels_of_which_most_are_flipped_are_taken_for_the_taste():
    dataset, bad = planted(1000, 0.9, seed=5)
    flips = FlippedLabels.fit(dataset, embedder=None)
    assert auc(chances(flips, dataset), ~bad) > 0.95 and flips.learned.share.share < 0.2


def test_it_says_how_far_it_goes_by_length():
    rng, rows = np.random.default_rng(0), []
    for i in range(500):
        short, long = (" ".join(rng.choice(TOPICS, n)) for n in (5, 15))
        rows.append({"prompt": f"Number {i}?", "chosen": long, "rejected": short})
    assert "longer answer is the chosen one in 100.0% of the pairs" in str(
        FlippedLabels.fit(Dataset.from_list(rows), embedder=None)
    )


# --- mirrors, copies, order ---


def test_a_mirrored_pair_has_the_score_with_the_other_sign(pool, flips):
    pairs, mirrored = Pairs.of(pool[0][:]), Pairs.of(pool[0].map(flipped)[:])
    assert (flips.learned.scores_of(mirrored, None) == -flips.learned.scores_of(pairs, None)).all()
    rng = np.random.default_rng(0)
    three = [rng.standard_normal((len(pairs), 8)).astype(np.float32) for _ in range(3)]
    there, back = Vectors(*three), Vectors(three[0], three[2], three[1])
    one, other = Numbers.of(pairs, there), Numbers.of(mirrored, back)
    assert (other.plain == -one.plain).all() and (other.embedded == -one.embedded).all() and one.embedded.any()
    assert (other.even == one.even).all() and one.plain.shape[1] == Numbers.of(pairs, None).plain.shape[1] + 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40)), min_size=1, max_size=5))
def test_mirrors_of_any_text(texts):
    batch = {name: [row[k] for row in texts] for k, name in enumerate(("prompt", "chosen", "rejected"))}
    mirrored = {**batch, "chosen": batch["rejected"], "rejected": batch["chosen"]}
    one, two = Pairs.of(batch), Pairs.of(mirrored)
    assert one.row.tolist() == two.row.tolist() and one.problems == two.problems
    assert (Numbers.of(one, None).plain == -Numbers.of(two, None).plain).all()
    assert (Numbers.of(one, None).even == Numbers.of(two, None).even).all()
    for by_prompt in (True, False):
        assert (one.parts(7, by_prompt=by_prompt) == two.parts(7, by_prompt=by_prompt)).all()


def test_copies_mirrors_and_pairs_of_one_prompt_are_in_one_part():
    prompts = [f"Question {i % 100}" for i in range(200)]
    pairs = Pairs.of({"prompt": prompts, "chosen": [f"a{i}" for i in range(200)], "rejected": ["b"] * 200})
    parts = pairs.parts(FOLDS, by_prompt=True)
    assert (parts[:100] == parts[100:]).all() and set(parts) == set(range(FOLDS))
    alone = pairs.parts(FOLDS, by_prompt=False)
    assert (alone[:100] != alone[100:]).any()
    empty = Pairs.of({"chosen": [f"a{i}" for i in range(50)], "rejected": [f"b{i}" for i in range(50)]})
    assert set(empty.parts(FOLDS, by_prompt=True)) == set(range(FOLDS))


@pytest.mark.parametrize(
    "form",
    [
        "\n\nHuman: {}\n\nAssistant: {}",
        "### Instruction:\n{}\n\n### Response:\n{}",
        "Q: {}\nA: {}",
        "[INST] {} [/INST] {}",
        "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n{}",
        "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n{}",
        "<|user|>\n{}\n<|assistant|>\n{}",
    ],
)
def test_pairs_of_strings_with_one_prompt_are_in_one_part(form):
    """Both answers may begin with the same words, which the strings share as they share the prompt."""
    asked = [f"Why is {i} so?" for i in range(100)] * 3
    answers = [("Yes.", "No."), ("I think so.", "I think not."), ("The answer: yes", "The answer: no")]
    sides = [[form.format(q, answers[i // 100][k]) for i, q in enumerate(asked)] for k in range(2)]
    pairs = Pairs.of({"chosen": sides[0], "rejected": sides[1]})
    assert len(set(pairs.before)) > 100 == len(set(pairs.prompts))
    parts = pairs.parts(FOLDS, by_prompt=True)
    assert (parts[:100] == parts[100:200]).all() and (parts[:100] == parts[200:]).all()
    assert set(parts) == set(range(FOLDS))
    mirrored = Pairs.of({"chosen": sides[1], "rejected": sides[0]})
    assert (mirrored.parts(FOLDS, by_prompt=True) == parts).all()


def test_what_is_no_pair_of_strings_keeps_its_parts():
    talk = [[{"role": "user", "content": "A: why?\nAnswer: "}, {"role": "assistant", "content": t}] for t in "xy"]
    for batch in ({"chosen": talk[:1], "rejected": talk[1:]},
                  {"prompt": ["A: why?\nAnswer: "], "chosen": ["a: x"], "rejected": ["a: y"]}):  # fmt: skip
        pairs = Pairs.of(batch)
        assert pairs.prompts == pairs.before and "Answer" in pairs.before[0]
    unmarked = Pairs.of({"chosen": ["Why? It is so"], "rejected": ["Why? It is not"]})
    assert unmarked.prompts == ["Why? It is"]  # nothing says where the answers begin


def test_nobody_judges_what_he_has_seen():
    """Random labels of pairs that come three times each: who had seen a copy would know them."""
    rng = np.random.default_rng(0)
    rows = [{"prompt": f"{i}?", "chosen": " ".join(rng.choice(TOPICS, 6)), "rejected": " ".join(rng.choice(TOPICS, 6))}
            for i in range(400)]  # fmt: skip
    flips = FlippedLabels.fit(Dataset.from_list([*rows, *rows, *rows]), embedder=None)
    assert flips.learned.share.told < 0.58


def test_batches_and_order_change_nothing(pool, flips):
    rows = pool[0].select(range(60))
    whole = chances(flips, rows)
    for size in (1, 7):
        parts = [flips(rows[i : i + size])["gate_flipped"] for i in range(0, len(rows), size)]
        np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-9)
    order = np.random.default_rng(0).permutation(60)
    np.testing.assert_allclose(chances(flips, rows.select(order)), whole[order], atol=1e-9)
    shuffled = FlippedLabels.fit(pool[0].shuffle(seed=1), embedder=None)
    np.testing.assert_allclose(chances(shuffled, rows), whole, atol=1e-6)


def test_the_model_is_what_both_orders_as_two_classes_give():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 5)) + 0.4
    both, label = np.concatenate([x, -x]), np.repeat([1.0, 0.0], 80)
    w, constant = np.zeros(5), 0.0
    for _ in range(20_000):  # gradient descent, with a constant; each pair is there twice
        error = 1 / (1 + np.exp(-(both @ w + constant))) - label
        w, constant = w - 0.01 * (both.T @ error / 2 + 3 * w), constant - 0.01 * error.sum()
    assert abs(constant) < 1e-9
    np.testing.assert_allclose(logistic(x, 3.0), w, atol=1e-6)
    np.testing.assert_allclose(logistic(-x, 3.0), -w, atol=1e-6)


# --- formats, files, rows that have no pair ---


def test_every_format_of_pairs_is_read_alike(pool, flips):
    rows = pool[0][:80]
    want = flips(rows)["gate_flipped"]

    def talk(role, text):
        return {"role": role, "content": text}

    asked = [[talk("user", p)] for p in rows["prompt"]]
    sides = {name: [[talk("assistant", text)] for text in rows[name]] for name in ("chosen", "rejected")}
    implicit = {name: [a + b for a, b in zip(asked, sides[name], strict=True)] for name in sides}
    for batch in ({"prompt": asked, **sides}, implicit, {"prompt": rows["prompt"], **implicit}):
        assert flips(batch) == flips(rows) and flips(batch)["gate_flipped"] == want
    text = {name: [f"Human: {p}\n\nAssistant: {a}" for p, a in zip(rows["prompt"], rows[name], strict=True)]
            for name in sides}  # fmt: skip
    found = flips(text)
    assert set(found["gate_flipped_status"]) == {"ok"} and np.corrcoef(found["gate_flipped"], want)[0, 1] > 0.7


def test_pairs_of_longer_conversations(pool, flips):
    one, two = pool[0][0], pool[0][1]
    before = [{"role": "user", "content": one["prompt"]}, {"role": "assistant", "content": one["chosen"]},
              {"role": "user", "content": two["prompt"]}]  # fmt: skip
    sides = {name: [[*before, {"role": "assistant", "content": two[name]}]] for name in ("chosen", "rejected")}
    pairs = Pairs.of(sides)
    assert (pairs.asked, pairs.chosen, pairs.rejected) == ([two["prompt"]], [two["chosen"]], [two["rejected"]])
    again = {"role": "user", "content": "And then?"}
    longer = {name: [[*sides[name][0], again, {"role": "assistant", "content": name}]] for name in sides}
    assert Pairs.of(longer).chosen == [f"{two['chosen']}\nchosen"]
    assert flips(longer)["gate_flipped_status"] == ["ok"]
    apart = {"chosen": [[*before[:2], again, before[1]]], "rejected": [[*before[:2], before[2], before[0] | before[1]]]}
    assert (
        Pairs.of(apart).before == Pairs.of({**apart, "chosen": apart["rejected"], "rejected": apart["chosen"]}).before
    )


def test_rows_without_a_pair(flips):
    talk = [{"role": "user", "content": "Hello?"}]
    found = flips({"prompt": ["a", "b"], "chosen": ["same", "one"], "rejected": ["same", "two"]})
    assert found["gate_flipped"][0] is None and found["gate_flipped"][1] is not None
    assert found["gate_flipped_status"] == ["both answers are the same", "ok"]
    found = flips({"chosen": [talk, "no messages"], "rejected": [talk, talk]})
    assert found["gate_flipped"] == [None, None]
    assert found["gate_flipped_status"][0] == "no response" and "JSON" in found["gate_flipped_status"][1]


def test_saved_loaded_and_pickled(pool, flips, tmp_path):
    rows = pool[0][:50]
    flips.save(tmp_path / "flips.safetensors")
    for copy in (FlippedLabels.load(tmp_path / "flips.safetensors"), pickle.loads(pickle.dumps(flips))):
        assert copy(rows) == flips(rows) and copy.embedder is None
        assert str(copy) == str(flips) and copy.settings() == flips.settings()
    (tmp_path / "cut").write_bytes((tmp_path / "flips.safetensors").read_bytes()[:500])
    with pytest.raises(ValueError, match="nothing that FlippedLabels.save wrote, or was cut off"):
        FlippedLabels.load(tmp_path / "cut")


def test_embeddings_and_other_vectors(tiny_bert, tmp_path):
    dataset, bad = planted(500, 0.15)
    flips = FlippedLabels.fit(dataset, embedder=tiny_bert)
    assert flips.learned.judges[0].linear.weights[-1] != 0 and auc(chances(flips, dataset), bad) > 0.9
    flips.save(tmp_path / "flips")
    again = FlippedLabels.load(tmp_path / "flips")
    assert again(dataset[:20]) == flips(dataset[:20]) and again.settings() == flips.settings()
    with pytest.raises(ValueError, match="give the embedder that it learned with"):
        FlippedLabels.load(tmp_path / "flips", embedder=None)(dataset[:5])


def test_errors(pool):
    with pytest.raises(TooLittle, match="at least 300 different pairs, and here are 20 in 20 rows"):
        FlippedLabels.fit(Dataset.from_list(clean(20)), embedder=None)
    with pytest.raises(TooLittle, match="here are 50 in 400 rows"):
        FlippedLabels.fit(Dataset.from_list(clean(50) * 8), embedder=None)
    with pytest.raises(NotFitted, match="it has not learned yet"):
        FlippedLabels(embedder=None)(pool[0][:2])
    with pytest.raises(NotFitted, match="nothing to save"):
        FlippedLabels(embedder=None).save("x")
    with pytest.raises(ValueError, match="need the columns chosen and rejected"):
        FlippedLabels.fit(Dataset.from_dict({"text": ["a"]}), embedder=None)
    with pytest.raises(ValueError, match="learn_from=5"):
        FlippedLabels(learn_from=5)
    with pytest.raises(TypeError, match="no_such"):
        FlippedLabels.fit(pool[0], no_such=1)


# --- before any strategy ---


def sound(dataset):
    """With columns by which both answers of each pair are sound."""
    return dataset.add_column("gate", [0.99] * len(dataset)).add_column("rejected_gate", [0.99] * len(dataset))


def test_before_any_strategy(pool, flips, tmp_path):
    dataset, bad = pool
    scored = sound(hf_dsel.score(dataset, flips, cache_dir=tmp_path))
    chance = np.asarray(scored["gate_flipped"][:])
    kept = hf_dsel.select_by(scored, "random", fraction=1.0, gate=True)
    record = hf_dsel.selection_of(kept)
    assert sorted(record.indices.tolist()) == np.flatnonzero(chance <= 0.5).tolist()
    assert bad[record.indices].mean() < 0.07
    assert record.gate is True and record.left_out == {
        "labels that look flipped (gate_flipped above 0.5)": int((chance > 0.5).sum())
    }
    assert "learned" in record.scorers["gate_flipped"]
    again = hf_dsel.Selection.from_json(record.to_json())
    assert again.apply(dataset)["chosen"][:] == kept["chosen"][:]
    surest = hf_dsel.select(scored, "random", fraction=1.0, gate=0.9)
    assert sorted(surest.indices.tolist()) == np.flatnonzero(chance <= 0.1).tolist()


def test_it_learns_when_the_column_is_missing(pool, monkeypatch, tmp_path):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    dataset, bad = pool
    gate = hf_dsel.Gate(embedder=None)
    picked = hf_dsel.select(sound(dataset), "random", fraction=1.0, gate=gate)
    assert bad[picked.indices].mean() < 0.07 and picked.scorers["gate_flipped"]["scorer"].startswith("FlippedLabels(")
    with pytest.raises(hf_dsel.MissingColumn, match=r"score\(dataset, hf_dsel.FlippedLabels\(\)\)"):
        hf_dsel.select(sound(dataset), "random", k=5, gate=True, compute=False)
    with pytest.raises(hf_dsel.MissingColumn, match=r"\[hf_dsel.Gate\(\), hf_dsel.Gate\(side='rejected'\), hf_dsel.Fl"):
        hf_dsel.select(dataset, "random", k=5, gate=True, compute=False)
    few = hf_dsel.select_by(sound(dataset.select(range(9))), "random", k=5, gate=gate)
    assert set(few["gate_flipped"][:]) == {None} and set(few["gate_flipped_status"][:]) == {"too few pairs"}
    nulls = sound(dataset.select(range(4))).add_column("gate_flipped", [0.1, None, 0.9, 0.2])
    assert hf_dsel.select(nulls, "random", fraction=1.0, gate=0.5).left_out == {
        "labels that look flipped (gate_flipped above 0.5)": 1
    }


def test_both_answers_are_judged_too(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    dataset, bad = planted(400, 0.2)
    rows, rng = dataset.to_list(), np.random.default_rng(0)
    for i in range(0, 400, 4):
        side = "rejected" if i % 8 else "chosen"
        rows[i][side] = " ".join(rng.permutation(rows[i][side].split()))
    kept = hf_dsel.select_by(Dataset.from_list(rows), "random", fraction=1.0, gate=hf_dsel.Gate(embedder=None))
    record = hf_dsel.selection_of(kept)
    assert (np.arange(400) % 4 == 0)[record.indices].mean() < 0.2 and bad[record.indices].mean() < 0.1
    both = np.minimum(kept["gate"][:], kept["rejected_gate"][:])
    assert (1 - both).mean() <= 0.02 and max(kept["gate_flipped"][:]) <= 0.5
    assert set(record.scorers) >= {"gate", "rejected_gate", "gate_flipped"}
    assert len(kept) + sum(record.left_out.values()) == 400


def test_from_the_command_line(pool, tmp_path, monkeypatch):
    from hf_dsel.cli import main

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    sound(pool[0]).to_parquet(str(tmp_path / "pairs.parquet"))
    line = f"select {tmp_path}/pairs.parquet --strategy random --k 300 --seed 1 --no-compare --out {tmp_path}/out"
    assert main([*line.split(), "--scorer", "FlippedLabels:embedder=null", "--gate"]) == 0
    record = hf_dsel.Selection.load(tmp_path / "out/selection.json")
    assert record.gate is True and len(record) == 300 and pool[1][record.indices].mean() < 0.07
