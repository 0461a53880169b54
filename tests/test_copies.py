"""Copies: groups against a loop over pairs, which row stays, and what select_by makes of it."""

import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Features, List, Value, load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

import hf_dsel
from hf_dsel import BadColumn, BudgetError, MissingColumn, Selection, UnknownFormat, select, select_by
from hf_dsel.copies import find_copies

WORDS = ["add one", "Add  one!", "Please add one.", "sing", "SING", "list 3.5", "list 35", ""]
ANSWERS = ["Two", "two.", "Sure! Two", "la", None, ""]


def pool_of(rows, **columns):
    """Rows of (instruction, response, vector or None, quality or None), with or without a gate."""
    vector = List(Value("float32"), length=len(next((r[2] for r in rows if r[2] is not None), [1.0])))
    return Dataset.from_dict(
        {"instruction": [r[0] for r in rows], "output": [r[1] for r in rows], "embedding": [r[2] for r in rows],
         "quality": [r[3] for r in rows], **columns},
        Features({"instruction": Value("string"), "output": Value("string"), "embedding": vector,
                  "quality": Value("float64"), **{name: Value("float64") for name in columns}}),
    )  # fmt: skip


def slow_form(text):
    """Enough for the texts above."""
    text = unicodedata.normalize("NFKC", text).casefold()
    for mark in ("!", ". ", "please", "sure"):
        text = text.replace(mark, " ")
    return " ".join(text.strip().rstrip(".").split())


def slow_best(rows, gate, similarity, embedding=True):
    """For each row the row that stays of its group, one pair after the other."""

    def better(i):
        worth = [-np.inf if w is None else w for w in (None if gate[i] is None else round(gate[i], 2), rows[i][3])]
        return (*(-w for w in worth), i)

    def same(i, j):
        (a, b), (c, d) = rows[i][:2], rows[j][:2]
        return slow_form(a) == slow_form(c) and (b is None) == (d is None) and slow_form(b or "") == slow_form(d or "")

    def near(i, j):
        a, b = rows[i][2], rows[j][2]
        if not embedding or a is None or b is None:
            return False
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b) >= similarity - 1e-12

    best = {}
    order = sorted(range(len(rows)), key=better)
    for place, i in enumerate(order):
        twins = [j for j in order[:place] if same(i, j)]
        stay = [j for j in order[:place] if best[j] == j and near(i, j)]
        best[i] = best[twins[0]] if twins else stay[0] if stay else i
    return [best[i] for i in range(len(rows))]


vectors = st.one_of(st.none(), st.tuples(*[st.sampled_from([-2.0, -1.0, 0.5, 1.0, 3.0])] * 2))
row = st.tuples(st.sampled_from(WORDS), st.sampled_from(ANSWERS), vectors, st.sampled_from([None, 0.0, 1.0, 2.5]))
gates = st.sampled_from([None, 0.25, 0.2501, 0.75, 1.0])


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(row, gates), min_size=1, max_size=14), st.sampled_from([0.3, 0.9, 0.97, 1.0]), st.booleans())
def test_as_one_pair_after_the_other(found, similarity, embedding):
    rows, gate = [r for r, _ in found], [g for _, g in found]
    pool = pool_of(rows, gate=gate)
    options = {"embedding": "embedding", "similarity": similarity} if embedding else {}
    copies = find_copies(pool, quality="quality", **options, device="cpu")
    best = slow_best(rows, gate, similarity, embedding)
    assert copies.best.tolist() == best
    assert copies.kept.tolist() == sorted(set(best))
    members = {b: [i for i in range(len(rows)) if best[i] == b] for b in set(best)}
    assert sorted(copies.sizes.tolist(), reverse=True) == copies.sizes.tolist()
    assert sorted(copies.sizes.tolist()) == sorted(len(m) for m in members.values() if len(m) > 1)
    for i, number in enumerate(copies.group.tolist()):
        same = members[best[i]]
        assert number == -1 if len(same) == 1 else copies.group[same].tolist() == [number] * len(same)
    assert sum(copies.left_out().values()) == len(rows) - len(copies.kept)
    alone = find_copies(pool.select(copies.kept), quality="quality", **options, device="cpu")  # no copies are left
    assert alone.stays.all() and "no copies" in str(alone) and alone.left_out() == {}


