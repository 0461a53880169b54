"""What a gate found: the numbers against loops, the rows to look at, any text on a terminal."""

import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

import hf_dsel
from hf_dsel import Gate, GateReport, gate_report
from hf_dsel.corruptions import cut_short, placeholder, words_shuffled
from hf_dsel.gate_examples import around, on_a_line, said_in
from hf_dsel.gate_page import page
from hf_dsel.gate_rows import TooLittle

from .scorers.test_gate import clean, dirty
from .test_flipped_labels import planted

HOSTILE = [
    "<script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\">",
    "</pre></article></details></body><style>*{display:none}</style>",
    "to the left \u202ecba\u202c and \u2066isolated\u2069, nothing \x00 bell \x07 red \x1b[31m return \r over",
    "half a character \ud83d, private \x9b, line \u2028 break",
    "{{ 7 * 7 }} {% raw %} &amp; &lt; %s %(x)s {0}",
    "word" * 25_000,
    "ก็" + "\u0301" * 3_000 + " much above",
    "漢字かな" * 60 + " العربية " * 40,
]


@pytest.fixture(scope="module")
def pool():
    return dirty(700, 0.3, (cut_short, placeholder, words_shuffled))[0]


@pytest.fixture(scope="module")
def gate(pool):
    return Gate.fit(pool, embedder=None)


def judged(n=400, seed=0):
    """Rows with the columns of a gate, made up; some have none."""
    rng = np.random.default_rng(seed)
    sound = np.round(rng.beta(3, 0.4, n), 3)
    values = [None if i % 50 == 7 else float(v) for i, v in enumerate(sound)]
    reasons = [None if v is None else ["cut_short", "repeated", "<b>own</b>"][int(rng.integers(3))] for v in values]
    status = ["ok" if v is not None else "no response" for v in values]
    return (
        Dataset.from_list(clean(n))
        .add_column("gate", values)
        .add_column("gate_reason", reasons)
        .add_column("gate_status", status)
    )


def test_the_numbers_are_those_of_a_loop():
    dataset = judged()
    report = gate_report(dataset)
    rows = [row for row in dataset if row["gate"] is not None]
    assert report.judged == len(rows) == 392 and report.problems == {"no response": 8}
    assert report.share is None and "8 rows have no probability" in str(report)
    for cut in report.cuts:
        kept = [row["gate"] for row in rows if row["gate"] >= cut.lowest]
        lost = sum(row["gate"] for row in rows if row["gate"] < cut.lowest)
        assert (cut.kept, cut.dropped) == (len(kept), len(rows) - len(kept))
        assert cut.junk == pytest.approx(np.mean([1 - g for g in kept])) and cut.lost == pytest.approx(lost)
    for kind in report.kinds:
        mine = [row["gate"] for row in rows if row["gate_reason"] == kind.name]
        assert kind.below == sum(g < report.line for g in mine)
        assert kind.expected == pytest.approx(sum(1 - g for g in mine)) and kind.auc is None
    assert [k.below for k in report.kinds] == sorted((k.below for k in report.kinds), reverse=True)
    assert [c.lowest for c in report.cuts] == sorted({c.lowest for c in report.cuts})


def test_the_default_is_what_select_by_takes():
    dataset = judged()
    report = gate_report(dataset)
    kept = hf_dsel.select_by(dataset, "random", fraction=1.0, gate=True)
    [cut] = [cut for cut in report.cuts if cut.lowest == report.default]
    assert cut.kept == len(kept) and min(kept["gate"][:]) == report.default == report.line
    half = gate_report(dataset, threshold=0.6)
    [cut] = [cut for cut in half.cuts if cut.lowest == 0.6]
    assert cut.kept == len(hf_dsel.select_by(dataset, "random", fraction=1.0, gate=0.6))
    assert half.line == 0.6 and half.default == report.default
    assert "gate=True" in str(half)


