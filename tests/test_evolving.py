"""Evolution against a scripted model: what is asked, what becomes of it, and that nothing is asked twice."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from datasets import Dataset

import hf_dsel
from hf_dsel.endpoint import BudgetSpent, Endpoint
from hf_dsel.evolution_plan import plan_evolution
from hf_dsel.evolution_prompts import BadPrompt, load_prompts
from hf_dsel.evolving import FEATURES, drawn_methods
from hf_dsel.ranking import ALONE
from hf_dsel.scorers.deita import COMPLEXITY, QUALITY

from .scripted_server import Raw, ScriptedServer
from .strong_model import ranking, shown_text, strong_model


def pool(n=6):
    return Dataset.from_dict(
        {
            "instruction": [f"Name {i} rivers." for i in range(n)],
            "input": ["" if i % 3 else "in Asia" for i in range(n)],
            "output": [f"River {i}." for i in range(n)],
        }
    )


def endpoint(server, tmp_path, **options):
    return Endpoint(model="strong", base_url=server.url, store=tmp_path / "store", first_wait=0.01, **options)


def run(answer, tmp_path, dataset=None, **options):
    with ScriptedServer(answer) as server:
        found = hf_dsel.evolve(pool() if dataset is None else dataset, endpoint(server, tmp_path), **options)
    return found, server


# --- what comes out ---


def test_complexity_grows_round_by_round(tmp_path):
    found, server = run(strong_model, tmp_path, scores="complexity", rounds=5)
    assert found.features == FEATURES and len(found) == 36 and len(server.received) == 6 * 6
    first = found.select(range(6))
    texts = ["Name 0 rivers.\nin Asia" + " more" * i for i in range(6)]
    assert first["instruction"][:] == texts and first["variants"][:] == [texts] * 6
    assert first["text"][:] == [COMPLEXITY.replace("{instruction}", text) for text in texts]
    assert first["score"][:] == [1, 2, 3, 4, 5, 6] and first["round"][:] == [0, 1, 2, 3, 4, 5]
    assert first["response"][:] == ["River 0.", *[None] * 5]
    assert set(found["score_status"][:]) == set(found["variant_status"][:]) == {"ok"}
    assert first["method"][0] is None and set(first["method"][1:]) <= set(load_prompts("complexity").methods)
    assert first["answer"][0] is None and first["answer"][1] == f"<rewritten>{texts[1]}</rewritten>"
    assert found["seed_row"][:] == [i for i in range(6) for _ in range(6)]
    assert set(found["ranked_by"][:]) == {"strong"} and set(found["template"][:]) == {COMPLEXITY}
    assert set(found["scores"][:]) == {"complexity"} and all("Score" in answer for answer in found["rank_answer"][:])


def test_quality_grows_beside_the_same_instruction(tmp_path):
    found, server = run(strong_model, tmp_path, scores="quality", rounds=2)
    assert all("rivers." in prompt for prompt in server.prompts)  # rewritings and rankings show the instruction
    first = found.select(range(3))
    assert first["instruction"][:] == ["Name 0 rivers.\nin Asia"] * 3
    assert first["response"][:] == ["River 0.", "River 0. more", "River 0. more more"] == first["variants"][0]
    expected = QUALITY.replace("{instruction}", "Name 0 rivers.\nin Asia").replace("{response}", "River 0. more")
    assert first["text"][1] == expected and first["score"][:] == [1, 2, 3]


def test_methods_are_drawn_for_each_row_and_round(tmp_path):
    files = load_prompts("quality")
    found, _ = run(strong_model, tmp_path, scores="quality", rounds=2)
    assert found["method"][:] == [m for row in range(6) for m in (None, *drawn_methods(files, 42, row, 2))]
    drawn = [m for row in range(200) for m in drawn_methods(files, 42, row, 5)]
    assert all(150 <= drawn.count(name) <= 250 for name in files.methods) and len(drawn) == 1000
    assert drawn != [m for row in range(200) for m in drawn_methods(files, 43, row, 5)]


def test_rankings_show_the_variants_of_each_row_in_an_order_of_its_own(tmp_path):
    _, server = run(strong_model, tmp_path, pool(9), rounds=3)
    rankings = [prompt for prompt in server.prompts if "Reply with" in prompt]
    orders = {tuple(line[-1] for line in ranking(prompt).splitlines()) for prompt in rankings}
    assert len(rankings) == 9 and len(orders) > 3


def test_draws_do_not_hang_on_the_number_of_rounds():
    files = load_prompts("complexity")
    for row in range(50):
        assert drawn_methods(files, 42, row, 9)[:4] == drawn_methods(files, 42, row, 4)


def test_the_seed_set_is_random_and_a_larger_one_holds_it(tmp_path):
    rows = [set(run(strong_model, tmp_path / str(k), pool(50), k=k, rounds=1)[0]["seed_row"][:]) for k in (5, 20)]
    assert len(rows[0]) == 5 and len(rows[1]) == 20 and rows[0] < rows[1] and rows[0] != set(range(5))


def test_rows_of_any_format(tmp_path):
    turn = lambda role, text: {"role": role, "content": text}  # noqa: E731
    talk = [turn("system", "Be kind."), turn("user", "One?"), turn("assistant", "1"), turn("user", "Two?"),
            turn("assistant", "2")]  # fmt: skip
    found, _ = run(strong_model, tmp_path, Dataset.from_dict({"messages": [talk] * 2}), scores="quality", rounds=1)
    assert found["instruction"][:2] == ["One?"] * 2 and found["response"][:2] == ["1", "1 more"]
    pairs = Dataset.from_dict({"prompt": ["Q"], "chosen": ["good"], "rejected": ["bad"]})
    found, _ = run(strong_model, tmp_path, pairs, scores="quality", rounds=1)
    assert found["response"][:] == ["good", "good more"]
    found, _ = run(strong_model, tmp_path, Dataset.from_dict({"prompt": ["Q", " "]}), scores="complexity", rounds=1)
    assert found["instruction"][:] == ["Q", "Q more"]


def test_rows_that_cannot_be_evolved_are_passed_over(tmp_path):
    rows = Dataset.from_dict({"instruction": ["a", "", "c", "d"], "output": ["1", "2", "", None]})
    found, _ = run(strong_model, tmp_path, rows, scores="quality", rounds=1)
    assert found["seed_row"][:] == [0, 0]
    with pytest.raises(
        ValueError, match=r"no row can be evolved: no response \(1\); quality needs an instruction and a"
    ):
        run(strong_model, tmp_path, rows.select([2]), scores="quality")
    with pytest.raises(ValueError, match=r"no row can be evolved: no instruction \(2\)"):
        run(strong_model, tmp_path, Dataset.from_dict({"text": ["a", "b"]}), scores="complexity")


def test_your_own_prompts_and_template(tmp_path):
    (tmp_path / "longer.txt").write_text("LONGER {instruction}")
    found, server = run(
        lambda seen, n: ranking(seen.prompt) if "Reply with" in seen.prompt else f" {seen.prompt[7:]} more\n",
        tmp_path, prompts=tmp_path, template="Q: {instruction} A:", rounds=2, k=1,
    )  # fmt: skip
    assert found["method"][:] == [None, "longer", "longer"] and found["score"][:] == [1, 2, 3]
    assert found["text"][1] == f"Q: {found['instruction'][1]} A:" and server.prompts[0].startswith("LONGER Name")


# --- what fails ---


def drawn_twice():
    """A seed for which row 2 draws the same method in rounds 2 and 3."""
    files = load_prompts("complexity")
    return next(s for s in range(99) if len(set(drawn_methods(files, s, 2, 4)[1:3])) == 1)


def test_a_round_that_fails_is_null_and_the_next_starts_from_the_last_variant(tmp_path):
    def answer(seen, n):
        if (
            "Reply with" not in seen.prompt
            and shown_text(seen.prompt).count(" more") == 1
            and "2 rivers" in seen.prompt
        ):
            if len(failed) < 2:
                failed.append(n)
                return "I would rather not."
        return strong_model(seen, n)

    failed = []
    found, server = run(answer, tmp_path, rounds=4, asks=2, seed=drawn_twice())
    row = found.filter(lambda r: r["seed_row"] == 2)
    assert row["method"][2] != row["method"][3]  # the same request would have got the same stored answer
    assert len(failed) == 2 and "earlier answer could not be used: the reply holds no <rewritten>" in "".join(
        server.prompts
    )
    name = "Name 2 rivers."
    assert row["variants"][0] == [name, f"{name} more", None, f"{name} more more", f"{name} more more more"]
    assert row["score"][:] == [1, 2, None, 3, 4] and row["text"][2] is None and row["instruction"][2] is None
    assert "no <rewritten>" in row["variant_status"][2] and row["answer"][2] == "I would rather not."
    assert row["score_status"][2] == "no variant" and row["score_status"][3] == "ok"
    others = found.filter(lambda r: r["seed_row"] != 2)
    assert others["score"][:] == [1, 2, 3, 4, 5] * 5


def test_the_same_text_again_is_no_variant_and_each_method_is_tried_once_on_it(tmp_path):
    found, server = run(lambda seen, n: f"<rewritten>{shown_text(seen.prompt)}</rewritten>", tmp_path, rounds=6, k=2)
    assert len(server.received) == 8 and found["score"][:] == [None] * 14 and found["score_status"][0] == ALONE
    same, stuck = "the same text as an earlier variant", "every method has failed on the variant before"
    assert found["variant_status"][:7] == ["ok", same, same, same, same, stuck, stuck]
    assert set(found["method"][1:5]) == set(load_prompts("complexity").methods) and found["method"][5] is None


def test_a_ranking_that_fails_leaves_null_scores_and_the_reply(tmp_path):
    def answer(seen, n):
        return "All are fine." if "Reply with" in seen.prompt and "3 rivers" in seen.prompt else strong_model(seen, n)

    found, _ = run(answer, tmp_path, rounds=1, asks=2)
    row = found.filter(lambda r: r["seed_row"] == 3)
    assert row["score"][:] == [None, None] and "no score for [1], [2]" in row["score_status"][0]
    assert row["rank_answer"][:] == ["All are fine."] * 2 and row["variant_status"][:] == ["ok", "ok"]
    assert found.filter(lambda r: r["seed_row"] != 3)["score"][:] == [1, 2] * 5


def test_a_row_that_the_server_refuses(tmp_path):
    def answer(seen, n):
        return (
            Raw(400, '{"error": {"message": "content filter"}}') if "4 rivers" in seen.prompt else strong_model(seen, n)
        )

    found, _ = run(answer, tmp_path, rounds=1)
    row = found.filter(lambda r: r["seed_row"] == 4)
    assert row["variants"][0] == ["Name 4 rivers.", None] and "400" in row["variant_status"][1]
    assert sum(s is not None for s in found["score"][:]) == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scores": "depth"}, "scores='depth'"),
        ({"rounds": 0}, "rounds=0; it is a whole number"),
        ({"asks": 0}, "asks=0"),
        ({"max_tokens": "many"}, "max_tokens='many'"),
        ({"k": 0}, "k=0; the seed set has a whole number of rows, at least 1 and at most the dataset's 6"),
        ({"k": 7}, "k=7"),
        ({"k": 1.5}, "k=1.5; the seed set has a whole number of rows"),
        ({"template": "{instruction}"}, "ends with a place"),
        ({"temperature": "hot"}, "temperature='hot'; it is a number"),
        ({"seed": "x"}, "seed='x'; it is a whole number"),
        ({"k": "5"}, "k='5'; the seed set has a whole number"),
        ({"template": "no place"}, "template"),
        ({"scores": "quality", "template": "{instruction} A:"}, "template"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_is_asked(tmp_path, options, message):
    with ScriptedServer(strong_model) as server:
        for call in (hf_dsel.evolve, plan_evolution):
            with pytest.raises(ValueError, match=message):
                call(pool(), endpoint(server, tmp_path), **options)
        with pytest.raises(BadPrompt):
            hf_dsel.evolve(pool(), endpoint(server, tmp_path), prompts=tmp_path / "nosuch")
    assert server.received == []


# --- nothing is asked twice ---


def test_a_spent_budget_stops_and_a_second_call_goes_on(tmp_path):
    with ScriptedServer(strong_model) as server:
        with pytest.raises(BudgetSpent):
            hf_dsel.evolve(pool(), endpoint(server, tmp_path, max_requests=10), rounds=3)
        assert len(server.received) == 10
        found = hf_dsel.evolve(pool(), endpoint(server, tmp_path), rounds=3)
        assert len(server.received) == 6 * 4 == len(set(server.prompts))
        again = hf_dsel.evolve(pool(), endpoint(server, tmp_path), rounds=3)
    assert len(server.received) == 24 and again[:] == found[:] and found["score"][:] == [1, 2, 3, 4] * 6


def test_more_rows_and_more_rounds_repeat_no_rewriting(tmp_path):
    with ScriptedServer(strong_model) as server:
        hf_dsel.evolve(pool(20), endpoint(server, tmp_path), rounds=2, k=5)
        hf_dsel.evolve(pool(20), endpoint(server, tmp_path), rounds=2, k=8)
        assert len(server.received) == 8 * 3
        hf_dsel.evolve(pool(20), endpoint(server, tmp_path), rounds=4, k=8)
        assert len(server.received) == 8 * 3 + 8 * 3  # two more rounds and longer rankings
    assert len(set(server.prompts)) == len(server.prompts)


KILLED = """
import sys
from datasets import Dataset
import hf_dsel
pool = Dataset.from_dict({"instruction": [f"Name {i} rivers." for i in range(20)], "output": ["a"] * 20})
endpoint = hf_dsel.Endpoint(model="strong", base_url=sys.argv[1], store=sys.argv[2], concurrency=4)
found = hf_dsel.evolve(pool, endpoint, rounds=3)
found.to_parquet(sys.argv[3])
"""


def test_killed_in_the_middle_it_goes_on_without_asking_twice(tmp_path):
    def slowly(seen, n):
        if n > 30 and not resumed:
            time.sleep(30)  # these replies never reach the first process
        return strong_model(seen, n)

    resumed = []
    arguments = [sys.executable, "-c", KILLED]
    with ScriptedServer(slowly) as server:
        arguments += [server.url, str(tmp_path / "store"), str(tmp_path / "found.parquet")]
        process = subprocess.Popen(arguments, env=os.environ | {"HF_HUB_OFFLINE": "0"}, stderr=subprocess.DEVNULL)
        try:
            while len(server.received) < 34 and process.poll() is None:
                time.sleep(0.05)
            time.sleep(0.3)  # what was answered before is written
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        before = len(server.received)
        assert before == 34
        resumed.append(True)
        subprocess.run(arguments, check=True, capture_output=True, env=os.environ | {"HF_HUB_OFFLINE": "0"})
    assert len(server.received) == 80 + 4  # the four that were under way, and nothing else, went out again
    found = Dataset.from_parquet(str(tmp_path / "found.parquet"))
    assert found["score"][:] == [1, 2, 3, 4] * 20


# --- the plan ---


@pytest.mark.parametrize("scores", ["complexity", "quality"])
def test_the_plan_counts_what_is_asked_and_comes_near_in_tokens(tmp_path, scores):
    def twenty_words(seen, n):
        if "Reply with" in seen.prompt:
            return ranking(seen.prompt)
        return f"<rewritten>{shown_text(seen.prompt)} {n:04d} {'abcd ' * 20}</rewritten>"

    with ScriptedServer(twenty_words) as server:
        client = endpoint(server, tmp_path, price_in=1.0, price_out=4.0)
        plan = plan_evolution(pool(20), client, scores=scores, k=10, rounds=4)
        assert server.received == [] and plan.stored == 0
        hf_dsel.evolve(pool(20), client, scores=scores, k=10, rounds=4)
        assert plan.requests == len(server.received) == 50
        sent = sum(len(p.encode()) for p in server.prompts) / 4
        assert plan.tokens_in == pytest.approx(sent, rel=0.1)
        assert plan_evolution(pool(20), client, scores=scores, k=10, rounds=4).stored == 10
    assert plan.cost == (plan.tokens_in + 4 * plan.tokens_out) / 1e6
    text = str(plan)
    assert "50: 4 x 10 rewritings and 10 rankings of 5 variants" in text and "10 of 20 rows, read as alpaca" in text


def test_a_plan_without_prices_says_how_to_see_the_cost(tmp_path):
    with ScriptedServer(strong_model) as server:
        plan = plan_evolution(pool(), endpoint(server, tmp_path))
    assert plan.cost is None and "price_in" in str(plan) and plan.requests == 36


def test_the_result_is_json_and_parquet(tmp_path):
    found, _ = run(strong_model, tmp_path, rounds=1, k=2)
    found.to_parquet(str(tmp_path / "x.parquet"))
    assert Dataset.from_parquet(str(tmp_path / "x.parquet"))[:] == found[:]
    assert json.loads(json.dumps(found[0]))["score"] == 1 and isinstance(
        np.asarray(found["score"][:]).sum(), np.integer
    )