@settings(deadline=None, max_examples=60)
@given(st.lists(row, min_size=1, max_size=14), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_decides_ties_alone(rows, random):
    rows = [(*r[:3], float(i)) for i, r in enumerate(rows)]  # no two are equally good
    order = random.sample(range(len(rows)), len(rows))
    options = {"embedding": "embedding", "similarity": 0.9, "quality": "quality", "device": "cpu"}
    kept = find_copies(pool_of(rows), **options).kept
    other = find_copies(pool_of([rows[i] for i in order]), **options).kept
    assert sorted(order[i] for i in other) == kept.tolist()


def test_which_row_stays():
    rows = [("Sing.", "La", None, q) for q in (1.0, 3.0, None, 3.0)]
    assert find_copies(pool_of(rows)).kept.tolist() == [0]
    assert find_copies(pool_of(rows), quality="quality").kept.tolist() == [1]
    gated = pool_of(rows, gate=[0.5, 0.9, 0.98, 0.981])
    assert find_copies(gated).kept.tolist() == [2]  # 0.98 and 0.981 are as good
    assert find_copies(gated, quality="quality").kept.tolist() == [3]
    assert find_copies(pool_of(rows, gate=[None] * 4), quality="quality").kept.tolist() == [1]


@pytest.mark.parametrize(
    ("columns", "copies"),
    [
        ({"text": ["A b.", "a B", "a c"]}, 1),
        ({"prompt": ["A b.", "a B", "a c"]}, 1),
        ({"prompt": ["Do!", "do", "do"], "completion": ["x", "X", None]}, 1),
        ({"instruction": ["Do"] * 3, "input": ["x", "X", "y"], "output": ["z"] * 3}, 1),
        ({"prompt": ["Do"] * 3, "chosen": ["a", "A", "a"], "rejected": ["b", "b", "c"]}, 1),  # both sides count
        ({"messages": [[{"role": "user", "content": "Do"}, {"role": "assistant", "content": c},
                        {"role": "user", "content": "Go"}, {"role": "assistant", "content": "y"}]
                       for c in ("x", "x", "other")]}, 1),  # all turns count
        ({"messages": [[{"role": "system", "content": s}, {"role": "user", "content": "Do"},
                        {"role": "assistant", "content": "x"}] for s in ("kind", "Kind.", "brief")]}, 1),
        ({"conversations": [[{"from": "human", "value": "Do"}, {"from": "gpt", "value": a}] for a in "xXy"]}, 1),
    ],
)  # fmt: skip
def test_rows_of_any_format(columns, copies):
    found = find_copies(Dataset.from_dict(columns))
    assert found.best.tolist() == [0, 0, 2] and found.left_out() == {"a better copy (text)": copies}


def test_rows_that_cannot_be_read_and_empty_ones():
    pool = Dataset.from_dict(
        {"instruction": [None, None, "", "", "?", "!", "Do", "Do"], "output": ["x", "x", "", "", "", "", None, ""]}
    )
    copies = find_copies(pool)
    assert copies.kept.tolist() == [0, 1, 2, 4, 5, 6, 7]
    assert copies.problems == {"instruction is null, not a string": 2}
    assert "2 rows without text that can be read: instruction is null, not a string" in str(copies)
    chats = Dataset.from_dict({"messages": [[], [], [{"role": "user", "content": "Hi"}]]})
    assert find_copies(chats).kept.tolist() == [0, 1, 2]
    nothing = find_copies(pool.select([]))
    assert len(nothing.kept) == 0 and str(nothing) == "0 rows, compared by text\nno copies"


def test_a_view_is_read_in_its_own_order():
    rows = [(f"Say {i % 5}", "ok", [float(i % 3), 1.0], None) for i in range(15)]
    pool = pool_of(rows)
    view = pool.shuffle(seed=1).select(range(2, 14))
    again = Dataset.from_dict(view.to_dict(), view.features)
    for options in ({}, {"embedding": "embedding"}):
        assert find_copies(view, **options).best.tolist() == find_copies(again, **options).best.tolist()


def test_the_report():
    rows = [("Sing!", "La " * 60, [1.0, 0.0], None)] * 3 + [("Add\none.", "2", [0.0, 1.0], None)]
    rows += [("Add 1", "Two", [0.05, 1.0], None), ("List", "x", None, None)]
    assert str(find_copies(pool_of(rows), embedding="embedding", device="cpu")).splitlines() == [
        "6 rows, compared by text and embedding (cosine 0.95 or more)",
        "2 groups of copies with 5 rows; 2 of them stay, 3 do not",
        "  2 rows with a better copy (text)",
        "  1 row with a better copy (embedding, cosine 0.95 or more)",
        "  3 rows like row 0: Sing! → " + ("La " * 60)[:90].rstrip() + " …",
        "  2 rows like row 3: Add one. → 2",
    ]


def test_the_report_of_texts_that_would_act_on_a_terminal():
    pool = Dataset.from_dict({"instruction": ["a\x1b[2J\x07 \u202eb"] * 2, "output": ["c\x9b1m\nd"] * 2})
    last = str(find_copies(pool)).split("\n")[-1]
    assert last == "  2 rows like row 0: a\\x1b[2J\\x07 \\u202eb → c\\x9b1m d" and last.isprintable()


def test_answers_to_one_question_and_an_embedding_that_does_not_read_them(tiny_bert, tmp_path, capsys):
    pool = pool_of([("Say a word", "x", None, 1.0), ("Say a word", "quite another answer", None, 1.0)])
    for of, stay in (("instruction", 1), ("example", 2)):
        embed = hf_dsel.Embed(tiny_bert, of=of, column="vector")
        scored = hf_dsel.score(pool, embed, cache_dir=tmp_path / of)
        capsys.readouterr()
        assert len(find_copies(scored, embedding="vector", similarity=0.9999, device="cpu").kept) == stay
        assert ("'vector' is of the instruction alone" in capsys.readouterr().err) == (of == "instruction")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"embedding": "vector"}, MissingColumn, "no column 'vector'"),
        ({"embedding": "quality"}, TypeError, "'quality' holds no vectors"),
        ({"quality": "output"}, TypeError, "'output' holds no numbers"),
        ({"quality": "embedding"}, TypeError, "'embedding' holds no numbers"),
        ({"similarity": 0}, ValueError, r"similarity is 0; .* in \(0, 1\]"),
        ({"similarity": True}, TypeError, "got True"),
        ({"similarity": "0.9"}, TypeError, "got '0.9'"),
    ],
)
def test_what_is_refused(options, error, text):
    with pytest.raises(error, match=text):
        find_copies(pool_of([("Do", "x", [1.0, 2.0], 1.0)]), **options)