def test_where_no_threshold_is_good_enough():
    dataset = judged().filter(lambda g: g is not None and g < 0.9, input_columns="gate")
    report = gate_report(dataset)
    assert report.default is None and report.line == 0.5
    assert "gate=True takes none: at most 2% junk is too much to ask where the soundest is at" in str(report)
    nothing = gate_report(judged().remove_columns("gate").add_column("gate", [None] * 400))
    assert nothing.judged == 0 and sum(nothing.problems.values()) == 400 and "0 rows" in nothing.headline()[0]
    assert nothing.no_default() == [] and "soundest" not in str(nothing)
    assert nothing.command("x", threshold=False).startswith("no row has a probability")
    low = gate_report(Dataset.from_list(clean(9)).add_column("gate", [0.3] * 9))
    assert low.command("x", threshold=False) == (
        "no row is left from 0.5 on; of the thresholds shown 0.25 is the highest that keeps some"
    )
    pairs = {"prompt": ["a"], "chosen": ["b"], "rejected": ["c"], "gate": [1.0], "rejected_gate": [1.0]}
    flipped = gate_report(Dataset.from_dict(pairs | {"gate_flipped": [0.95]}))
    assert flipped.no_default() == ["gate=True takes none: every pair with a probability looks flipped"]
    assert flipped.command("x", threshold=False).startswith("no row is left from 0.5 on")


@given(
    st.lists(st.floats(0, 1), max_size=40), st.floats(0, 1), st.integers(1, 5), st.integers(0, 9)
)  # fmt: skip
def test_the_rows_around_a_line(values, line, n, seed):
    sound, mine = np.array(values), np.arange(len(values))[::-1]
    worst, below, above = around(mine, sound, line, n, np.random.default_rng(seed))
    under, over = sorted(v for v in values if v < line), sorted(v for v in values if v >= line)
    assert sound[worst].tolist() == under[:n] and sound[above].tolist() == over[:n]
    assert sound[below].tolist() == under[n:][::-1][:n]
    assert len({*worst, *below, *above}) == len(worst) + len(below) + len(above)


def test_the_examples():
    dataset = judged()
    report = gate_report(dataset, examples=2)
    assert gate_report(dataset, examples=2).groups == report.groups
    for group in report.groups:
        for part, low in ((group.worst, True), (group.below, True), (group.above, False)):
            assert len(part) == 2
            for example in part:
                row = dataset[example.row]
                assert example.reason == group.reason == row["gate_reason"] and example.side is None
                assert example.sound == pytest.approx(row["gate"]) and (example.sound < report.line) is low
                assert example.said == (("instruction", row["instruction"]), ("response", row["output"]))
    assert len(report.control) == 4 and all(e.sound >= report.line for e in report.control)
    shown = [e.row for g in report.groups for part in (g.worst, g.below, g.above) for e in part]
    rows = [*shown, *(e.row for e in report.control)]
    assert len(set(rows)) == len(rows)
    view = dataset.select(range(399, -1, -1))  # rows by number of the view, not of the table under it
    for example in gate_report(view).groups[0].worst:
        assert view[example.row]["output"] == example.said[1][1]


def test_with_a_gate(pool, gate, tmp_path):
    report = gate_report(pool, gate)
    sound = np.asarray(pool.map(gate, batched=True)["gate"][:])
    np.testing.assert_allclose(report.sound, sound, atol=1e-6)
    assert report.share == (gate.learned.junk.share, gate.learned.junk.low, gate.learned.junk.high)
    scored = hf_dsel.score(pool, gate, cache_dir=tmp_path)
    again = gate_report(scored, gate)
    assert str(again) == str(report) and again.groups == report.groups
    assert str(gate_report(pool, Gate(embedder=None))) == str(report)  # which learns
    found = gate.learned
    for kind in report.kinds:
        copies = found.broken_scores[found.broken_kinds == found.names.index(kind.name)]
        if len(copies) < 10:
            assert kind.auc is None
            continue
        pairs = (found.scores[:, None] > copies).mean() + (found.scores[:, None] == copies).mean() / 2
        assert kind.auc == pytest.approx(pairs)
    assert sum(kind.share for kind in report.kinds) == pytest.approx(gate.learned.junk.share)
    assert all(kind.imitates for kind in report.kinds)
    printed = str(report)
    assert f"{gate.learned.junk.share:.1%} to be junk (95% interval: {gate.learned.junk.low:.1%}" in printed
    foreign = pool.add_column("gate", sound)
    with pytest.raises(ValueError, match="a column 'gate' that this gate did not write. Remove it"):
        gate_report(foreign, gate)
    with pytest.raises(ValueError, match="a column 'gate' that this gate did not write. Remove it"):
        gate_report(scored, Gate(embedder=None))  # which would have to learn


