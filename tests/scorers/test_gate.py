"""The gate: it finds planted junk, judges nobody by who has seen him, and comes back from its file."""

import pickle

import numpy as np
import pytest
from datasets import Dataset

import hf_dsel
from hf_dsel import Gate
from hf_dsel.corruptions import CORRUPTIONS, cut_short, other_answer, placeholder, similar_answer, words_shuffled
from hf_dsel.gate_learning import FOLDS, _seen, part_of, parts_of
from hf_dsel.gate_rows import TooLittle
from hf_dsel.rows import read
from hf_dsel.scorers.gate import NotFitted

pytest.importorskip("lightgbm", reason="pip install lightgbm")
TOPICS = [
    "rain",
    "bread",
    "music",
    "rivers",
    "chess",
    "tea",
    "trains",
    "clouds",
    "gardens",
    "letters",
    "horses",
    "maps",
]
FACTS = ["comes from {} and is known everywhere", "needs {} and a little patience", "was changed by {} long ago",
         "is nothing without {}", "makes {} easier for all of us", "has a lot to do with {}"]  # fmt: skip


def sentence(rng, topic):
    other = TOPICS[int(rng.integers(len(TOPICS)))]
    return f"{topic.capitalize()} {FACTS[int(rng.integers(len(FACTS)))].format(other)}."


