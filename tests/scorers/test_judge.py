"""The judge against a scripted server, and once against a real one."""

import json
import pickle
import re
import statistics
from pathlib import Path

import pytest
import yaml
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

import hf_dsel
import hf_dsel.planning
from hf_dsel.cli import main
from hf_dsel.endpoint import BudgetSpent, EndpointDown, Malformed
from hf_dsel.rows import Message, Turn
from hf_dsel.scorer_specs import BadSpec, make_scorer
from hf_dsel.scorers.criteria import FOLDER, BadCriterion, Criterion, prompt_of, read_criterion, values_of
from hf_dsel.scorers.judge import Judge
from tests.scripted_server import Raw, ScriptedServer

BUILT_IN = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def words(received):
    """Number of words of the response in the prompt, or of the instruction when there is none; at most 5."""
    part = re.search(r"<response>\n(.*)\n</response>", received.prompt, re.DOTALL)
    part = part or re.search(r"<instruction>\n(.*)\n</instruction>", received.prompt, re.DOTALL)
    return min(5, len(part.group(1).split()))


def rate(received, n):
    """Each criterion that is asked for, rated by `words`."""
    asked = re.findall(r"^(\w+): <", received.prompt, re.MULTILINE)
    return "\n".join(f"{name}: {words(received)}" for name in asked)


def judge(server, folder, criterion="accuracy", **options):
    return Judge(criterion, **{"model": "m", "base_url": server.url, "store": folder / "store", **options})


def alpaca(*pairs):
    return {"instruction": [a for a, _ in pairs], "output": [b for _, b in pairs]}


def test_scores_statuses_and_texts(tmp_path):
    batch = alpaca(("One two", "a b c"), ("Say", ""), ("", "b"), ("Hi", "x"), ("Hi", "bad"), ("Hi", "off"))

    def answer(received, n):
        if "bad" in received.prompt:
            return "I like it"
        return Raw(400, '{"error": "too long"}') if "off" in received.prompt else rate(received, n)

    with ScriptedServer(answer) as server:
        found = judge(server, tmp_path, ["accuracy", "complexity"])(batch)
    missing = "one line 'accuracy: <0 to 5>' was wanted, and none found"
    assert found["accuracy"] == [3.0, None, None, 1.0, None, None]
    assert found["accuracy_status"] == [
        "ok", "empty response", "empty instruction", "ok", f"no readable answer in 3 asked; the last: {missing}",
        "400 Bad Request: too long",
    ]  # fmt: skip
    assert found["accuracy_raw"] == found["complexity_raw"] == [None, None, None, None, "I like it", None]
    assert found["complexity"] == [3.0, 1.0, None, 1.0, None, None]  # row 2 was asked for complexity alone
    assert found["complexity_status"][:4] == ["ok", "ok", "empty instruction", "ok"]
    assert len(server.received) == 1 + 1 + 1 + 3 + 1


def test_several_criteria_go_in_one_request_and_count_together(tmp_path):
    script = {1: "accuracy: 4", 2: "accuracy: 4\nhelpfulness: 9", 3: "accuracy: 4.5\nhelpfulness: 2"}
    with ScriptedServer(lambda r, n: script[n]) as server:
        found = judge(server, tmp_path, ["accuracy", "helpfulness"])(alpaca(("Hi", "x")))
    assert (found["accuracy"], found["helpfulness"]) == ([4.5], [2.0]) and len(server.received) == 3
    first, second, third = server.prompts
    assert "accuracy: <0 to 5>\nhelpfulness: <0 to 5>" in first and "these 2 lines" in first
    assert second.endswith(
        "one line 'helpfulness: <0 to 5>' was wanted, and none found. Keep to the form that is asked for.)"
    )
    assert "helpfulness is 9; the scale is 0 to 5" in third


TALK = [
    {"role": "system", "content": "Be brief."}, {"role": "user", "content": "First question"},
    {"role": "assistant", "content": "one"}, {"role": "user", "content": "Second"},
    {"role": "assistant", "content": "two words"}, {"role": "user", "content": "Third, please answer"},
]  # fmt: skip


