import json

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Features, List, Value
from hypothesis import given, settings
from hypothesis import strategies as st

import hf_dsel
from hf_dsel import describing_texts, describing_vectors
from hf_dsel.columns import MissingColumn
from hf_dsel.describing import describe
from hf_dsel.describing_texts import parts
from hf_dsel.metrics.cluster_inertia import cluster_inertia
from hf_dsel.metrics.coverage import coverage
from hf_dsel.metrics.distinct import distinct
from hf_dsel.metrics.nearest_neighbour_distance import nearest_neighbour_distance
from hf_dsel.metrics.radius import radius
from hf_dsel.metrics.vendi_score import quality_weighted_vendi_score, vendi_score
from hf_dsel.metrics.words import word_numbers

WORDS = [f"{a}{b}" for a in "bcdfghk" for b in ("a", "e", "i", "o", "ux")]


def made(n=120, dim=6, seed=0, dtype="float32"):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((6, dim)) * 2
    x = (centres[rng.integers(0, 6, n)] + rng.standard_normal((n, dim))).astype(dtype)
    texts = [" ".join(rng.choice(WORDS, rng.integers(3, 9))) for _ in range(2 * n)]
    columns = {"instruction": texts[:n], "output": texts[n:], "quality": rng.random(n), "embedding": x.tolist()}
    features = {"instruction": Value("string"), "output": Value("string"), "quality": Value("float32")}
    return Dataset.from_dict(columns, Features(features | {"embedding": List(Value(dtype), length=dim)}))


def values(found, column="subset"):
    """Name → number of the subset or the pool."""
    return {m.name: e.value for m in found.metrics if (e := getattr(m, column)) is not None}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_every_number_is_what_it_says(dtype):
    pool = made(dtype=dtype)
    rows, draws = np.arange(3, 60, 2), [np.arange(29), np.arange(40, 69)]
    found = describe(pool, rows, random=draws, clusters=5)
    x, quality = np.array(pool["embedding"][:], dtype), np.array(pool["quality"][:])
    everything = np.arange(120)
    for name, number in (
        ("rows", len),
        ("quality, mean", lambda r: quality[r].mean()),
        ("coverage of the pool", lambda r: coverage(x, r)),
        ("nearest-neighbour distance", lambda r: nearest_neighbour_distance(x, r)),
        ("Vendi score", lambda r: vendi_score(x, r)),
        ("Vendi score, order 2", lambda r: vendi_score(x, r, order=2)),
        ("quality-weighted Vendi score", lambda r: quality_weighted_vendi_score(x, quality, r)),
        ("radius", lambda r: radius(x, r).radius),
    ):
        metric = found[name]
        assert metric.subset.value == pytest.approx(number(rows), rel=1e-6), name
        assert metric.pool.value == pytest.approx(number(everything), rel=1e-6), name
        drawn = [number(d) for d in draws]
        assert metric.random == pytest.approx(np.mean(drawn), rel=1e-6), name
        assert metric.spread == pytest.approx(np.std(drawn, ddof=1), rel=1e-5, abs=1e-9), name
        assert metric.subset.low is None and metric.pool.low is None  # nothing was sampled
    assert found.draws == 2 and "clusters: 2, by k-means on the pool" in "\n".join(found.notes)


def test_clusters_are_the_pools_and_cover_all_its_metrics():
    pool = made(400)
    found = describe(pool, np.arange(200), random=1, clusters=6)
    x = np.array(pool["embedding"][:], np.float32)
    one = cluster_inertia(x, np.zeros(400, np.int64)) / 400
    assert 0 < found["cluster inertia, a row"].pool.value < one
    assert found["entropy of clusters, bits"].pool.value <= np.log2(6)
    assert found["Rényi entropy, order 2, bits"].pool.value <= found["entropy of clusters, bits"].pool.value
    assert 1 / 6 < found["Simpson index of clusters"].pool.value < 1
    assert 0 < found["inter-cluster divergence, bits"].pool.value < 1


def test_distinct_is_compared_at_one_number_of_words():
    pool = made()
    short = min(range(120), key=lambda i: len(pool["instruction"][i].split()))
    found = describe(pool, np.array([short]), random=0)
    words = len(pool["instruction"][short].split())
    assert f"distinct-n, instructions: of {words} words of each set, as many as all have" in found.notes
    exact = distinct(*word_numbers([pool["instruction"][short]]))
    assert found["distinct-1, instructions"].subset.value == exact
    assert found["distinct-1, instructions"].subset.low is None
    assert found["distinct-1, instructions"].pool.sample == words