def test_kinds_that_are_hardly_seen(pool, gate):
    report = gate_report(pool, gate)
    kinds = tuple(replace(kind, auc=(0.9, 0.69, None, 0.7)[i % 4]) for i, kind in enumerate(report.kinds))
    changed = replace(report, kinds=kinds)
    assert changed.weak() == [kind.name for kind in kinds if kind.auc == 0.69] != []
    said = f"ardly seen here: {', '.join(changed.weak())}."
    assert said in " ".join(str(changed).split())
    assert f"Here it hardly sees {', '.join(changed.weak())}." in page(changed, "x")
    strong = replace(report, kinds=tuple(replace(kind, auc=0.7) for kind in kinds))
    assert strong.weak() == [] and "ardly see" not in str(strong) + page(strong, "x")


def test_vectors_from_columns(minilm):
    dataset = Dataset.from_list(clean(300)).map(hf_dsel.Embed(minilm), batched=True)
    gate = Gate.fit(dataset, embedder=minilm, embedding="embedding", corruptions=(cut_short, placeholder))
    report = gate_report(dataset, gate)
    np.testing.assert_allclose(report.sound, gate(dataset[:])["gate"], atol=1e-6)


def test_pairs():
    rows = {
        "prompt": ["Which one?", "And here?", "Third?"],
        "chosen": ["This.", "asdf", None],
        "rejected": ["N/A", "That.", "x"],
        "gate": [0.99, 0.01, None],
        "gate_reason": ["cut_short", "words_shuffled", None],
        "gate_status": ["ok", "ok", "no response"],
        "rejected_gate": [0.02, 0.98, 0.5],
        "rejected_gate_reason": ["placeholder", "repeated", "repeated"],
        "rejected_gate_status": ["ok", "ok", "ok"],
    }
    report = gate_report(Dataset.from_dict(rows), threshold=0.5)
    assert report.sound[:2].tolist() == [0.02, 0.01] and np.isnan(report.sound[2])
    assert report.problems == {"no response": 1}
    sides = {e.row: (e.side, e.reason) for g in report.groups for e in g.worst}
    assert sides == {0: ("rejected", "placeholder"), 1: ("chosen", "words_shuffled")}
    said = (("prompt", "Which one?"), ("chosen", "This."), ("rejected", "N/A"))
    assert said in [e.said for g in report.groups for e in g.worst]
    assert "(rejected) N/A" in str(report)
    without = Dataset.from_dict({k: v for k, v in rows.items() if k != "rejected_gate"})
    with pytest.raises(ValueError, match="have the column 'gate' and no 'rejected_gate'"):
        gate_report(without)


def test_labels_that_look_flipped():
    flipped = [0.9, None, 0.2, 0.6, 0.5]
    rows = {"prompt": list("abcde"), "chosen": ["yes"] * 5, "rejected": ["no"] * 5, "gate": [1.0] * 5,
            "rejected_gate": [1.0] * 5}  # fmt: skip
    assert gate_report(Dataset.from_dict(rows)).flipped is None
    report = gate_report(Dataset.from_dict(rows | {"gate_flipped": flipped}))
    assert report.flipped == 2 and [e.row for e in report.flips] == [0, 3]
    assert [e.sound for e in report.flips] == pytest.approx([0.1, 0.4])
    printed = str(report).splitlines()
    at = next(i for i, line in enumerate(printed) if line.startswith("2 pairs look flipped"))
    assert [" ".join(line.split()) for line in printed[at + 1 :]] == [
        "row 0 0.900 a", "→ (chosen) yes", "→ (rejected) no", "row 3 0.600 d", "→ (chosen) yes", "→ (rejected) no"
    ]  # fmt: skip
    none = gate_report(Dataset.from_dict(rows | {"gate_flipped": [0.1] * 5}))
    assert none.flipped == 0 and str(none).endswith("\nNo pair looks flipped (gate_flipped above 0.5).")
    with pytest.raises(ValueError, match="'gate_flipped', whose values from 0 to 7 are no probabilities"):
        gate_report(Dataset.from_dict(rows | {"gate_flipped": [7.0, 0, 0, 0, 0]}))