@pytest.mark.parametrize("turns, picked", [("all", [1, 2]), ("first", [1]), ("last", [])])
@pytest.mark.parametrize("combine", ["mean", "sum", "min", "max"])
def test_turns_are_judged_apart_and_combined(turns, picked, combine, tmp_path):
    how = {"mean": statistics.mean, "sum": sum, "min": min, "max": max}[combine]
    with ScriptedServer(rate) as server:
        scorer = judge(server, tmp_path, ["accuracy", "complexity"], turns=turns, combine=combine)
        found = scorer({"messages": [TALK]})
    assert found["accuracy"] == [how(picked) if picked else None]
    assert found["accuracy_status"] == ["ok" if picked else "no response"]
    # the unanswered third turn has an instruction, of three words; the others are rated with their response
    complexity = {"all": [1, 2, 3], "first": [1], "last": [3]}[turns]
    assert found["complexity"] == pytest.approx([how(complexity)]) and found["complexity_status"] == ["ok"]


def test_history_is_shown_or_not(tmp_path):
    with ScriptedServer(rate) as server:
        judge(server, tmp_path, concurrency=1)({"messages": [TALK]})
        judge(server, tmp_path, concurrency=1, history=False)({"messages": [TALK]})
    first, second, alone = server.prompts  # the first turn has the same prompt both times, and is not sent again
    assert "<history>\nsystem: Be brief.\n</history>" in first and "First question" in first and "Second" not in first
    assert "user: First question\nassistant: one" in second and "<instruction>\nSecond\n</instruction>" in second
    assert "First question" not in alone and "system: Be brief." in alone and "two words" in alone


def test_a_turn_that_failed_is_named(tmp_path):
    bad = lambda r, n: "no idea" if "two words" in r.prompt.split("<response>")[1] else rate(r, n)  # noqa: E731
    with ScriptedServer(bad) as server:
        found = judge(server, tmp_path, asks=1)({"messages": [TALK[:-1]]})
    assert found["accuracy"] == [1.0] and found["accuracy_raw"] == ["no idea"]
    assert found["accuracy_status"][0].startswith("turn 2 of 2 left out: no readable answer in 1 asked")


def test_both_sides_of_pairs(tmp_path):
    pairs = Dataset.from_dict({"prompt": ["Q", "Q"], "chosen": ["a b c", "d"], "rejected": ["e", "f g"]})
    with ScriptedServer(rate) as server:
        scorers = [judge(server, tmp_path, side=side) for side in ("chosen", "rejected")]
        scored = hf_dsel.score(pairs, scorers, cache_dir=tmp_path / "shards")
    assert scored["accuracy"][:] == [3, 1] and scored["rejected_accuracy"][:] == [1, 2]
    assert scored.features["rejected_accuracy_raw"].dtype == "string"
    with pytest.raises(ValueError, match="side='rejected' needs"):
        judge(server, tmp_path, side="rejected").check(["text"])


def test_plain_text_and_rows_that_cannot_be_read(tmp_path):
    with ScriptedServer(rate) as server:
        found = judge(server, tmp_path, ["accuracy", "complexity"])({"text": ["some text", None]})
        assert found["accuracy"] == [None, None] and found["complexity"] == [2.0, None]
        assert found["accuracy_status"] == ["no instruction", "text is null, not a string"]
        found = judge(server, tmp_path)({"messages": [[]]})
        assert found["accuracy_status"] == ["the conversation is empty"] and found["accuracy_raw"] == [None]
        assert judge(server, tmp_path)({"prompt": ["only"]})["accuracy_status"] == ["no response"]