@given(seed=st.integers(0, 50))
@settings(max_examples=8, deadline=None)
def test_the_order_of_the_rows_does_not_matter(seed):
    pool, rows = made(60), np.arange(5, 30)
    order = np.random.default_rng(seed).permutation(len(rows))
    one = values(describe(pool, rows, random=[np.arange(10, 35)]))
    other = values(describe(pool, rows[order], random=[np.arange(10, 35)]))
    sampled = ("distinct", "inter-cluster")  # random orders of the rows
    for name, number in one.items():
        assert other[name] == pytest.approx(number, rel=0.2 if name.startswith(sampled) else 1e-5), name


@given(seed=st.integers(0, 50))
@settings(max_examples=8, deadline=None)
def test_copies_of_one_row_lower_every_diversity(seed):
    pool, rows = made(60, seed=seed), np.arange(24)
    found = describe(pool, rows, random=[np.concatenate([rows, np.full(600, 7)])])
    for metric in found.metrics:
        if metric.name == "coverage of the pool":
            assert metric.random == pytest.approx(metric.subset.value)
        elif metric.diverse == "higher" and "quality" not in metric.name and "divergence" not in metric.name:
            assert metric.random < metric.subset.value, metric.name
        elif metric.diverse == "lower":
            assert metric.random > metric.subset.value, metric.name


def test_the_same_seed_gives_the_same_table():
    pool = made()
    assert str(describe(pool, np.arange(9), seed=3)) == str(describe(pool, np.arange(9), seed=3))
    assert str(describe(pool, np.arange(9), seed=3)) != str(describe(pool, np.arange(9), seed=4))


# --- which rows ---


def test_a_subset_of_select_by_finds_its_vectors_in_the_pool():
    pool = made()
    record = hf_dsel.select(pool, "k_center", k=10)
    subset = record.apply(pool)
    assert "embedding" not in subset.column_names
    expected = values(describe(pool, record.indices))
    assert values(describe(pool, record)) == expected
    assert values(describe(pool, subset)) == expected
    part = subset.shuffle(seed=1).select(range(4))
    ranks = part["selection_rank"][:]
    assert describe(pool, part)["Vendi score"].subset == describe(pool, record.indices[ranks])["Vendi score"].subset
    assert values(describe(pool, subset.remove_columns("selection_rank"))) == expected


def test_a_subset_that_nobody_knows():
    pool = made()
    stranger = pool.select(range(8)).remove_columns("embedding")
    found = describe(pool, stranger, random=2)
    assert found["Vendi score"].subset is None and found["Vendi score"].random is not None
    assert found["distinct-1, responses"].subset is not None and found["quality, mean"].subset is not None
    assert any("which rows of the pool it consists of is unknown" in line for line in found.left_out)
    own = describe(pool, pool.select(range(8)), random=2)
    assert own["Vendi score"].subset.value == pytest.approx(describe(pool, np.arange(8))["Vendi score"].subset.value)


def test_a_selection_from_elsewhere():
    record = hf_dsel.select(made(seed=1), "top_k", k=4)
    with pytest.raises(hf_dsel.WrongSource, match="the subset was selected from another dataset than this pool"):
        describe(made(), record)
    elsewhere = record.apply(made(seed=1)).remove_columns("embedding")
    assert describe(made(), elsewhere, random=0)["Vendi score"].subset is None


def test_the_pool_alone():
    found = describe(made())
    assert "subset" not in str(found) and "random" not in str(found) and found.draws == 0
    assert "coverage of the pool" not in values(found, "pool") and "Vendi score" in values(found, "pool")


def test_random_subsets_of_ones_own():
    pool = made()
    record = hf_dsel.select(pool, "random", k=10)
    for given_as in (record, record.indices, record.apply(pool), [record], [pool.select(record.indices)]):
        found = describe(pool, np.arange(10), random=given_as)
        assert found.draws == 1 and found["Vendi score"].random == pytest.approx(
            describe(pool, record)["Vendi score"].subset.value
        )


# --- what is missing ---


def test_without_embeddings_or_quality_there_is_a_line_that_says_so():
    found = describe(made().remove_columns(["embedding", "quality"]), np.arange(10))
    assert set(values(found)) >= {"rows", "response words, mean", "distinct-2, responses"}
    assert not {"Vendi score", "radius", "quality-weighted Vendi score"} & {m.name for m in found.metrics}
    text = "\n".join(found.left_out)
    assert "no column of embeddings. Add one: hf_dsel.score(pool, hf_dsel.Embed(" in text
    assert "quality-weighted Vendi score; the pool has no column 'quality'" in text
    assert "verb-noun pairs; they need a parser" in text and "left out: " in str(found)