def test_other_things_than_rows_are_refused():
    with pytest.raises(TypeError, match="takes a Dataset, got DatasetDict; give one split"):
        find_copies(DatasetDict(a=pool_of([("Do", "x", [1.0], 1.0)])))
    with pytest.raises(UnknownFormat):
        find_copies(Dataset.from_dict({"question": ["a"]}))
    with pytest.raises(BadColumn, match="only zeros"):
        find_copies(pool_of([("Do", "x", [0.0, 0.0], 1.0)] * 2), embedding="embedding")


# --- before a strategy ---

ROWS = [
    ("Add 1 and 2.", "Three", [1.0, 0.0, 0.0], 1.0),
    ("please add 1 and 2", "three.", [0.0, 1.0, 0.0], 5.0),
    ("Sing a song", "La", [0.0, 0.0, 1.0], 2.0),
    ("Sing the song", "La la", [0.0, 0.1, 1.0], 3.0),
    ("Write", "word", [1.0, 1.0, 0.0], 4.0),
    ("Read", "book", [1.0, 1.0, 1.0], None),
]
POOL = pool_of(ROWS)
TEXT, NEAR = "a better copy (text)", "a better copy (embedding, cosine 0.95 or more)"


def test_copies_are_left_out_before_the_strategy(capsys):
    record = select(POOL, "top_k", k=4, dedup=True)
    assert record.indices.tolist() == [1, 4, 3, 2]
    assert record.left_out == {"no quality": 1, TEXT: 1} and record.dedup is True
    assert "not considered: 1 row with no quality; 1 row with a better copy (text)" in capsys.readouterr().err
    assert select(POOL, "top_k", k=5).indices.tolist() == select(POOL, "top_k", k=5, dedup=False).indices.tolist()
    assert select(POOL, "top_k", k=5, dedup=False).dedup is None
    near = select(POOL, "qdit", k=3, dedup=0.95)
    assert sorted(near.indices.tolist()) == [1, 3, 4] and near.left_out == {"no quality": 1, TEXT: 1, NEAR: 1}
    named = select(POOL, "random", k=4, dedup={"similarity": 0.95, "embedding": "embedding", "quality": "quality"})
    assert sorted(named.indices.tolist()) == [1, 3, 4, 5]
    assert sorted(select(POOL, "random", k=5, dedup={}).indices.tolist()) == [0, 2, 3, 4, 5]  # no quality: the first
    lowest = select(POOL, "top_k", k=4, dedup=True, largest=False)
    assert lowest.indices.tolist() == [0, 2, 3, 4]  # large values are not better there, so the first row stays


def test_only_rows_that_can_be_selected_stay_for_others():
    rows = [("Do", "x", [1.0, 0.0], None), ("do!", "X", [1.0, 0.0], 1.0), ("Go", "y", [0.0, 1.0], 2.0)]
    record = select(pool_of(rows), "top_k", k=2, dedup=True)
    assert record.indices.tolist() == [2, 1] and record.left_out == {"no quality": 1}