def scored_pairs(n=300, seed=0):
    """Pairs with the columns of a gate, made up; of some it is not known whether they are flipped."""
    rng = np.random.default_rng(seed)
    flipped = [None if i % 60 == 3 else float(f) for i, f in enumerate(rng.beta(0.3, 1.5, n))]
    columns = {name: rng.beta(5, 0.1, n).tolist() for name in ("gate", "rejected_gate")}
    text = {"prompt": [f"What is {i}?" for i in range(n)], "chosen": ["This."] * n, "rejected": ["That."] * n}
    return Dataset.from_dict(text | columns | {"gate_flipped": flipped})


@pytest.mark.parametrize("seed", range(4))
def test_pairs_that_look_flipped_go_before_the_cut(seed):
    pairs = scored_pairs(seed=seed)
    report = gate_report(pairs, threshold=0.8)
    assert sum(cut.by_share for cut in report.cuts) == 1 and {0.5, 0.8} < {cut.lowest for cut in report.cuts}
    for cut in report.cuts:
        kept = hf_dsel.select_by(pairs, "random", fraction=1.0, gate=True if cut.by_share else cut.lowest)
        assert cut.kept == len(kept) and cut.dropped == len(pairs) - len(kept)
        flips = [f is not None and f > (0.5 if cut.by_share else 1 - cut.lowest) for f in pairs["gate_flipped"][:]]
        assert cut.flipped == sum(flips) > 0
        sound = np.minimum(pairs["gate"][:], pairs["rejected_gate"][:])
        assert cut.junk == pytest.approx(1 - np.minimum(kept["gate"][:], kept["rejected_gate"][:]).mean())
        assert cut.lost <= sound[~np.array(flips)].sum()
        if not cut.by_share:
            written = hf_dsel.select_by(pairs, "random", fraction=1.0, gate=float(cut.written))
            assert sorted(written["prompt"][:]) == sorted(kept["prompt"][:])
    right = dict(enumerate(pairs["gate_flipped"][:]))
    assert report.control and all((right[e.row] or 0) <= 1 - 0.8 and e.sound >= 0.8 for e in report.control)
    [cut] = [cut for cut in report.cuts if cut.lowest == 0.8]
    assert sum(kind.below for kind in report.kinds) + cut.flipped + cut.kept == len(pairs)
    assert report.cells()[0][0][3] == "flipped" and report.cells()[0][1][3] == f"{report.cuts[0].flipped:,}"


def test_a_threshold_as_it_is_written_keeps_the_same_rows():
    values = [0.9996, 0.9993, 0.99955, 0.2, 1e-5]
    dataset = Dataset.from_list(clean(5)).add_column("gate", values)
    for threshold, written in ((0.9996, "0.9996"), (0.9994, "0.9994"), (1e-5, "1e-05"), (0.2, "0.2"), (1.0, "1")):
        assert gate_report(dataset, threshold=threshold).line_written == written
    rng = np.random.default_rng(0)
    for spread in (1e-2, 1e-4, 1e-7):
        sound = np.maximum(1 - spread * rng.random(50), 1e-9)
        dataset = Dataset.from_list(clean(50)).add_column("gate", sound)
        for threshold in sound[:5]:
            written = gate_report(dataset, threshold=float(threshold)).line_written
            assert float(written) <= threshold
            assert (sound >= float(written)).sum() == (sound >= threshold).sum()


def test_both_sides_are_judged_by_one_gate(pool, gate):
    answers = [row["output"] for row in clean(40, seed=3)]
    pairs = Dataset.from_dict(
        {"prompt": pool["instruction"][:40], "chosen": answers, "rejected": ["N/A"] * 20 + answers[20:]}
    )
    report = gate_report(pairs, gate)
    for side, name in (("chosen", "gate"), ("rejected", "rejected_gate")):
        found = gate.of_side(side)(pairs[:])[name]
        assert (report.sound <= np.asarray(found) + 1e-6).all()
    assert (report.sound[:20] < 0.5).all()
    assert {e.side for g in report.groups for e in g.worst} >= {"rejected"}
    assert report.flipped is None  # so few pairs say nothing on that