def test_text_of_no_known_format():
    found = describe(made().remove_columns("output").rename_column("instruction", "question"), np.arange(10))
    assert "Vendi score" in values(found) and "distinct-1, responses" not in values(found)
    assert any(line.startswith("what reads text: no known format") for line in found.left_out)


def test_nulls_are_left_out_and_counted():
    pool = made(60)
    x = [None if i % 3 == 0 else v for i, v in enumerate(pool["embedding"][:])]
    q = [None if i % 4 == 0 else v for i, v in enumerate(pool["quality"][:])]
    holes = pool.remove_columns(["embedding", "quality"])
    holes = holes.add_column("quality", q, feature=Value("float32"))
    holes = holes.add_column("embedding", x, feature=List(Value("float32"), length=6))
    rows = np.arange(1, 40)
    found = describe(holes, rows, random=1)
    vectors, quality = np.array(pool["embedding"][:], np.float32), np.array(pool["quality"][:])
    kept = rows[rows % 3 > 0]
    both = kept[kept % 4 > 0]
    usable = np.flatnonzero(np.arange(60) % 3 > 0)
    assert found["Vendi score"].subset.value == pytest.approx(vendi_score(vectors, kept))
    assert found["coverage of the pool"].subset.value == pytest.approx(coverage(vectors, kept, seen_from=usable))
    assert found["quality, mean"].subset.value == pytest.approx(quality[rows[rows % 4 > 0]].mean())
    expected = quality_weighted_vendi_score(vectors, quality, both)
    assert found["quality-weighted Vendi score"].subset.value == pytest.approx(expected)
    assert "quality: the mean of the rows that have one, 45 of 60 in the pool" in found.notes
    assert "embedding: 20 rows of the pool without a vector are left out" in found.notes


def test_quality_that_cannot_weight():
    pool = made()
    below = pool.map(lambda row: {"quality": row["quality"] - 5})
    assert any("quality is below 0" in line for line in describe(below, np.arange(9)).left_out)
    rare = pool.map(lambda _, i: {"quality": 1.0 if i < 30 else None}, with_indices=True)
    assert any("most rows of a set have no quality" in line for line in describe(rare, np.arange(9)).left_out)


def test_odd_sets():
    pool = made(40)
    twins = Dataset.from_dict(
        {"embedding": [[1.0, 2.0]] * 9}, Features({"embedding": List(Value("float32"), length=2)})
    )
    found = describe(twins, np.arange(3))
    assert found["Vendi score"].subset.value == pytest.approx(1) and found["radius"].pool is None
    assert any("all vectors of the pool are alike" in line for line in found.left_out)
    lone = describe(pool, np.array([3]))
    assert lone["nearest-neighbour distance"].subset is None and lone["Vendi score"].subset.value == pytest.approx(1)


def test_two_embeddings():
    pool = made().add_column("other", made(seed=5)["embedding"][:], feature=List(Value("float32"), length=6))
    found = describe(pool, np.arange(20))
    assert found["other: Vendi score"].subset != found["embedding: Vendi score"].subset
    assert found["other: Vendi score"].subset == describe(pool, np.arange(20), embedding="other")["Vendi score"].subset


def test_what_is_refused():
    pool = made(20)
    for wrong, match in (
        ({"subset": np.array([3, 20])}, "row numbers from 0 to 19"),
        ({"subset": np.array([0.5])}, "row numbers from 0 to 19"),
        ({"subset": np.array([], np.int64)}, "the subset is empty"),
        ({"subset": made(30), "random": 1}, "30 rows and the pool 20"),
        ({"subset": np.arange(3), "random": -1}, "random is -1"),
        ({"clusters": 1}, "clusters is 1"),
        ({"columns": ["instruction"]}, "'instruction' holds no numbers"),
        ({"quality": "output"}, "'output' holds no numbers"),
    ):
        with pytest.raises(ValueError, match=match):
            describe(pool, **wrong)
    for wrong in ({"columns": ["ifd"]}, {"embedding": "vector"}):
        with pytest.raises(MissingColumn, match="no column"):
            describe(pool, **wrong)
    with pytest.raises(TypeError, match="the pool is a DatasetDict; describe takes a Dataset"):
        describe(DatasetDict({"train": pool}))
    with pytest.raises(ValueError, match="the pool has no rows"):
        describe(pool.select([]))


