"""Rankings: read strictly, shown in a drawn order, mapped back."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_dsel.endpoint import Endpoint, Malformed
from hf_dsel.ranking import ALONE, rank, read_scores

from .scripted_server import Raw, ScriptedServer, completion

PROMPT = "About {instruction}: rank these {n}.\n{variants}\nEND\n{lines}"
SHOWN = re.compile(r"^\[(\d+)\]\n(.*?)(?=\n\n\[\d+\]\n|\nEND\n)", re.DOTALL | re.MULTILINE)


def shown(prompt):
    """The variants in the order in which a prompt shows them."""
    found = SHOWN.findall(prompt)
    assert [number for number, _ in found] == [str(i) for i in range(1, len(found) + 1)]
    return [text for _, text in found]


def worth(text):
    """The score that the scripted model gives a text: the digit it ends with."""
    return int(text[-1])


def ranked_by_worth(seen, _):
    return "\n".join(f"[{i}] Score: {worth(text)}" for i, text in enumerate(shown(seen.prompt), start=1))


def endpoint(server, tmp_path, **options):
    return Endpoint(model="strong", base_url=server.url, store=tmp_path / "store", first_wait=0.01, **options)


# --- reading ---


@given(st.lists(st.integers(1, 6), min_size=1, max_size=9), st.randoms(use_true_random=False))
def test_every_order_of_lines_is_read(scores, random):
    lines = [f"[{i}] Score: {score}" for i, score in enumerate(scores, start=1)]
    random.shuffle(lines)
    assert read_scores("\n".join(lines), n=len(scores)) == tuple(scores)


@pytest.mark.parametrize(
    "line",
    ["[1] Score: 4", "[1]  score = 4", "- [1] Score: 4", "**[1]** **Score:** 4", "[Response 1] Score: 4", "[1] 4",
     "[1]: 4", "[1] Score: 4/6", "[1] Score: 4.", "> [instruction 1] SCORE: `4`", "[1] Score: 4\r"],
)  # fmt: skip
def test_the_forms_of_a_line(line):
    assert read_scores(f"Here you are:\n{line}\n[2] Score: 1\nThat is all, [1] was hard.", n=2) == (4, 1)


@pytest.mark.parametrize(
    ("reply", "n", "problem"),
    [
        ("", 2, r"no score for \[1\], \[2\]"),
        ("[1] Score: 3", 2, r"no score for \[2\]"),
        ("[1] Score: 3\n[2] Score: 3\n[2] Score: 4", 2, r"two scores for \[2\]"),
        ("[1] Score: 3\n[2] Score: 3\n[3] Score: 4", 2, r"a score for \[3\], and there are \[1\] to \[2\]"),
        ("[0] Score: 3\n[1] Score: 3", 1, r"a score for \[0\]"),
        ("[1] Score: 7", 1, "the score 7 of .* no whole number from 1 to 6"),
        ("[1] Score: 0", 1, "the score 0"),
        ("[1] Score: -2", 1, "the score -2"),
        ("[1] Score: 3.5", 1, "the score 3.5"),
        ("[1] Score: 4,5", 1, "the score 4,5"),
        ("[1] Score: 10", 1, "the score 10"),
        ("[1] Score: three", 1, "no score"),
        ("[1] Score: 3-4", 1, "no score"),
        ("[1] Score: 8/10", 1, "no score"),
        ("[1] Score: 3 [2] Score: 4", 2, "no score"),
        ("[1] Score:\n3", 1, "no score"),
        ("1. 3\n2. 4", 2, "no score"),
        ('{"1": 3, "2": 4}', 2, "no score"),
        ("<think>[1] Score: 3</think>", 1, "no score"),
    ],
)
def test_other_replies_do_not_count(reply, n, problem):
    with pytest.raises(Malformed, match=problem):
        read_scores(reply, n=n)


def test_the_thoughts_before_a_reply_are_not_read():
    assert read_scores("<think>\n[1] Score: 2?\n</think>\n[1] Score: 3", n=1) == (3,)


def test_the_thoughts_of_a_server_that_leaves_out_their_beginning():
    assert read_scores("[1] Score: 2?\n</think>\n[1] Score: 3", n=1) == (3,)


@pytest.mark.parametrize("reply", ["[1] " + "_" * 20_000, "[1] Score: " + "1" * 20_000, f"[{'1' * 20_000}] 2"])
def test_a_model_that_repeats_itself_is_malformed_and_takes_no_time(reply):
    with pytest.raises(Malformed, match=r"no score for \[1\]"):
        read_scores(reply, n=1)


# --- asking ---


def test_scores_come_back_to_their_variants_whatever_the_order(tmp_path):
    rng = np.random.default_rng(0)
    samples = [
        (f"thing {i}", [f"sample {i} variant {j}\nwith two lines, {rng.integers(1, 7)}" for j in range(2 + i % 5)])
        for i in range(20)
    ]
    with ScriptedServer(ranked_by_worth) as server:
        found = rank(samples, endpoint(server, tmp_path), prompt=PROMPT, seeds=[(42, i) for i in range(20)])
        orders = {p.split(":")[0]: shown(p) for p in server.prompts}
    assert len(server.received) == 20
    for (thing, variants), result in zip(samples, found, strict=True):
        assert result.scores == tuple(map(worth, variants)) and result.status == "ok" and "Score" in result.answer
        assert sorted(orders[f"About {thing}"]) == sorted(variants)
    six = [orders[f"About {thing}"] for thing, variants in samples if len(variants) == 6]
    assert len({tuple(text.split()[3] for text in order) for order in six}) > 2  # not one order for all
    assert all(r.body["temperature"] == 0 for r in server.received)


def test_the_same_seed_shows_the_same_order(tmp_path):
    samples = [("x", [f"{j} 1" for j in range(6)])]
    with ScriptedServer(ranked_by_worth) as server:
        for folder in "ab":
            rank(samples, endpoint(server, tmp_path / folder), prompt=PROMPT, seeds=[(42, 1, 7)])
        rank(samples, endpoint(server, tmp_path / "c"), prompt=PROMPT, seeds=[(42, 1, 8)])
    assert server.prompts[0] == server.prompts[1] != server.prompts[2]


def test_a_malformed_ranking_is_asked_for_again_with_what_was_wrong(tmp_path):
    replies = iter(["[1] Score: 3", "[1] Score: 3\n[2] Score: 9", "[1] Score: 2\n[2] Score: 2"])
    with ScriptedServer(lambda seen, n: next(replies)) as server:
        [found] = rank([("x", ["a", "b"])], endpoint(server, tmp_path), prompt=PROMPT, seeds=[1], asks=3)
    assert found.scores == (2, 2) and len(server.received) == 3
    assert "no score for [2]" in server.prompts[1] and "the score 9 of [2]" in server.prompts[2]


def test_after_so_many_asks_the_scores_are_none_and_the_reply_is_kept(tmp_path):
    with ScriptedServer(
        lambda seen, n: "They are all fine." if "About bad" in seen.prompt else ranked_by_worth(seen, n)
    ) as s:
        bad, good = rank([("bad", ["a 1", "b 2", "c 3"]), ("good", ["a 1", "b 2", "c 3"])], endpoint(s, tmp_path),
                         prompt=PROMPT, seeds=[1, 2], asks=2)  # fmt: skip
    assert bad.scores == (None, None, None) and bad.answer == "They are all fine." and "no score for [1]" in bad.status
    assert good.scores == (1, 2, 3) and len(s.received) == 3


def test_one_variant_is_not_ranked_and_nothing_is_asked(tmp_path):
    with ScriptedServer(ranked_by_worth) as server:
        one, none = rank([("x", ["a"]), ("y", [])], endpoint(server, tmp_path), prompt=PROMPT, seeds=[1, 2])
    assert (one.scores, one.status) == ((None,), ALONE) and none.scores == () and server.received == []


def test_an_empty_reply_and_a_failing_server(tmp_path):
    def answer(seen, n):
        return Raw(body=completion("")) if "About empty" in seen.prompt else Raw(400, '{"error": "too long"}')

    with ScriptedServer(lambda s, n: ranked_by_worth(s, n) if "About ok" in s.prompt else answer(s, n)) as server:
        names = ["ok", "empty", "refused"]
        found = rank([(name, ["a 1", "b 2"]) for name in names], endpoint(server, tmp_path), prompt=PROMPT,
                     seeds=[1, 2, 3], asks=2)  # fmt: skip
    assert [r.scores for r in found] == [(1, 2), (None, None), (None, None)]
    assert "empty" in found[1].status and "400" in found[2].status


def test_all_six_orders_of_three_can_be_mapped_back(tmp_path):
    texts = ["a 1", "b 3", "c 6"]
    seen = set()
    with ScriptedServer(ranked_by_worth) as server:
        for seed in range(30):
            [found] = rank([("x", texts)], endpoint(server, tmp_path / str(seed)), prompt=PROMPT, seeds=[seed])
            assert found.scores == (1, 3, 6)
        seen = {tuple(shown(p)) for p in server.prompts}
    assert seen == set(itertools.permutations(texts))