def clean(n, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        topic = TOPICS[int(rng.integers(len(TOPICS)))]
        answer = " ".join(sentence(rng, topic) for _ in range(int(rng.integers(2, 6))))
        rows.append({"instruction": f"Tell me about {topic}, number {i}.", "output": answer})
    return rows


def dirty(n, share, kinds, seed=0):
    """Rows, and which of them are broken."""
    rows, rng = clean(n, seed), np.random.default_rng(seed + 1)
    bad = rng.random(n) < share
    for i in np.flatnonzero(bad):
        messages = [{"role": "user", "content": rows[i]["instruction"]},
                    {"role": "assistant", "content": rows[i]["output"]}]  # fmt: skip
        broken = kinds[int(rng.integers(len(kinds)))](messages, None, rng)
        rows[i]["output"] = broken[-1]["content"]
    return Dataset.from_list(rows), bad


@pytest.fixture(scope="module")
def pool():
    return dirty(900, 0.3, (cut_short, placeholder, words_shuffled))


@pytest.fixture(scope="module")
def gate(pool):
    return Gate.fit(pool[0], embedder=None)


def auc(scores, good):
    order = np.argsort(np.argsort(scores)) + 1
    return (order[good].sum() - good.sum() * (good.sum() + 1) / 2) / (good.sum() * (~good).sum())


def test_it_finds_planted_junk_and_says_how_much(pool, gate, tmp_path):
    dataset, bad = pool
    found = dataset.map(gate, batched=True, batch_size=100)
    sound = np.asarray(found["gate"][:])
    assert auc(sound, ~bad) > 0.9
    assert 0.1 < gate.learned.junk.share < 0.4
    assert sound[bad].mean() < 0.5 and sound[~bad].mean() > 0.8
    reasons = [r for r, is_bad, s in zip(found["gate_reason"][:], bad, sound, strict=True) if is_bad and s < 0.5]
    assert sum(r in ("cut_short", "placeholder", "words_shuffled", "code_damaged") for r in reasons) > len(reasons) / 2
    assert set(found["gate_status"][:]) == {"ok"}
    again = hf_dsel.score(dataset, Gate(embedder=None), cache_dir=tmp_path)  # fits first
    np.testing.assert_allclose(again["gate"][:], sound, atol=1e-6)
    assert "look like corrupted ones" in str(gate) and "words_shuffled" in str(gate)


def test_a_clean_pool_loses_nothing():
    dataset = Dataset.from_list(clean(900))
    gate = Gate.fit(dataset, embedder=None)
    assert gate.learned.junk.share < 0.02
    assert (np.asarray(dataset.map(gate, batched=True)["gate"][:]) > 0.5).mean() > 0.98


def test_batches_and_order_change_nothing(pool, gate):
    rows = pool[0].select(range(40))
    whole = gate(rows[:])
    for size in (1, 7):
        parts = [gate(rows[i : i + size]) for i in range(0, len(rows), size)]
        np.testing.assert_allclose([v for p in parts for v in p["gate"]], whole["gate"], atol=1e-6)
    backwards = gate(rows.select(range(39, -1, -1))[:])
    np.testing.assert_allclose(backwards["gate"][::-1], whole["gate"], atol=1e-6)


def test_saved_loaded_and_pickled(pool, gate, tmp_path):
    rows = pool[0][:50]
    gate.save(tmp_path / "gate.safetensors")
    for copy in (Gate.load(tmp_path / "gate.safetensors"), pickle.loads(pickle.dumps(gate))):
        assert copy(rows) == gate(rows) and copy.embedder is None
        assert str(copy) == str(gate) and copy.settings()["learned"] == gate.settings()["learned"]
    assert b"pickle" not in (tmp_path / "gate.safetensors").read_bytes()[:8192]
    (tmp_path / "cut").write_bytes((tmp_path / "gate.safetensors").read_bytes()[:5000])
    with pytest.raises(ValueError, match="no gate that Gate.save wrote, or was cut off"):
        Gate.load(tmp_path / "cut")


def test_the_share_of_another_pool(pool, gate, tmp_path):
    own = gate.for_pool(pool[0])
    mine, theirs = own.learned.junk, gate.learned.junk  # by the same judges, so the same
    assert (mine.share, mine.low, mine.high) == (theirs.share, theirs.low, theirs.high)
    assert own(pool[0][:60]) == gate(pool[0][:60]) and own.settings()["learned"] != gate.settings()["learned"]

    without = Dataset.from_list(clean(500, seed=5))
    looked = gate.for_pool(without)
    assert looked.learned.junk.share < 0.03 < gate.learned.junk.share
    assert np.min(looked(without[:])["gate"]) > 0.97 > np.min(gate(without[:])["gate"])
    more, bad = dirty(500, 0.6, (cut_short, placeholder, words_shuffled), seed=9)
    looked_twice = looked.for_pool(more)
    assert abs(looked_twice.learned.junk.share - bad.mean()) < 0.15
    first = str(looked_twice).splitlines()[0]
    assert first.endswith(f"estimated on 500 rows of another pool, learned from {gate.learned.rows_used:,} rows")

    looked.save(tmp_path / "gate.safetensors")
    for copy in (Gate.load(tmp_path / "gate.safetensors"), pickle.loads(pickle.dumps(looked))):
        assert copy(without[:50]) == looked(without[:50]) and str(copy) == str(looked)
        assert copy.for_pool(more).learned.junk.share == looked_twice.learned.junk.share


def test_what_has_no_share(gate):
    with pytest.raises(NotFitted, match="has not learned yet: Gate.fit"):
        Gate(embedder=None).for_pool(Dataset.from_list(clean(400)))
    few = (
        "the gate estimates the share of junk in at least 300 different rows with an answer, and here are 200 of 200. T"
    )
    with pytest.raises(TooLittle, match=few + "ake the gate as it is, without for_pool, or a larger pool"):
        gate.for_pool(Dataset.from_list(clean(200)))
    same = Dataset.from_list([{"instruction": f"Question {i}", "output": "yes"} for i in range(400)])
    with pytest.raises(TooLittle, match="only 1 different answers, and the gate estimates .* Take the gate as it is"):
        gate.for_pool(same)
    with pytest.raises(TypeError, match="Gate.for_pool reads one Dataset, and this is of type list; rows become one"):
        gate.for_pool(clean(400))


def test_no_row_is_judged_by_who_has_seen_it():
    rows = read({"instruction": [f"Question {i}" for i in range(200)] + ["Question 7"],
                 "output": [f"Answer {i}" for i in range(200)] + ["Answer 7"]})  # fmt: skip
    parts = [part_of(row) for row in rows]
    assert parts[7] == parts[200] and set(parts) == set(range(2 * FOLDS))
    for part in range(2 * FOLDS):
        for judge in (2 * (part % FOLDS), 2 * (part % FOLDS) + 1):  # those that cross_scores asks
            knows, learns = _seen(judge)
            assert part not in knows and part not in learns and not set(knows) & set(learns)
            assert len(knows) + len(learns) == 2 * FOLDS - 2


def test_conversations_and_pairs(pool, gate):
    sound = np.asarray(gate(pool[0][:])["gate"])
    first, second = pool[0].select(np.argsort(-sound)[:2])

    def said(row, answer=None):
        return [{"role": "user", "content": row["instruction"]},
                {"role": "assistant", "content": answer or row["output"]}]  # fmt: skip

    whole, broken = [*said(first), *said(second)], [*said(first), *said(second, "N/A")]
    found = gate({"messages": [whole, broken, said(second, "N/A")]})
    assert found["gate"][0] > 0.5 > found["gate"][1] and found["gate"][2] < 0.5  # the least sound turn counts
    assert found["gate_reason"][1] == "placeholder"
    pairs = {"prompt": [first["instruction"]], "chosen": [first["output"]], "rejected": ["N/A"]}
    assert gate.of_side("rejected")(pairs)["rejected_gate"][0] < 0.5 < gate(pairs)["gate"][0]


def test_rows_without_an_answer(gate):
    found = gate({"messages": [[{"role": "user", "content": "Hello?"}], "no messages at all"]})
    assert found["gate"] == [None, None] and found["gate_reason"] == [None, None]
    assert found["gate_status"][0] == "no response" and "not JSON" in found["gate_status"][1]


def test_a_corruption_of_your_own(pool):
    def shouted(messages, others, rng):
        """Everything in capitals."""
        return [m if m["role"] == "user" else {**m, "content": m["content"].upper()} for m in messages]

    dataset = Dataset.from_list(clean(500))
    gate = Gate.fit(dataset, embedder=None, corruptions=(*CORRUPTIONS, shouted))
    loud = {name: [v.upper() if name == "output" else v for v in dataset[name][:60]] for name in dataset.column_names}
    kinds = [gate.learned.names[k] for k in np.unique(gate.learned.broken_kinds)]
    assert "shouted" in kinds and gate(loud)["gate_reason"].count("shouted") > 40


def test_embeddings_by_a_model_or_from_columns(minilm):
    dataset, few = Dataset.from_list(clean(400)), (cut_short, other_answer, similar_answer, words_shuffled)
    by_model = Gate.fit(dataset, embedder=minilm, corruptions=few)
    embed = hf_dsel.Embed(minilm)
    with_columns = dataset.map(embed, batched=True)
    by_column = Gate.fit(with_columns, embedder=minilm, embedding="embedding", corruptions=few)
    batch = with_columns[:80]
    np.testing.assert_allclose(by_column(batch)["gate"], by_model(batch)["gate"], atol=0.15)
    foreign = with_columns.map(lambda _, i: {"embedding": np.eye(384, dtype=np.float16)[i % 384]}, with_indices=True)
    with pytest.raises(ValueError, match="holds other vectors than the embedder"):
        Gate.fit(foreign, embedder=minilm, embedding="embedding")


def test_errors():
    with pytest.raises(TooLittle, match="at least 300 different rows with an answer, and here are 20 of 20"):
        Gate.fit(Dataset.from_list(clean(20)), embedder=None)
    with pytest.raises(NotFitted, match="has not learned yet"):
        Gate(embedder=None)({"text": ["a"]})
    with pytest.raises(TypeError, match="no_such"):
        Gate.fit(Dataset.from_list(clean(5)), no_such=1)
    with pytest.raises(ValueError, match="two or more functions"):
        Gate(corruptions=(cut_short,))
    with pytest.raises(ValueError, match="learn_from=5"):
        Gate(learn_from=5)
    with pytest.raises(ValueError, match="give embedder= too"):
        Gate(embedder=None, embedding="embedding")
    with pytest.raises(ValueError, match="the column 'output' holds the rows' texts; name one of vectors"):
        Gate.fit(Dataset.from_list(clean(5)), embedding="output")
    with pytest.raises(ValueError, match="no column 'vectors'"):
        Gate.fit(Dataset.from_list(clean(5)), embedding="vectors")


def test_before_any_strategy(pool, gate):
    dataset, bad = pool
    kept = hf_dsel.select_by(dataset, "random", fraction=1.0, gate=gate)
    sound = np.asarray(kept["gate"][:])
    everywhere = -np.sort(-np.asarray(gate(dataset[:])["gate"]))
    one_more = everywhere[everywhere >= everywhere[len(kept)]]  # equal ones go together
    assert (1 - sound).mean() <= 0.02 < (1 - one_more).mean()  # as many as the 2 % let through
    record = hf_dsel.selection_of(kept)
    assert bad[record.indices].mean() < bad.mean() / 3
    assert record.gate is True and sum(n for why, n in record.left_out.items() if "gate below" in why) > 100
    assert "scorer" in record.scorers["gate"]
    again = hf_dsel.Selection.from_json(record.to_json())
    assert again.gate is True and again.apply(dataset)["output"][:] == kept["output"][:]
    half = hf_dsel.select_by(dataset.map(gate, batched=True), "random", fraction=1.0, gate=0.5)
    assert min(half["gate"][:]) >= 0.5 and len(half) == (np.asarray(gate(dataset[:])["gate"]) >= 0.5).sum()
    copies = hf_dsel.select_by(dataset.map(gate, batched=True), "random", k=5, gate=0.5, dedup=True)
    assert len(copies) == 5


def test_a_column_that_is_there_is_used():
    dataset = Dataset.from_list(clean(6)).add_column("gate", [0.9, 0.2, None, 1.0, 0.6, 0.5])
    picked = hf_dsel.select(dataset, "random", fraction=1.0, gate=0.5)
    assert sorted(picked.indices.tolist()) == [0, 3, 4, 5]
    assert picked.left_out == {"a gate below 0.5": 1, "no gate": 1} and picked.gate == 0.5
    pairs = Dataset.from_dict({"prompt": ["a", "b"], "chosen": ["c", "d"], "rejected": ["e", "f"],
                               "gate": [0.9, 0.9], "rejected_gate": [0.1, 0.9], "gate_flipped": [0.1] * 2})  # fmt: skip
    assert hf_dsel.select(pairs, "random", fraction=1.0, gate=0.5).indices.tolist() == [1]
    with pytest.raises(hf_dsel.MissingColumn, match=r"score\(dataset, hf_dsel.Gate\(\)\)"):
        hf_dsel.select(Dataset.from_list(clean(6)), "random", k=2, gate=True, compute=False)
    with pytest.raises(ValueError, match="gate=1.5 must be above 0 and at most 1"):
        hf_dsel.select(dataset, "random", k=2, gate=1.5)
    with pytest.raises(TypeError, match="gate is 'yes'"):
        hf_dsel.select(dataset, "random", k=2, gate="yes")
    doubtful = Dataset.from_list(clean(3)).add_column("gate", [0.9, 0.8, 0.7])
    with pytest.raises(ValueError, match=r"even the soundest are sound by 90.0% alone. Give .* gate=0.84 for"):
        hf_dsel.select(doubtful, "random", k=1, gate=True)
    with pytest.raises(TypeError, match="without streaming"):
        hf_dsel.select_by(dataset.to_iterable_dataset(), "random", k=2, gate=True)


def test_from_the_command_line(pool, tmp_path, monkeypatch):
    from hf_dsel.cli import main

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    pool[0].to_parquet(str(tmp_path / "pool.parquet"))
    line = f"select {tmp_path}/pool.parquet --strategy random --k 100 --seed 1 --no-compare --out {tmp_path}/out"
    assert main([*line.split(), "--scorer", "Gate:embedder=null", "--gate", "0.6", "--dedup"]) == 0
    record = hf_dsel.Selection.load(tmp_path / "out/selection.json")
    assert record.gate == 0.6 and len(record) == 100 and pool[1][record.indices].mean() < 0.15
    assert main([*line.split(), "--gate", "much"]) == 2


def test_both_answers_of_pairs_are_judged_by_one_gate_and_few_pairs_stay():
    chosen, rejected = clean(320), clean(320, seed=7)
    pairs = Dataset.from_dict({"prompt": [r["instruction"] for r in chosen], "chosen": [r["output"] for r in chosen],
                               "rejected": [r["output"] for r in rejected]})  # fmt: skip
    learned = Gate.fit(pairs, embedder=None)
    picked = hf_dsel.select_by(pairs, "random", k=50, gate=Gate(embedder=None))
    for side, name in (("chosen", "gate"), ("rejected", "rejected_gate")):
        assert picked[name][:] == learned.of_side(side)(picked[:])[name]
    few = hf_dsel.select_by(pairs.select(range(40)), "random", k=20, gate=learned)
    assert len(few) == 20 and set(few["gate_flipped"][:]) == {None}
    assert set(few["gate_flipped_status"][:]) == {"too few pairs"}
    assert learned.of_side("rejected").response_embedding is None


def test_a_conversation_and_its_beginning_are_in_one_part():
    talk = [{"role": role, "content": f"{role} {i}"} for i in range(8) for role in ("user", "assistant")]
    parts = {part_of(row) for row in read({"messages": [talk[:n] for n in range(2, 17, 2)]})}
    assert len(parts) == 1


def test_a_chosen_text_is_in_one_part_whatever_it_is_compared_with():
    """Two strings are divided where they begin to differ, so the other one moves the border of the prompt."""
    asked = [f"Human: Why {i}?\n\nAssistant: " for i in range(60)]
    sides = ["Because it is so. ", "Because not.", "Because it is not."]
    text = {"chosen": [q + sides[0] for q in asked] * 2, "rejected": [q + s for s in sides[1:] for q in asked]}
    rows = read(text)
    assert rows[0].turns[0].response != rows[60].turns[0].response  # the border moved
    parts = parts_of(rows, text)
    assert (parts[:60] == parts[60:]).all() and set(parts) == set(range(2 * FOLDS))
    with_prompt = {"prompt": asked * 2, "chosen": [sides[0]] * 120, "rejected": [s for s in sides[1:] for _ in asked]}
    assert parts_of(read(with_prompt), with_prompt).tolist() == [part_of(row) for row in read(with_prompt)]
    lists = {name: [[{"role": "user", "content": "Why?"}, {"role": "assistant", "content": t}] for t in text[name]]
             for name in text}  # fmt: skip
    assert parts_of(read(lists), lists).tolist() == [part_of(row) for row in read(lists)]
    plain = {"text": ["a", "b"]}
    assert parts_of(read(plain), plain).tolist() == [part_of(row) for row in read(plain)]


def test_what_is_borrowed_is_a_copy_and_nothing_is_similar_without_vectors():
    def spoils_the_other(messages, others, rng):
        other = others.far()
        other[-1]["content"] = "spoiled"
        return [*messages[:-1], {"role": "assistant", "content": "only here"}]

    def needs_a_similar_one(messages, others, rng):
        return others.near()

    pool = Dataset.from_list(clean(320))
    gate = Gate.fit(pool, embedder=None, corruptions=(*CORRUPTIONS[:3], spoils_the_other, needs_a_similar_one))
    kinds = [gate.learned.names[k] for k in np.unique(gate.learned.broken_kinds)]
    assert kinds == ["other_answer", "cut_short", "spoils_the_other"]
    assert gate.settings()["corruptions"][-1] == "needs_a_similar_one"

    def never(messages, others, rng):
        return None

    def neither(messages, others, rng):
        return None

    with pytest.raises(ValueError, match=r"none of the corruptions \(never, neither\) can happen"):
        Gate.fit(pool, embedder=None, corruptions=(never, neither))