# --- samples ---


def test_samples_have_intervals_around_the_exact_numbers(monkeypatch):
    pool = made(3000, dim=5)
    rows = np.random.default_rng(1).choice(3000, 2000, replace=False)
    exact = describe(pool, rows, random=0, clusters=2)
    monkeypatch.setattr(describing_vectors, "PAIRS", 1000)  # 1,000 rows are looked at in any case
    monkeypatch.setattr(describing_vectors, "VENDI_WORK", 25 * 1500)
    monkeypatch.setattr(describing_texts, "TEXTS", 500)
    inside = []
    for seed in range(10):
        sampled = describe(pool, rows, random=0, clusters=2, seed=seed)
        for name in ("nearest-neighbour distance", "coverage of the pool", "Vendi score", "response words, mean"):
            for column in ("subset", "pool"):
                number, truth = getattr(sampled[name], column), getattr(exact[name], column)
                if (name, column) == ("coverage of the pool", "pool"):
                    continue
                assert number.sample in (500, 1000, 1500)
                half = number.high - number.value
                assert 0 < half < 0.25 * truth.value
                inside.append(number.low <= truth.value <= number.high)
    assert np.mean(inside) > 0.85, np.mean(inside)  # 95 % in the long run
    for what in (
        "coverage: seen from 1,000",
        "1,000 rows are looked at",
        "1,500 drawn",
        "500 rows drawn from each set",
    ):
        assert any(what in note for note in sampled.notes), what


@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=20), whole=st.booleans(), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_parts_are_samples_of_one_size(lengths, whole, seed):
    lengths = np.array(lengths)
    total = int(lengths.sum())
    size = max(1, total // 2) if whole else total // 5
    if total == 0 or size == 0:
        return
    seen = []
    for rows, kept, skipped in parts(lengths, size, whole=whole, rng=np.random.default_rng(seed)):
        assert kept.sum() == size and (kept > 0).all() and len(set(rows)) == len(rows)
        assert (skipped >= 0).all() and (kept + skipped <= lengths[rows]).all()
        seen += [(r, s + i) for r, k, s in zip(rows, kept, skipped, strict=True) for i in range(k)]
    assert whole or len(set(seen)) == len(seen)  # of a sample, no word twice


def test_the_record_fits_into_json():
    found = describe(made(), np.arange(20))
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["metrics"][0]["subset"]["value"] == 20


def test_conversations_pairs_and_plain_text():
    message = [{"role": "user", "content": "Name a fruit."}, {"role": "assistant", "content": "An apple, or a pear."}]
    chat = describe(Dataset.from_dict({"messages": [message, message + message]}))
    assert chat["response words, mean"].pool.value == 7.5 and chat["distinct-1, instructions"].pool.value == 3 / 9
    pairs = describe(Dataset.from_dict({"prompt": ["Hi", "Ho"], "chosen": ["a b c", "d"], "rejected": ["x", "y"]}))
    assert pairs["distinct-1, responses"].pool.value == 1 and "text: of the chosen answers" in pairs.notes
    plain = describe(Dataset.from_dict({"text": ["one two", "one"]}))
    assert plain["distinct-1, responses"].pool.value == 2 / 3
    assert "distinct-1, instructions" not in values(plain, "pool")


def test_verb_noun_pairs_with_a_parser():
    spacy = pytest.importorskip("spacy")

    @spacy.Language.component("verb_first_noun_last")
    def tag(text):
        for token in text:
            token.head, token.dep_, token.pos_, token.lemma_ = text[0], "dep", "X", token.lower_
        text[0].dep_, text[0].pos_ = "ROOT", "VERB"
        text[-1].dep_, text[-1].pos_ = "dobj", "NOUN"
        return text

    parser = spacy.blank("en")
    parser.add_pipe("verb_first_noun_last")
    pool = made(50)
    found = describe(pool, np.arange(20), parser=parser)
    ends = {(t.split()[0], t.split()[-1]) for t in pool["instruction"][:20]}
    metric = found["verb-noun pairs"]
    assert metric.subset.value == len(ends) and metric.subset.low is None and metric.pool.sample == 20
    assert "verb-noun pairs: distinct ones among 20 instructions of each set" in found.notes
    assert not any("parser" in line for line in found.left_out)
