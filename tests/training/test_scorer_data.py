"""What a scorer is trained on: checked, taken out of the template, and split by sample."""

import re

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from hf_dsel.scorers.deita import COMPLEXITY, QUALITY
from hf_dsel.training.scorer_data import BadTrainingData, scorer_data


def table(n_samples=10, variants=3, **columns):
    rows = [
        {"text": COMPLEXITY.replace("{instruction}", f"Do {s}.{v}"), "score": 1 + v, "seed_row": 7 * s,
         "scores": "complexity", "template": COMPLEXITY, "ranked_by": "gpt"}
        for s in range(n_samples) for v in range(variants)
    ]  # fmt: skip
    found = Dataset.from_list(rows)
    for name, values in columns.items():
        found = found.remove_columns(name) if name in found.column_names else found
        found = found if values is None else found.add_column(name, values)
    return found


def test_the_columns_say_it_all():
    data = scorer_data(table())
    assert (data.scores, data.template, data.ranked_by) == ("complexity", COMPLEXITY, "gpt")
    assert len(data.training) == 27 and len(data.held_out) == 3
    assert data.held_out.filled(COMPLEXITY)[0] in table()["text"][:]


@given(st.integers(2, 30), st.floats(0.01, 0.9), st.integers(0, 5))
def test_samples_stay_whole(n, part, seed):
    if max(1, round(part * n)) >= n:
        return
    data = scorer_data(table(n), held_out=part, seed=seed)
    assert not set(data.training.samples) & set(data.held_out.samples)
    assert len(set(data.held_out.samples)) == max(1, round(part * n))
    assert len(data.training) + len(data.held_out) == 3 * n


def test_the_draw_follows_the_seed():
    held = [set(scorer_data(table(30), seed=seed).held_out.samples) for seed in (1, 1, 2)]
    assert held[0] == held[1] != held[2]
    assert len(scorer_data(table(), held_out=0).held_out) == 0


def test_a_text_is_never_on_both_sides():
    texts = [COMPLEXITY.replace("{instruction}", f"Do {i % 4}") for i in range(30)]
    data = scorer_data(table(text=texts, seed_row=list(range(30))), held_out=0.05)
    assert len(data.held_out) == 2 and len(data.training) < 28
    assert not set(data.training.filled(COMPLEXITY)) & set(data.held_out.filled(COMPLEXITY))
    with pytest.raises(BadTrainingData, match="copies of each other"):
        scorer_data(table(text=[texts[0]] * 30))


def test_rows_without_a_score_are_left_out():
    data = scorer_data(table(score=[None, 2, 3] * 10))
    assert len(data.training) + len(data.held_out) == 20 and set(data.training.scores) == {2, 3}
    with pytest.raises(BadTrainingData, match="none of the 30 rows has a score; see the column score_status"):
        scorer_data(table(score=[None] * 30))


def test_quality_texts_come_apart_at_their_places():
    text = QUALITY.replace("{instruction}", "A\n{response} #Response#").replace("{response}", "B\n##Quality: 3", 2)
    whole = QUALITY.replace("{instruction}", "A {braces}").replace("{response}", "B\n##Quality: 3")
    data = scorer_data(Dataset.from_dict({"text": [whole, text], "score": [1.0, 6.0]}), scores="quality", held_out=0)
    assert data.training.texts[0] == {"instruction": "A {braces}", "response": "B\n##Quality: 3"}
    assert data.training.filled(QUALITY) == [whole, text] and data.training.scores == (1, 6)


@given(st.text(), st.text())
def test_whatever_the_texts_the_whole_comes_back(instruction, response):
    parts = re.split(r"\{instruction\}|\{response\}", QUALITY)
    whole = parts[0] + instruction + parts[1] + response + parts[2]
    data = scorer_data(Dataset.from_dict({"text": [whole], "score": [2]}), scores="quality", held_out=0)
    assert data.training.filled(QUALITY) == [whole]


def test_options_win_over_columns():
    rows = Dataset.from_dict({"text": ["Q a A", "Q b A"], "score": [1, 2], "scores": ["quality"] * 2})
    data = scorer_data(rows, scores="complexity", template="Q {instruction} A", held_out=0)
    assert data.scores == "complexity" and data.training.texts[0] == {"instruction": "a"} and data.ranked_by is None


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"text": None}, {}, "no column text; train on what hf-dsel evolve wrote"),
        ({"score": None}, {}, "no column score"),
        ({"scores": None}, {}, r"scores=None: give scores=, one of 'complexity', 'quality' \(--scores\)"),
        ({"scores": ["depth"] * 30}, {}, "scores='depth'"),
        ({"scores": ["complexity", "quality"] * 15}, {}, "the column scores has 2 values"),
        ({"score": [7] * 30}, {}, "score of row 0 is 7; a label is a whole number from 1 to 6"),
        ({"score": [2.5] * 30}, {}, "score of row 0 is 2.5"),
        ({"score": ["high"] * 30}, {}, "score of row 0 is 'high'"),
        ({"score": [float("inf")] * 30}, {}, "score of row 0 is inf"),
        ({"text": ["Do it."] * 30}, {}, "text of row 0 is not in the template .* it is 'Do it.'"),
        ({"seed_row": [3] * 30}, {}, "1 sample with scores, and 1 of them would be held out"),
        ({"seed_row": [None, 1, 2] * 10}, {}, "seed_row of row 0 is null"),
        ({}, {"scores": "quality", "template": QUALITY}, "text of row 0 is not in the template"),
        ({}, {"held_out": 0.99}, "10 samples with scores, and 10 of them"),
    ],
)
def test_data_that_cannot_be_learned_from(columns, options, message):
    with pytest.raises(BadTrainingData, match=message):
        scorer_data(table(**columns), **options)


@pytest.mark.parametrize("held_out", [-0.1, 1, 5])
def test_a_part_out_of_range(held_out):
    with pytest.raises(ValueError, match="held_out="):
        scorer_data(table(), held_out=held_out)