def test_score_reports_rows_and_a_second_run_sends_nothing(tmp_path):
    pool = Dataset.from_dict(alpaca(*[(f"Q {i % 7}", "w " * (i % 5 + 1)) for i in range(60)]))
    with ScriptedServer(rate) as server:
        scored = hf_dsel.score(pool, judge(server, tmp_path), cache_dir=tmp_path / "a", shard_rows=16)
        assert scored["accuracy"][:] == [i % 5 + 1 for i in range(60)] and len(server.received) == 35
        hf_dsel.score(pool, judge(server, tmp_path), cache_dir=tmp_path / "b")
        mapped = pool.map(judge(server, tmp_path), batched=True, batch_size=7)
        assert mapped["accuracy"][:] == scored["accuracy"][:] and len(server.received) == 35
        rows = []
        scorer = judge(server, tmp_path)
        scorer.on_rows = rows.append
        scorer(pool[:] | {"output": ["", *pool["output"][1:]]})
        assert sum(rows) == 60
        subset = scored.select_by("top_k", k=5, column="accuracy")
        assert set(subset["accuracy"][:]) == {5}


def test_a_budget_holds_over_all_shards(tmp_path):
    pool = Dataset.from_dict(alpaca(*[(f"Q {i}", "w") for i in range(20)]))
    with ScriptedServer(rate) as server:
        scorer = judge(server, tmp_path, max_requests=12)
        with pytest.raises(BudgetSpent, match="max_requests=12 is spent. 2 of 5 requests are"):
            hf_dsel.score(pool, scorer, cache_dir=tmp_path / "a", shard_rows=5)
        assert scorer.endpoint.requests_sent == 12
        scorer = judge(server, tmp_path, max_requests=12)
        assert hf_dsel.score(pool, scorer, cache_dir=tmp_path / "a", shard_rows=5)["accuracy"][:] == [1] * 20
    assert len(server.received) == 20