def test_budgets_count_what_is_left():
    assert len(select(POOL, "random", fraction=1.0, dedup=True)) == 5
    assert len(select(POOL, "random", fraction=0.6, dedup=True)) == 3
    with pytest.raises(
        BudgetError, match=r"k=6 but only 5 rows can be selected; left out: 1 with a better copy \(text\)"
    ):
        select(POOL, "random", k=6, dedup=True)
    assert len(select(POOL, "threshold", low=0, column="quality", dedup=True)) == 4
    tokens = POOL.add_column("example_tokens", [10] * 6)
    assert len(select(tokens, "random", max_tokens=1000, dedup=True)) == 5


def test_the_record_can_be_saved_and_published(tmp_path):
    subset = select_by(POOL, "qdit", k=2, dedup=np.float32(0.5))
    record = hf_dsel.selection_of(subset)
    record.save(tmp_path / "record.json")
    again = Selection.load(tmp_path / "record.json")
    assert again.dedup == 0.5 and again.left_out == record.left_out
    assert again.apply(POOL)["instruction"][:] == subset["instruction"][:]
    from hf_dsel.card_code import select_lines

    names: dict = {"pool": POOL}
    exec(f"import hf_dsel\n{select_lines(json.loads(record.to_json()))}", names)
    assert names["subset"]["instruction"][:] == subset["instruction"][:]
    old = json.loads(record.to_json())
    del old["dedup"]
    assert Selection.from_json(json.dumps(old)).dedup is None


def test_splits_and_streams():
    both = DatasetDict(a=POOL, b=POOL.select([0, 1, 2]))
    assert {n: len(s) for n, s in both.select_by("random", fraction=1.0, dedup=True).items()} == {"a": 5, "b": 2}
    assert set(select(both, "random", k=2, dedup=True)) == {"a", "b"}
    stream = POOL.to_iterable_dataset()
    with pytest.raises(TypeError, match="a stream shows each row once; load the dataset without"):
        stream.select_by("random", k=2, dedup=True)
    assert len(stream.select_by("random", k=2, dedup=False)) == 2


@pytest.mark.parametrize(
    ("dedup", "error", "text"),
    [
        (0.95, ValueError, r"dedup=0.95 compares the embeddings .* Random\(\) reads none; use dedup=True"),
        ({"similarity": 0.9}, ValueError, "reads none"),
        (1, TypeError, r"dedup is 1; it must be True \(same text\), a cosine such as 0.95"),
        ("text", TypeError, "dedup is 'text'"),
        (1.5, ValueError, "similarity is 1.5"),
        (float("nan"), ValueError, "similarity is nan"),
        ({"similarty": 0.9}, ValueError, "no option 'similarty'; it has similarity, embedding, quality"),
        ({"embedding": 3}, TypeError, "embedding must name a column, got 3"),
        ({"embedding": "vector"}, MissingColumn, "dedup: embedding names the column 'vector'; the dataset has"),
        ({"quality": "worth"}, MissingColumn, "dedup: quality names the column 'worth'"),
    ],
)
def test_dedup_that_is_refused(dedup, error, text):
    with pytest.raises(error, match=text):
        select(POOL, "random", k=1, dedup=dedup)


def test_a_column_that_is_not_there_is_found_before_anything_is_computed(capsys):
    bare = POOL.remove_columns("embedding")
    with pytest.raises(MissingColumn, match="'worth'"):
        select(bare, "k_center", k=1, dedup={"quality": "worth"})
    assert "computing" not in capsys.readouterr().err


# --- real rows ---


@pytest.fixture
def chats():
    folder = os.environ.get("HF_DSEL_DATA")
    if not folder:
        pytest.skip("HF_DSEL_DATA is not set")
    return load_dataset("parquet", data_files=str(Path(folder) / "fastchat_dummy_conversation.parquet"), split="train")


def test_five_hundred_identical_rows(chats):
    same = chats.select([0] * 500)
    embedded = same.add_column("embedding", [[1.0, 2.0]] * 500)
    for copies in (find_copies(same), find_copies(embedded, embedding="embedding")):
        assert copies.kept.tolist() == [0] and copies.sizes.tolist() == [500]
    assert len(select_by(same, "random", fraction=1.0, dedup=True)) == 1


def test_real_chats(chats):
    said = [[" ".join(m["content"].lower().split()) for m in row] for row in chats["messages"][:]]
    copies = find_copies(chats)
    assert 490 < len(copies.kept) < 500
    for i in np.flatnonzero(~copies.stays):  # a mark or a courtesy is all that differs
        a, b = said[i], said[copies.best[i]]
        assert len(a) == len(b) and all(abs(len(x) - len(y)) <= 30 for x, y in zip(a, b, strict=True))