def test_flipped_labels_are_looked_for(gate):
    pairs = planted(400, 0.2)[0]
    report = gate_report(pairs, gate)
    flips = hf_dsel.FlippedLabels.fit(pairs, embedder=None)(pairs[:])["gate_flipped"]
    assert report.flipped == sum(f is not None and f > 0.5 for f in flips) > 20
    assert [1 - e.sound for e in report.flips] == pytest.approx(sorted(filter(None, flips), reverse=True)[:6])


def test_what_is_said():
    def turn(*said):
        return [{"role": role, "content": content} for role, content in said]

    talk = turn(("system", "Be kind."), ("user", "Hi"), ("assistant", "Ho"), ("user", "So?"), ("assistant", ""))
    dataset = Dataset.from_dict({"messages": [talk, turn(("user", "Hi"), ("assistant", "Ho")), turn(("user", "Hi"))]})
    said = said_in(dataset, np.array([0, 1, 2]))
    assert said[0] == tuple((m["role"], m["content"]) for m in talk)
    assert said[1] == (("instruction", "Hi"), ("response", "Ho")) and said[2] == (("user", "Hi"),)
    assert said_in(Dataset.from_dict({"text": ["So it is."]}), np.array([0])) == {0: (("text", "So it is."),)}
    [(who, why)] = said_in(Dataset.from_dict({"messages": ["no messages"]}), np.array([0]))[0]
    assert who == "problem" and "not JSON" in why
    prompt = turn(("user", "Hi"))
    pair = {"chosen": [[*prompt, *turn(("assistant", "Ho"))]], "rejected": [[*prompt, *turn(("assistant", "Hu"))]]}
    assert said_in(Dataset.from_dict(pair), np.array([0]))[0] == (
        ("prompt", "Hi"), ("chosen", "Ho"), ("rejected", "Hu"))  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 120])
def test_any_text_fits_on_a_terminal(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    n = len(HOSTILE)
    texts = [t.encode("utf-8", "replace").decode() for t in HOSTILE]  # Arrow holds no half characters
    dataset = Dataset.from_dict({"instruction": texts, "output": texts[::-1], "gate": [0.1] * n, "gate_reason": texts})
    printed = str(gate_report(dataset, threshold=0.5))
    assert not any(unicodedata.category(c) in ("Cc", "Cs") or c in "\u202e\u2066\u2028" for c in printed if c != "\n")
    for line in printed.splitlines():
        if line.lstrip().startswith(("row ", "→")):
            wide = sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in line)
            assert wide <= width
        assert len(line) < 3 * width


@given(st.text(), st.integers(4, 80))
def test_a_line(text, width):
    line = on_a_line(text, width)
    assert line.isprintable() or all(unicodedata.category(c) not in ("Cc", "Cs") for c in line)
    assert sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line) <= 2 * width + 10
    if text.isascii() and text.isprintable() and text.strip() and len(" ".join(text.split())) <= width:
        assert line == " ".join(text.split())


def test_errors(pool):
    with pytest.raises(TypeError, match="takes a Dataset, got list"):
        gate_report([1])
    for threshold in (0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="is a probability of being sound, above 0 and at most 1"):
            gate_report(judged(), threshold=threshold)
    with pytest.raises(ValueError, match="examples=0; show from 1 to 100"):
        gate_report(judged(), examples=0)
    with pytest.raises(ValueError, match="whose values from 57 to 57 are no probabilities; rename it"):
        gate_report(Dataset.from_list(clean(9)).add_column("gate", [57.0] * 9))
    with pytest.raises(TypeError, match="reads the column 'gate', which holds no numbers; rename it"):
        gate_report(Dataset.from_list(clean(9)).add_column("gate", ["north"] * 9))
    with pytest.raises(TooLittle, match="at least 300 .*and here are 9 of 9"):
        gate_report(Dataset.from_list(clean(9)), Gate(embedder=None))
    with pytest.raises(hf_dsel.UnknownFormat):
        gate_report(Dataset.from_dict({"a": ["b"]}))
    assert isinstance(gate_report(judged().remove_columns(["gate_reason", "gate_status"])), GateReport)