def test_settings_hold_what_scores_depend_on_and_no_more(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret")
    scorer = Judge("accuracy", model="m", base_url="http://localhost:1/v1", key_variable="MY_KEY", store=tmp_path)
    settings = scorer.settings()
    assert json.loads(json.dumps(settings)) == settings
    assert (
        settings == Judge("accuracy", model="m", base_url="http://other/v1", concurrency=2, max_requests=9).settings()
    )
    changed = [{"model": "n"}, {"turns": "first"}, {"history": False}, {"combine": "sum"}, {"side": "rejected"},
               {"asks": 1}, {"max_tokens": 9}, {"temperature": None}, {"extra_body": {"top_p": 1}}]  # fmt: skip
    others = [Judge(**{"criterion": "accuracy", "model": "m", **c}) for c in changed]
    others += [Judge(c, model="m") for c in ("helpfulness", ["accuracy", "helpfulness"])]
    assert all(other.settings() != settings for other in others)
    text = str([settings, repr(scorer), pickle.dumps(scorer), scorer.features(), scorer.endpoint])
    assert "sk-secret" not in text
    copy = pickle.loads(pickle.dumps(scorer))
    assert copy == scorer and copy.settings() == settings and copy.joined(scorer) is copy
    assert scorer.joined(others[0]) is None and scorer.joined("else") is None


def test_an_edited_criterion_is_another_setting(tmp_path):
    file = tmp_path / "stars.yaml"
    file.write_text("judges: response\nscale: [1, 5]\nrubric: How good.\n")
    before = Judge(str(file), model="m")
    file.write_text("judges: response\nscale: [1, 5]\nrubric: How very good.\n")
    after = Judge(file, model="m")
    assert before.settings() != after.settings() and before.endpoint == after.endpoint
    file.unlink()
    assert pickle.loads(pickle.dumps(after)).settings() == after.settings()


def test_check_refuses_before_anything_is_sent(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    pool = Dataset.from_dict(alpaca(("Q", "a")))
    with pytest.raises(EndpointDown, match="HF_TOKEN has no key"):
        hf_dsel.score(pool, Judge("accuracy", model="m"), cache_dir=tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(hf_dsel.UnknownFormat):
        Judge("accuracy", model="m").check(["nothing"])


def test_a_prompt_and_a_pattern_of_ones_own(tmp_path):
    file = tmp_path / "verdict.yaml"
    content = {
        "judges": "response", "scale": [1, 10], "pattern": r"\[\[(\d+)\]\]",
        "prompt": 'Rate {"as": "json"} {nothing}:\n{history}|{instruction}|{response}',
    }  # fmt: skip
    file.write_text(yaml.safe_dump(content))
    script = {1: "I say [[3]] or [[4]]", 2: "[[11]]", 3: "It is {good}: [[7]]"}
    with ScriptedServer(lambda r, n: script[n]) as server:
        found = judge(server, tmp_path, str(file))(alpaca(("Q {response}", "A {history}")))
    assert found["verdict"] == [7.0]
    assert server.prompts[0] == 'Rate {"as": "json"} {nothing}:\n|Q {response}|A {history}'
    assert "one number was wanted, and 2 found" in server.prompts[1] and "verdict is 11" in server.prompts[2]
    with pytest.raises(ValueError, match="verdict has a prompt of its own"):
        Judge([str(file), "accuracy"], model="m")


@pytest.mark.parametrize(
    "text, value",
    [
        ("accuracy: 4", 4), ("Accuracy: 4.5", 4.5), ("**accuracy:** 3", 3), ("**accuracy**: 3/5", 3), 
        ("- accuracy: 0", 0),
        ("`accuracy: 2`", 2), ("accuracy = 1.", 1), ("4", 4), (" 4.5\n", 4.5), ("4/5", 4), ("**5**", 5), ("4.", 4),
        ("The answer is fine.\naccuracy: 4\nBecause.", 4), ("<think>accuracy: 1\n2</think>\naccuracy: 4", 4),
        ("accuracy: +4", 4), ("accuracy: 4.0", 4), ("accuracy: 1\n2</think>\naccuracy: 4", 4),
    ],
)  # fmt: skip
def test_answers_that_are_read(text, value):
    assert values_of([read_criterion("accuracy")], text) == {"accuracy": value}


@pytest.mark.parametrize(
    "text",
    [
        "accuracy: 6", "accuracy: -1", "accuracy: 4.3", "accuracy: four", "accuracy: 4 or 5", "accuracy: 4-5", "4-5",
        "accuracy: 4/10", "accuracy: 4\naccuracy: 3", "I rate it 4", "Score: 4", "accuracy: ", "4\n5", "accuracy: 4,5",
        "accuracy: ٤", "accuracy: nan", "accuracy: 1e0", "inaccuracy: 4", "accuracy 4", "<think>accuracy: 4", "",
        "accuracy: <4>", "accuracy: <0 to 5>", "accuracy: 99999999999999999999",
    ],
)  # fmt: skip
def test_answers_that_are_malformed(text):
    with pytest.raises(Malformed):
        values_of([read_criterion("accuracy")], text)


def test_a_bare_number_will_not_do_for_two():
    both = [read_criterion("accuracy"), read_criterion("complexity")]
    with pytest.raises(Malformed, match="'accuracy: <0 to 5>'"):
        values_of(both, "4")
    assert values_of(both, "complexity: 10\naccuracy: 0") == {"accuracy": 0, "complexity": 10}


@given(
    low=st.integers(-20, 20),
    width=st.integers(1, 20),
    parts=st.sampled_from([None, 1, 2, 4]),
    at=st.integers(-40, 1000),
)
def test_values_are_on_the_scale_and_on_a_step(low, width, parts, at):
    step = None if parts is None else 1 / parts
    criterion = Criterion("x", "response", (low, low + width), "How.", step=step)
    value = low + at / 8
    on_step = step is None or (value - low) % step == 0
    if low <= value <= low + width and on_step:
        assert values_of([criterion], f"x: {value}") == {"x": value}
    else:
        with pytest.raises(Malformed):
            values_of([criterion], f"x: {value}")


@given(st.text(max_size=60))
def test_any_answer_is_on_the_scale_or_malformed(text):
    criteria = [read_criterion("accuracy"), read_criterion("complexity")]
    for asked in (criteria, criteria[:1]):
        for answer in (text, f"accuracy: {text}\ncomplexity: {text}"):
            try:
                found = values_of(asked, answer)
            except Malformed:
                continue
            assert all(c.scale[0] <= found[c.name] <= c.scale[1] for c in asked)


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_the_texts_stand_in_the_prompt_unchanged(instruction, response):
    turn = Turn((Message("user", instruction),), response)
    for names in (["accuracy"], BUILT_IN, ["complexity"]):
        prompt = prompt_of([read_criterion(n) for n in names], turn)
        assert f"<instruction>\n{instruction}\n</instruction>" in prompt
        assert (f"<response>\n{response}\n</response>" in prompt) == (names != ["complexity"])


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_criteria(name):
    criterion = read_criterion(name)
    prompt = prompt_of([criterion], Turn((Message("user", "Why?"),), "So."))
    assert criterion.form in prompt and "this line" in prompt and not re.search(r"\{\w*\}", prompt)
    assert criterion.scale == {"complexity": (1, 10)}.get(name, (0, 5))
    assert ("So." in prompt) == (criterion.judges == "response")


def test_the_criteria_are_packed():
    project = (Path(hf_dsel.__file__).parent.parent / "pyproject.toml").read_text()
    assert "criteria/*.yaml" in project and {"accuracy", "helpfulness", "complexity"} <= {*BUILT_IN}


@pytest.mark.parametrize(
    "text, problem",
    [
        ("judges: response\nscale: [0, 5]", "give rubric .* or prompt"),
        ("judges: response\nscale: [0, 5]\nrubric: a\nprompt: b", "one of them"),
        ("judges: reply\nscale: [0, 5]\nrubric: a", "judges='reply'; it is one of 'response', 'instruction'"),
        ("judges: response\nscale: 5\nrubric: a", "scale=5; it is two numbers"),
        ("judges: response\nscale: [5, 0]\nrubric: a", "scale="),
        ("judges: response\nscale: [0, .nan]\nrubric: a", "scale="),
        ("judges: response\nscale: [0, true]\nrubric: a", "scale="),
        ("judges: response\nscale: '05'\nrubric: a", "scale='05'"),
        ("judges: response\nscale: [0, 5]\nrubric: ' '", "rubric is no text or empty"),
        ("judges: response\nscale: [0, 5]\nrubric: [a]", "rubric is no text"),
        ("judges: response\nscale: [0, 5]\nrubric: a\nstep: 0", "step=0"),
        ("judges: response\nscale: [0, 5]\nrubric: a\nstep: 9", "step=9"),
        ("judges: response\nscale: [0, 5]\nrubric: a\npattern: (a)", "pattern goes with prompt"),
        ("judges: response\nscale: [0, 5]\nprompt: '{instruction}'", "the prompt has no {response}"),
        ("judges: instruction\nscale: [0, 5]\nprompt: x", "the prompt has no {instruction}"),
        ("judges: instruction\nscale: [0, 5]\nprompt: '{instruction}'\npattern: '('", "no regular expression"),
        ("judges: instruction\nscale: [0, 5]\nprompt: '{instruction}'\npattern: '1'", "has 0 groups"),
        ("judges: response\nrubric: a", "missing: scale. Fields: judges, scale, rubric"),
        ("judges: response\nscale: [0, 5]\nrubric: a\nrubrik: b", "unknown: rubrik"),
        ("- a", "holds no fields"),
        ("a: [", "is no YAML"),
    ],
)
def test_wrong_criterion_files(text, problem, tmp_path):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(BadCriterion, match=problem):
        read_criterion(tmp_path / "mine.yaml")


def test_wrong_names_and_options(tmp_path):
    with pytest.raises(BadCriterion, match="no such file. Built in: accuracy, complexity, helpfulness"):
        Judge("acuracy", model="m")
    (tmp_path / "my stars.yaml").write_text("judges: response\nscale: [1, 5]\nrubric: How good.\n")
    with pytest.raises(BadCriterion, match="name is the column's"):
        Judge(tmp_path / "my stars.yaml", model="m")
    wrong = [({"asks": 0}, "asks=0"), ({"max_tokens": 0}, "max_tokens=0"), ({"temperature": -1}, "temperature=-1"),
             ({"temperature": "hot"}, "temperature='hot'"),
             ({"turns": "some"}, "turns='some'"), ({"side": "left"}, "side='left'"), ({"combine": "x"}, "combine='x'"),
             ({"concurrency": 0}, "concurrency=0"), ({"base_url": "nowhere"}, "base_url="), ({"model": ""}, "model=''"),
             ({"criterion": []}, "criterion is empty"), ({"criterion": ["accuracy"] * 2}, "same name")]  # fmt: skip
    for options, text in wrong:
        with pytest.raises(ValueError, match=re.escape(text)):
            Judge(**{"criterion": "accuracy", "model": "m", **options})


def test_from_words():
    spec = "Judge:criterion=[accuracy, complexity],model=m,base_url=http://localhost:8000/v1,turns=first"
    same = Judge(["accuracy", "complexity"], model="m", base_url="http://localhost:8000/v1", turns="first")
    assert make_scorer(spec) == same
    with pytest.raises(BadSpec, match="no such file"):
        make_scorer("Judge:criterion=x,model=m")


def test_forecast_counts_what_is_left(tmp_path):
    batch = alpaca(("Q", "a"), ("Q", "b"), ("Q", "b"), ("Q", ""))
    with ScriptedServer(rate) as server:
        scorer = judge(server, tmp_path, price_in=1.0, price_out=1.0, max_tokens=100)
        before = scorer.forecast(batch)
        scorer(alpaca(("Q", "a")))
        after = scorer.forecast(batch)
    assert (before.requests, after.requests, after.most_tokens_out) == (2, 1, 100) and len(server.received) == 1
    assert after.most_cost == pytest.approx((after.tokens_in + 100) / 1e6)


def test_a_dry_run_counts_and_sends_nothing(tmp_path, capsys):
    Dataset.from_dict(alpaca(*[(f"Q {i % 7}", "a") for i in range(30)])).to_parquet(tmp_path / "pool.parquet")
    with ScriptedServer(rate) as server:
        spec = (
            f"Judge:criterion=accuracy,model=m,base_url={server.url},store={tmp_path}/store,max_tokens=100,price_in=1"
        )
        command = ["score", str(tmp_path / "pool.parquet"), "--scorer", f"{spec},price_out=2", "--cache-dir"]
        command.append(str(tmp_path / "shards"))
        assert main([*command, "--dry-run"]) == 0
        assert re.search(
            r"send +7 requests, about [\d,]+ tokens in, at most 700 out, cost at most 0.00\d\d; stored",
            capsys.readouterr().out,
        )
        plan = hf_dsel.planning.plan(Dataset.from_dict(alpaca(("Q", "a"))), "top_k", k=1, column="accuracy",
                                     scorers=[judge(server, tmp_path)])  # fmt: skip
        assert plan.work[0].sends.requests == 1 and plan.work[0].seconds is None and not server.received
        assert main([*command, "--out", str(tmp_path / "out")]) == 0 and len(server.received) == 7


@pytest.mark.slow
def test_a_real_server(smollm2_server, smollm2_folder, tmp_path):
    """A small model rarely keeps to a form; whatever it says, a row has a score on the scale or a text and a reason."""
    batch = alpaca(("Name the capital of France.", "Paris."), ("Add 2 and 3.", "The sum is 5."), ("Hi", ""))
    options = {"model": smollm2_folder, "base_url": smollm2_server, "max_tokens": 12, "asks": 2, "store": tmp_path}
    found = Judge("accuracy", **options)(batch)
    for value, status, raw in zip(*(found[f"accuracy{end}"] for end in ("", "_status", "_raw")), strict=True):
        assert (value is not None and 0 <= value <= 5 and status == "ok" and raw is None) or (
            value is None and (status == "empty response" or ("no readable answer" in status and raw))
        )
    assert Judge("accuracy", **options)(batch) == found
