"""What a gate and flipped labels are given wrongly is refused with the value, the range and the next step."""

import re
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

import hf_dsel
from hf_dsel import Embed, FlippedLabels, Gate
from hf_dsel.corruptions import cut_short, words_shuffled
from hf_dsel.gate_rows import TooLittle
from hf_dsel.learning_input import saved
from tests import test_flipped_labels
from tests.scorers.test_gate import clean

pytest.importorskip("lightgbm", reason="pip install lightgbm")
FEW = (cut_short, words_shuffled)
BOTH = pytest.mark.parametrize("learner", [Gate, FlippedLabels])


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    place = tmp_path_factory.mktemp("gate") / "gate.safetensors"
    Gate.fit(Dataset.from_list(clean(320)), embedder=None, corruptions=FEW, learn_from=310, seed=5).save(place)
    return place


@BOTH
@pytest.mark.parametrize(
    ("options", "wrong", "text"),
    [
        ({"embedder": 5}, TypeError, "embedder=5; it is a model's name or folder as text, a hf_dsel.Embed, or None"),
        ({"embedder": ""}, ValueError, "embedder=''; it is a model's name"),
        ({"embedder": Path("here/model")}, TypeError, "write embedder='here/model'"),
        ({"embedder": hf_dsel.Length()}, TypeError, "it is a model's name or folder as text"),
        ({"seed": -1}, ValueError, "seed=-1 must be at least 0"),
        ({"seed": None}, TypeError, "seed=None must be a whole number"),
        ({"seed": 1.5}, TypeError, "seed=1.5 must be a whole number"),
        ({"seed": True}, TypeError, "seed=True must be a whole number"),
        ({"learn_from": "all"}, TypeError, "learn_from='all'; it is a whole number, 300 or more"),
        ({"learn_from": 299}, ValueError, "learns from at least 300"),
    ],
)
def test_options(learner, options, wrong, text):
    with pytest.raises(wrong, match=re.escape(text)):
        learner(**options)


def test_options_of_a_gate_alone():
    with pytest.raises(TypeError, match=r"lm=5; it is a model's name or folder as text, a hf_dsel\.CausalLM"):
        Gate(lm=5)
    with pytest.raises(TypeError, match="corruptions=5; they are functions"):
        Gate(corruptions=5)
    with pytest.raises(TypeError, match=r"corruptions=\['cut_short', .*they are functions"):
        Gate(corruptions=["cut_short", "repeated"])


def test_whole_numbers_of_any_type_can_be_saved(tmp_path):
    gate = Gate(embedder=None, seed=np.int64(3), learn_from=np.int32(310), corruptions=FEW)
    gate.fitted(Dataset.from_list(clean(320))).save(tmp_path / "gate")
    assert repr(Gate.load(tmp_path / "gate")) == repr(Gate(embedder=None, seed=3, learn_from=310))


@BOTH
def test_a_pool_that_is_no_dataset(learner):
    rows = Dataset.from_list(clean(5))
    with pytest.raises(
        TypeError, match=rf"the splits 'train', 'held out'; give one: {learner.__name__}\.fit\(dataset\['train'\]\)"
    ):
        learner.fit(DatasetDict({"train": rows, "held out": rows}), embedder=None)
    with pytest.raises(TypeError, match="is a stream; take some rows of it"):
        learner.fit(rows.to_iterable_dataset(), embedder=None)
    for other, name in ((clean(5), "list"), (DatasetDict(), "DatasetDict"), (None, "NoneType")):
        with pytest.raises(TypeError, match=rf"of type {name}; rows become one by datasets\.Dataset\.from_list"):
            learner.fit(other, embedder=None)


@BOTH
def test_files_that_are_none(learner, tmp_path):
    name = learner.__name__
    with pytest.raises(IsADirectoryError, match=rf"is a folder; give the file that {name}\.save wrote"):
        learner.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"no_such' is not there; give the file that {name}\.save wrote"):
        learner.load(tmp_path / "no_such")
    (tmp_path / "text").write_text("hello")
    assert saved(str(tmp_path / "text"), name) == b"hello"
    with pytest.raises(ValueError, match=rf"that {name}\.save wrote, or was cut off"):
        learner.load(tmp_path / "text")


def test_a_loaded_gate_has_the_options_that_it_was_saved_with(file):
    gate = Gate.load(file)
    assert (gate.learn_from, gate.seed, gate.side, gate.embedder) == (310, 5, "chosen", None)
    assert Gate.load(file, side="rejected").learn_from == 310


@pytest.mark.parametrize("option", [{"corruptions": FEW}, {"learn_from": 400}, {"seed": 1}, {"embeder": "a"}])
def test_what_was_learned_is_not_changed_by_loading(file, option, tmp_path):
    [name] = option
    with pytest.raises(
        TypeError, match=rf"takes embedder, lm, .*, and not {name}=, since what was learned stays as it is"
    ):
        Gate.load(file, **option)
    with pytest.raises(TypeError, match=rf"takes embedder, on_rows, and not {name}=, since"):
        FlippedLabels.load(file, **option)


def test_too_few_of_the_rows_that_were_drawn():
    answered = [row | ({} if i < 150 else {"output": ""}) for i, row in enumerate(clean(700))]
    with pytest.raises(
        TooLittle, match=r"here are \d+ of 310 rows drawn from 700\. Give a larger learn_from= than 310,"
    ):
        Gate.fit(Dataset.from_list(answered), embedder=None, learn_from=310)
    with pytest.raises(TooLittle, match=r"here are 150 of 700\. Fit it on a larger pool of the same kind"):
        Gate.fit(Dataset.from_list(answered), embedder=None)
    yes = Dataset.from_list([row | {"output": "yes"} for row in clean(400)])
    with pytest.raises(TooLittle, match="the 310 answered rows among 310 rows drawn from 400 have only 1 different"):
        Gate.fit(yes, embedder=None, learn_from=310)
    pairs = Dataset.from_list(test_flipped_labels.clean(100) * 8)
    with pytest.raises(TooLittle, match=r"here are \d+ in 310 rows drawn from 800\."):
        FlippedLabels.fit(pairs, embedder=None, learn_from=310)


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (lambda i: float(i), r"holds 0\.0 for 'Tell me .*and not a list of numbers\. Name a column of vectors that"),
        (lambda i: f"row {i}", "holds 'row 0' for .*and not a list of numbers"),
        (lambda i: ["a", "b"], r"holds \['a', 'b'\] for .*and not a list of numbers"),
        (lambda i: [[0.5] * 384], r"holds \[\[0\.5, 0\.5, .*\.\.\. for .*and not a list of numbers"),
        (lambda i: [], r"holds \[\] for .*and not a list of numbers"),
    ],
)  # fmt: skip
def test_a_column_that_holds_no_vectors(minilm, made, text):
    rows = Dataset.from_list([row | {"embedding": made(i)} for i, row in enumerate(clean(320))])
    with pytest.raises(ValueError, match="the column 'embedding' " + text):
        Gate.fit(rows, embedder=minilm, embedding="embedding")


def test_vectors_of_several_widths(minilm):
    rows = Dataset.from_list(clean(320))
    own = rows.select(range(300)).map(Embed(minilm), batched=True)["embedding"][:]
    mixed = rows.add_column("embedding", [list(map(float, v)) for v in own] + [[1.0, 2.0]] * 20)
    with pytest.raises(ValueError, match=r"mixes vectors of several widths \(384 numbers in 300, 2 numbers in 20\)"):
        Gate.fit(mixed, embedder=minilm, embedding="embedding")


def test_an_answer_to_many_questions_is_named(capsys, tmp_path):
    rows = clean(400)
    for i in range(0, 400, 10):
        rows[i]["output"] = "N/A \x1b[31m\n"
    for i in range(1, 101, 5):
        rows[i]["output"] = ""
    for i in range(2, 192, 10):
        rows[i]["output"] = "nineteen"
    for i in range(3, 400, 10):
        rows[i] = {"instruction": "The same question", "output": "yes"}
    gate = Gate.fit(Dataset.from_list(rows), embedder=None, corruptions=FEW)
    assert gate.learned.common == (("N/A \\x1b[31m", 40), ("(nothing)", 20))
    said = [line for line in capsys.readouterr().err.splitlines() if "given often" in line]
    assert len(said) == 1 and "“N/A \\x1b[31m” to 40 different instructions, “(nothing)” to 20" in said[0]
    assert str(gate).splitlines()[-1] in said[0] and "leave its rows out before the gate learns" in said[0]
    gate.save(tmp_path / "gate")
    assert str(Gate.load(tmp_path / "gate")) == str(gate)
    assert "given often" not in str(Gate.fit(Dataset.from_list(clean(320)), embedder=None, corruptions=FEW))
