"""The client against a real server on loopback that does everything a server should not."""

import asyncio
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hf_dsel.sending
from hf_dsel.answers import AnswerStore, Reply
from hf_dsel.endpoint import Answer, BudgetSpent, Endpoint, EndpointDown, Malformed, Request
from hf_dsel.faults import retry_after
from tests.scripted_server import Raw, ScriptedServer, completion

ROOT = Path(__file__).parent.parent


def ask_for(i, **options):
    return Request(({"role": "user", "content": f"Number {i}?"},), **options)


def number(text):
    try:
        return int(text)
    except ValueError:
        raise Malformed(f"{text!r} is no number") from None


def echo(received, n):
    """The number in the prompt."""
    return received.prompt.split("?")[0].split()[-1]


def endpoint(server, folder, **options):
    return Endpoint(**{"model": "m", "base_url": server.url, "store": folder / "store", "first_wait": 0.01, **options})


def lines(folder):
    return [json.loads(x) for file in sorted((folder / "store").glob("*")) for x in file.read_text().splitlines()]


def test_answers_come_in_order_and_are_paid_for_once(tmp_path):
    with ScriptedServer(lambda r, n: Raw(body=completion(echo(r, n)), delay=0.02 * (n % 3))) as server:
        first = endpoint(server, tmp_path)
        asked = [ask_for(i % 20) for i in range(50)]
        answers = first.ask(asked, parse=number)
        assert [a.value for a in answers] == [i % 20 for i in range(50)] and {a.status for a in answers} == {"ok"}
        assert Counter(server.prompts) == {f"Number {i}?": 1 for i in range(20)}  # equal requests go once
        assert (first.requests_sent, first.tokens_in, first.tokens_out) == (20, 200, 20)
        again = endpoint(server, tmp_path)
        assert again.ask(asked, parse=number) == answers and again.ask(asked, parse=str)[3].value == "3"
        assert len(server.received) == 20 and again.requests_sent == 0 and again.has_answered
        other = [endpoint(server, tmp_path, model="n"), endpoint(server, tmp_path, extra_body={"top_p": 0.5})]
        for n, changed in enumerate(other, start=1):
            changed.ask([ask_for(1)], parse=number)
            assert len(server.received) == 20 + n
        assert server.received[-1].body["top_p"] == 0.5 and server.received[-2].body["model"] == "n"
        assert again.ask([], parse=number) == []


def test_what_is_sent(tmp_path):
    with ScriptedServer(echo) as server:
        client = endpoint(server, tmp_path)
        client.ask([ask_for(1, max_tokens=7, temperature=0.5, seed=3)], parse=number)
        client.ask([ask_for(1, max_tokens=None, temperature=None)], parse=number)
    full, bare = (r.body for r in server.received)
    assert full == {"model": "m", "messages": [{"role": "user", "content": "Number 1?"}], "max_tokens": 7,
                    "temperature": 0.5, "seed": 3, "stream": False, "path": "/v1/chat/completions"}  # fmt: skip
    assert set(full) - set(bare) == {"max_tokens", "temperature", "seed"}


def test_no_more_than_concurrency_at_a_time(tmp_path):
    with ScriptedServer(lambda r, n: Raw(body=completion(echo(r, n)), delay=0.1)) as server:
        endpoint(server, tmp_path, concurrency=3).ask([ask_for(i) for i in range(12)], parse=number)
    assert server.most_at_once == 3


@pytest.mark.parametrize(
    "fault",
    [
        Raw(500, '{"error": "boom"}'),
        Raw(503, "busy", {"Retry-After": "0"}),
        Raw(429, '{"error": {"message": "slow down"}}'),
        Raw(408),
        Raw(200, completion("1"), cut=25),
        Raw(200, completion("1")[:25]),
        Raw(200, ""),
        Raw(200, "[]"),
        Raw(200, "null"),
        Raw(200, "[1]"),
        Raw(200, '{"choices": []}'),
        Raw(200, '{"error": "overloaded"}'),
        Raw(200, '{"choices": [{"message": {"content": ["a part"]}}]}'),
        Raw(200, "<html>gateway</html>", {"Content-Type": "text/html"}),
        Raw(502, "[1, 2]"),
        Raw(529, '"text"'),
        Raw(200, completion("1"), cut=0),
    ],
    ids=lambda r: f"{r.status}-{r.body[:12]}-{r.cut}",
)
def test_a_fault_is_tried_again_and_not_stored(fault, tmp_path):
    with ScriptedServer(lambda r, n: fault if n <= 4 else echo(r, n)) as server:
        answers = endpoint(server, tmp_path, concurrency=2).ask([ask_for(i) for i in range(3)], parse=number)
    assert [a.value for a in answers] == [0, 1, 2] and len(server.received) == 7
    assert [line["text"] for line in lines(tmp_path)] == [str(a) for a in sorted(range(3), key=_order(tmp_path))]


def _order(folder):
    texts = [line["text"] for line in lines(folder)]
    return lambda i: texts.index(str(i))


def test_slow_answers_time_out_and_are_tried_again(tmp_path):
    slow = lambda r, n: Raw(body=completion("9"), delay=5) if n == 1 else echo(r, n)  # noqa: E731
    with ScriptedServer(slow) as server:
        client = endpoint(server, tmp_path, timeout=0.3, concurrency=1)
        assert [a.value for a in client.ask([ask_for(1), ask_for(2)], parse=number)] == [1, 2]
    with ScriptedServer(lambda r, n: Raw(body=completion("9"), delay=5)) as server:
        client = endpoint(server, tmp_path, timeout=0.1, concurrency=2, tries=2)
        with pytest.raises(EndpointDown, match=r"no answer within 0.1 s.* 0 of 2 requests.*raise timeout"):
            client.ask([ask_for(3), ask_for(4)], parse=number)


def test_a_dripping_answer_times_out_as_a_whole(tmp_path):
    """One byte at a time keeps every single read short; `timeout` is for the whole reply."""
    listener = socket.create_server(("127.0.0.1", 0))

    def drip():
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        try:
            while True:
                connection.sendall(b" ")
                time.sleep(0.05)
        except OSError:
            connection.close()

    threading.Thread(target=drip, daemon=True).start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    client = Endpoint(model="m", base_url=url, store=tmp_path, timeout=0.5, tries=1)
    with pytest.raises(EndpointDown, match="no answer within 0.5 s"):
        client.ask([ask_for(1)], parse=number)
    listener.close()


def retry_in(seconds, form):
    """A Retry-After in one of its forms. A date has whole seconds, so the next one at least is meant."""
    when = datetime.now(UTC) + timedelta(seconds=seconds + 1)
    return str(seconds) if form == "seconds" else format_datetime(when, usegmt=True)


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_holds_back_every_request(form, tmp_path):
    held = []

    def answer(received, n):
        if n == 1:
            held.append(time.monotonic())
            return Raw(429, "slow", {"Retry-After": retry_in(1, form)})
        return Raw(body=completion(echo(received, n)), delay=0.05)

    with ScriptedServer(answer) as server:
        answers = endpoint(server, tmp_path, concurrency=2).ask([ask_for(i) for i in range(6)], parse=number)
    assert [a.value for a in answers] == list(range(6))
    late = [r.time - held[0] for r in server.received[2:]]  # the first two were under way together
    assert min(late) >= 0.9 and len(server.received) == 7


def test_a_server_that_closes_for_hours_is_not_waited_for(tmp_path):
    with ScriptedServer(lambda r, n: "1" if n == 1 else Raw(429, "quota", {"Retry-After": "7200"})) as server:
        with pytest.raises(EndpointDown, match=r"429 Too Many Requests: quota. It asks to come back in 7,200 s"):
            endpoint(server, tmp_path, concurrency=1).ask([ask_for(i) for i in range(5)], parse=number)
    assert len(server.received) == 2 and len(lines(tmp_path)) == 1


@given(st.text(max_size=20))
def test_any_retry_after_is_seconds_or_none(text):
    wait = retry_after({"retry-after": text})
    assert wait is None or 0 <= wait < float("inf")


def test_retry_after_forms():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert retry_after({}) is None and retry_after({"retry-after": "soon"}) is None
    assert retry_after({"retry-after": "inf"}) is None and retry_after({"retry-after": "nan"}) is None
    assert retry_after({"retry-after": f"Thu, {'9' * 20} Jan 2026 00:01:00 GMT"}) is None
    assert retry_after({"retry-after": "-3"}) == 0 and retry_after({"retry-after": " 1.5 "}) == 1.5
    assert retry_after({"retry-after": "Wed, 31 Dec 2025 23:00:00 GMT"}, now=now) == 0
    assert retry_after({"retry-after": "Thu, 01 Jan 2026 00:01:00 GMT"}, now=now) == 60


def test_a_request_that_fails_for_good_is_null_and_tried_by_the_next_run(tmp_path):
    bad = {"7": Raw(500, '{"error": "boom"}'), "8": Raw(400, '{"error": {"message": "too long: 9000 tokens"}}'),
           "6": Raw(200, '{"error": {"message": "overloaded"}}')}  # fmt: skip
    with ScriptedServer(lambda r, n: bad.get(echo(r, n), echo(r, n))) as server:
        client = endpoint(server, tmp_path, tries=3)
        answers = client.ask([ask_for(i) for i in range(10)], parse=number)
        assert [a.value for a in answers] == [*range(6), None, None, None, 9]
        assert answers[6].value is None and "overloaded" in answers[6].status  # the server's own words
        assert answers[7] == Answer(None, None, "500 Internal Server Error: boom (3 tries)")
        assert answers[8] == Answer(None, None, "400 Bad Request: too long: 9000 tokens")
        assert Counter(server.prompts)["Number 7?"] == 3 and Counter(server.prompts)["Number 8?"] == 1
        assert len(lines(tmp_path)) == 7
        bad.clear()
        answers = endpoint(server, tmp_path).ask([ask_for(i) for i in range(10)], parse=number)
        assert [a.value for a in answers] == list(range(10)) and len(server.received) == 7 + 3 + 3 + 1 + 3


def test_nobody_there(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    client = Endpoint(model="mine", base_url=url, store=tmp_path / "store", first_wait=0.01, tries=3)
    with pytest.raises(EndpointDown) as raised:
        client.ask([ask_for(i) for i in range(40)], parse=number)
    text = str(raised.value)
    assert "'mine'" in text and url in text and "no connection" in text and "that the server runs" in text
    assert "0 of 40 requests are answered and stored, 40 are left" in text
    assert not list((tmp_path / "store").iterdir()) and client.requests_sent <= 3 * client.concurrency


def test_a_server_that_dies_in_the_middle(tmp_path):
    with ScriptedServer(echo) as server:
        client = endpoint(server, tmp_path, tries=2)
        client.ask([ask_for(i) for i in range(5)], parse=number)
    with pytest.raises(EndpointDown, match="5 of 9 requests are answered and stored, 4 are left"):
        client.ask([ask_for(i) for i in range(9)], parse=number)


def test_a_server_that_comes_up_late(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client = Endpoint(
        model="m", base_url=f"http://127.0.0.1:{port}/v1", store=tmp_path / "store", first_wait=0.3, tries=5
    )
    server = ScriptedServer(echo, port=port, listening=False)
    threading.Timer(0.6, server.__enter__).start()
    assert [a.value for a in client.ask([ask_for(i) for i in range(9)], parse=number)] == list(range(9))
    server.__exit__()


@pytest.mark.parametrize(
    "status, check",
    [(401, "the key in MY_KEY"), (402, "the key in MY_KEY"), (403, "has this model"), (404, "has this model")],
)
def test_a_server_that_refuses_everyone_is_asked_once(status, check, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-1234567890")
    with ScriptedServer(lambda r, n: Raw(status, '{"error": {"message": "no"}}')) as server:
        client = endpoint(server, tmp_path, key_variable="MY_KEY", concurrency=2)
        with pytest.raises(EndpointDown, match=rf"'m' at http.*: {status} [\w ]+: no\. .* Check .*{check}"):
            client.ask([ask_for(i) for i in range(50)], parse=number)
    assert len(server.received) <= 2


def test_403_after_answers_is_one_requests_own(tmp_path):
    with ScriptedServer(lambda r, n: Raw(403, '{"error": "flagged"}') if echo(r, n) == "3" else echo(r, n)) as server:
        answers = endpoint(server, tmp_path, concurrency=1).ask([ask_for(i) for i in range(5)], parse=number)
    assert [a.value for a in answers] == [0, 1, 2, None, 4] and answers[3].status == "403 Forbidden: flagged"


def test_a_server_that_answers_nobody_is_left(tmp_path):
    """400 may be one long row; when nothing was ever answered, a few of them are enough."""
    with ScriptedServer(lambda r, n: Raw(400, '{"detail": "unknown model"}')) as server:
        with pytest.raises(
            EndpointDown, match=r"400 Bad Request: unknown model. 4 requests in a row .*Check the model"
        ):
            endpoint(server, tmp_path, concurrency=1).ask([ask_for(i) for i in range(50)], parse=number)
        assert len(server.received) == 4
        [answer] = endpoint(server, tmp_path).ask([ask_for(1)], parse=number)
        assert answer.value is None and "unknown model" in answer.status
    good = lambda r, n: echo(r, n) if n <= 5 else Raw(400, "bad")  # noqa: E731
    with ScriptedServer(good) as server:
        with pytest.raises(
            EndpointDown, match=r"16 requests in a row .* 5 of 50 requests are .*15 failed, 30 are left"
        ):
            endpoint(server, tmp_path, concurrency=1).ask([ask_for(i) for i in range(50)], parse=number)
    assert len(server.received) == 5 + hf_dsel.sending.FAILED_IN_A_ROW


def test_malformed_answers_are_asked_again_with_a_note(tmp_path):
    replies = {"Number 0?": "zero", "Number 1?": "", "Number 2?": "2"}
    with ScriptedServer(lambda r, n: replies.get(r.prompt, "5")) as server:
        client = endpoint(server, tmp_path)
        answers = client.ask([ask_for(i, seed=40) for i in range(3)], parse=number)
        assert [a.value for a in answers] == [5, 5, 2]
        notes = sorted(r.prompt.split("\n\n")[1] for r in server.received if "\n\n" in r.prompt)
        assert notes == [
            "(An earlier answer could not be used: 'zero' is no number. Keep to the form that is asked for.)",
            "(An earlier answer could not be used: the answer is empty. Keep to the form that is asked for.)",
        ]
        assert sorted(r.body["seed"] for r in server.received) == [40, 40, 40, 41, 41]
        assert endpoint(server, tmp_path).ask([ask_for(i, seed=40) for i in range(3)], parse=number) == answers
        assert len(server.received) == 5


def test_an_answer_that_is_never_readable_is_null_with_its_text(tmp_path):
    with ScriptedServer(lambda r, n: Raw(body=completion(f"word {n}", finish="length"))) as server:
        client = endpoint(server, tmp_path)
        [answer] = client.ask([ask_for(1, max_tokens=9)], parse=number, asks=3)
        assert len(server.received) == 3 and len({*server.prompts}) == 3
        assert answer == Answer(
            None,
            "word 3",
            "no readable answer in 3 asked; the last: 'word 3' is no number (it was cut at max_tokens=9)",
        )
        assert endpoint(server, tmp_path).ask([ask_for(1, max_tokens=9)], parse=number) == [answer]
        assert len(server.received) == 3
        endpoint(server, tmp_path).ask([ask_for(1, max_tokens=9)], parse=number, asks=4)
        assert len(server.received) == 4  # only the fourth is new


def test_an_answer_without_content_says_so(tmp_path):
    with ScriptedServer(lambda r, n: Raw(body=completion(None, finish="length"))) as server:
        [answer] = endpoint(server, tmp_path).ask([ask_for(1, max_tokens=9)], parse=number, asks=2)
    assert answer.value is None and answer.status.endswith("the answer is empty (it was cut at max_tokens=9)")


def test_a_failing_second_ask_keeps_the_first_text(tmp_path):
    reply = lambda r, n: "word" if "\n\n" not in r.prompt else Raw(400, "no")  # noqa: E731
    with ScriptedServer(reply) as server:
        [answer] = endpoint(server, tmp_path).ask([ask_for(1)], parse=number)
    assert answer == Answer(None, "word", "400 Bad Request: no")


def test_a_request_budget_stops_cleanly_and_the_next_run_goes_on(tmp_path):
    asked = [ask_for(i) for i in range(30)]
    with ScriptedServer(lambda r, n: Raw(body=completion(echo(r, n)), delay=0.02)) as server:
        for start in (0, 12, 24):
            client = endpoint(server, tmp_path, max_requests=12)
            if start < 24:
                done, left = start + 12, 18 - start
                with pytest.raises(BudgetSpent) as raised:
                    client.ask(asked, parse=number)
                assert str(raised.value) == (
                    f"max_requests=12 is spent. {done} of 30 requests are answered and stored, {left} are left. "
                    "Raise max_requests and run again: stored answers are not asked again."
                )
                assert len(server.received) == len(lines(tmp_path)) == done
            else:
                assert [a.value for a in client.ask(asked, parse=number)] == list(range(30))
    assert Counter(server.prompts) == {f"Number {i}?": 1 for i in range(30)}


def test_failed_tries_count_towards_the_budget(tmp_path):
    with ScriptedServer(lambda r, n: "1" if n == 1 else Raw(500, "x")) as server:
        client = endpoint(server, tmp_path, max_requests=5, tries=50, concurrency=2)
        with pytest.raises(BudgetSpent, match="1 of 9 requests"):
            client.ask([ask_for(i) for i in range(9)], parse=number)
    assert len(server.received) == 5


@settings(max_examples=12, deadline=None)
@given(limit=st.integers(20, 400), concurrency=st.integers(1, 6))
def test_a_token_budget_is_never_passed(limit, concurrency, tmp_path_factory):
    folder = tmp_path_factory.mktemp("budget")
    usage = {"prompt_tokens": 6, "completion_tokens": 20, "total_tokens": 26}
    body = json.dumps(json.loads(completion("1")) | {"usage": usage})
    with ScriptedServer(lambda r, n: Raw(body=body)) as server:
        client = endpoint(server, folder, max_total_tokens=limit, concurrency=concurrency)
        fit = max(0, (limit - 26) // 26 + 1) if limit >= 26 else 0  # a request may take 6 + 20, and does
        if fit >= 16:
            return
        with pytest.raises(BudgetSpent, match=rf"max_total_tokens={limit} leaves \d+, and the next .* may take 26"):
            client.ask([ask_for(i, max_tokens=20) for i in range(16)], parse=number)
        assert client.tokens_in + client.tokens_out <= limit and len(server.received) == fit == len(lines(folder))


def test_tokens_are_estimated_where_the_server_counts_none(tmp_path):
    with ScriptedServer(lambda r, n: Raw(body=completion("x" * 40, usage=False))) as server:
        client = endpoint(server, tmp_path, price_in=1e6, price_out=2e6)
        client.ask([ask_for(1)], parse=str)
    assert (client.tokens_in, client.tokens_out) == (9 // 4 + 4, 10) and client.cost == 6 + 20
    assert lines(tmp_path)[0]["tokens_in"] is None
    unknown = completion("x" * 40).replace('"completion_tokens": 1', '"completion_tokens": -1')
    with ScriptedServer(lambda r, n: Raw(body=unknown)) as server:
        client = endpoint(server, tmp_path / "b")
        client.ask([ask_for(1)], parse=str)
    assert client.tokens_out == 10


def test_forecast_sends_nothing(tmp_path):
    with ScriptedServer(echo) as server:
        client = endpoint(server, tmp_path, price_in=1.0, price_out=10.0)
        client.ask([ask_for(1, max_tokens=100)], parse=number)
        found = client.forecast([ask_for(i, max_tokens=100) for i in (1, 2, 3, 3)])
    assert (found.requests, found.tokens_in, found.most_tokens_out) == (2, 12, 200)
    assert found.most_cost == pytest.approx((12 + 2000) / 1e6) and len(server.received) == 1


def test_a_mistake_in_a_parser_is_raised_and_what_was_paid_is_kept(tmp_path):
    def parse(text):
        return 1 / int(text)

    with ScriptedServer(lambda r, n: Raw(body=completion(echo(r, n)), delay=0.05)) as server:
        with pytest.raises(ZeroDivisionError):
            endpoint(server, tmp_path, concurrency=4).ask([ask_for(i) for i in range(4)], parse=parse)
    assert len(lines(tmp_path)) == 4


def test_inside_a_running_loop(tmp_path):
    async def notebook(server):
        client = endpoint(server, tmp_path, max_requests=3)
        first = client.ask([ask_for(1), ask_for(2)], parse=number)
        with pytest.raises(BudgetSpent):
            client.ask([ask_for(i) for i in range(9)], parse=number)
        return first

    with ScriptedServer(echo) as server:
        assert [a.value for a in asyncio.run(notebook(server))] == [1, 2]


def test_on_done_names_every_request_once(tmp_path):
    seen = []
    with ScriptedServer(echo) as server:
        endpoint(server, tmp_path).ask([ask_for(1)], parse=number)
        asked = [ask_for(i % 4) for i in range(9)]
        endpoint(server, tmp_path).ask(asked, parse=number, on_done=seen.extend)
    assert sorted(seen) == list(range(9)) and seen[:2] == [1, 5]  # the stored ones first


SCRIPT = """
    import sys
    from hf_dsel.endpoint import Endpoint, Request
    client = Endpoint(model="m", base_url=sys.argv[1], store=sys.argv[2], concurrency=4, key_variable="MY_KEY")
    asked = [Request(({"role": "user", "content": f"Number {i}?"},)) for i in range(40)]
    print(sum(a.value for a in client.ask(asked, parse=int)))
"""


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle_and_run_again(way, tmp_path):
    """The server answers 15, then holds the rest; the run is killed; the next one asks for those 25 alone."""
    hold = threading.Event()

    def answer(received, n):
        if n > 15:
            hold.wait(30)
        return echo(received, n)

    with ScriptedServer(answer) as server:
        command = [sys.executable, "-c", textwrap.dedent(SCRIPT), server.url, str(tmp_path / "store")]
        environment = os.environ | {"MY_KEY": "sk-very-secret", "PYTHONPATH": str(ROOT)}
        listens = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731  (a job in the background ignores it)
        run = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=listens
        )
        try:
            wait_for(lambda: len(server.received) == 19 and len(lines(tmp_path)) == 15)
        finally:
            run.send_signal(way)
            _, said = run.communicate(timeout=90)  # at the latest when the server lets the held ones go
        assert run.returncode != 0 and b"sk-very-secret" not in said
        before = Counter(server.prompts)
        stored = {f"Number {line['text']}?" for line in lines(tmp_path)}
        assert len(before) == 19 and len(stored) == 15
        with open(next((tmp_path / "store").iterdir()), "ab") as file:  # what a kill inside a write leaves behind
            file.write(b'{"key": "0123456789abcdef", "text": "3')
        hold.set()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and int(done.stdout) == sum(range(40)), done.stderr
        after = Counter(server.prompts)
        assert {p for p, n in after.items() if n == 2} == {*before} - stored  # the four under way: never stored
        assert {p: after[p] for p in stored} == dict.fromkeys(stored, 1) and len(after) == 40


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def test_two_processes_share_a_store(tmp_path):
    with ScriptedServer(lambda r, n: Raw(body=completion(echo(r, n)), delay=0.01)) as server:
        command = [sys.executable, "-c", textwrap.dedent(SCRIPT), server.url, str(tmp_path / "store")]
        environment = os.environ | {"MY_KEY": "sk-1", "PYTHONPATH": str(ROOT)}
        runs = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(2)]
        assert [int(run.communicate(timeout=60)[0]) for run in runs] == [sum(range(40))] * 2
        n = len(server.received)
        endpoint(server, tmp_path).ask([ask_for(i) for i in range(40)], parse=number)
        assert len(server.received) == n


def test_the_key_is_sent_and_written_nowhere(tmp_path, monkeypatch, capfd, caplog):
    """Not even when the server repeats it: in an answer, in an error, in a reply that cannot be read."""
    caplog.set_level("DEBUG")
    key = "sk-very-secret"
    monkeypatch.setenv("MY_KEY", f" {key}\n")
    monkeypatch.setenv("HF_TOKEN", "hf_saved")

    def answer(received, n):
        said = received.headers["authorization"]
        bad = {"1": Raw(400, json.dumps({"error": f"who is {said}"})), "2": Raw(500, said), "3": Raw(200, said)}
        return bad.get(echo(received, n), f"0 {said}")

    with ScriptedServer(answer) as server:
        client = endpoint(server, tmp_path, key_variable="MY_KEY", tries=2, concurrency=1)
        answers = client.ask([ask_for(i) for i in (0, 1, 2, 3)], parse=str)
        assert {r.headers["authorization"] for r in server.received} == {f"Bearer {key}"}
    assert answers[0].value == "0 Bearer ***" and answers[1].status == "400 Bad Request: who is Bearer ***"
    with ScriptedServer(lambda r, n: Raw(401, r.headers["authorization"])) as server:
        with pytest.raises(EndpointDown) as raised:
            endpoint(server, tmp_path, key_variable="MY_KEY").ask([ask_for(9)], parse=str)
    seen = [repr(client), repr(answers), str(raised.value), *capfd.readouterr(), caplog.text, str(pickle.dumps(client))]
    seen += [
        str(e) for e in (raised.value.__cause__, raised.value.__context__) if not raised.value.__suppress_context__
    ]
    seen += [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert not [text for text in seen if key in text or "hf_saved" in text]


def test_the_hub_token_goes_to_the_hub_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    with ScriptedServer(echo) as server:
        endpoint(server, tmp_path).ask([ask_for(1)], parse=number)
    assert server.received[0].headers["authorization"] == "Bearer none"
    key = lambda **options: Endpoint(model="m", **options)._key_value()  # noqa: E731
    assert key() == key(base_url="https://router.huggingface.co/v1") == key(base_url="https://x.hf.co") == "hf_mine"
    for url in ("https://huggingface.co.evil.com", "https://evilhuggingface.co", "http://huggingface.co", server.url):
        assert key(base_url=url) is None
    monkeypatch.setenv("OTHER", "sk-other")
    assert key(base_url="https://example.com/v1", key_variable="OTHER") == "sk-other"


@pytest.mark.parametrize(
    "options, value, text",
    [
        ({}, None, "HF_TOKEN has no key"),
        ({}, "sk-1", "not a Hugging Face token"),
        ({"base_url": "http://localhost/v1", "key_variable": "MY_KEY"}, None, "MY_KEY has no key"),
        ({"base_url": "http://localhost/v1", "key_variable": "MY_KEY"}, "two words", "what MY_KEY holds is no key"),
    ],
)
def test_a_missing_key_is_found_before_anything_is_sent(options, value, text, monkeypatch):
    name = options.get("key_variable", "HF_TOKEN")
    monkeypatch.delenv(name, raising=False)
    if value is not None:
        monkeypatch.setenv(name, value)
    with pytest.raises(EndpointDown, match=text) as raised:
        Endpoint(model="m", **options).check()
    assert value is None or value not in str(raised.value)


def test_offline_says_what_to_unset(tmp_path):
    script = "from hf_dsel.endpoint import *; Endpoint(model='m', base_url='http://localhost:9').check()"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert "EndpointDown: model='m' at http://localhost:9: HF_HUB_OFFLINE is set" in found.stderr


@pytest.mark.parametrize(
    "options, text",
    [
        ({"model": " "}, "name of a model"),
        ({"concurrency": 0}, "concurrency=0; it is a whole number, at least 1"),
        ({"tries": 1.5}, "tries=1.5"),
        ({"max_requests": True}, "max_requests=True"),
        ({"timeout": 0}, "timeout=0"),
        ({"timeout": "long"}, "timeout='long'; it is a number"),
        ({"price_in": "cheap", "price_out": 1.0}, "price_in='cheap'; it is a number"),
        ({"base_url": 8000}, "base_url=8000; it is an address"),
        ({"key_variable": 7}, "NAME of an environment variable"),
        ({"price_in": 1.0}, "together"),
        ({"base_url": "localhost:8000"}, "base_url='localhost:8000'"),
        ({"base_url": "http://localhost:99999"}, "base_url="),
        ({"key_variable": "sk-abc-1234"}, "NAME of an environment variable"),
        ({"base_url": "https://me:pass@host/v1"}, "environment variable"),
        ({"base_url": "https://host/v1?key=pass"}, "environment variable"),
    ],
)
def test_wrong_options(options, text):
    with pytest.raises(ValueError, match=text) as raised:
        Endpoint(**{"model": "m", **options})
    assert "pass" not in str(raised.value).replace("password", "") and "sk-abc" not in str(raised.value)
    with pytest.raises(ValueError, match="asks=0"):
        Endpoint(model="m").ask([], parse=str, asks=0)


def test_a_copy_shares_nothing_open(tmp_path):
    with ScriptedServer(echo) as server:
        client = endpoint(server, tmp_path)
        client.ask([ask_for(1)], parse=number)
        copy = pickle.loads(pickle.dumps(client))
        assert copy == client and copy.requests_sent == 1
        copy.ask([ask_for(1), ask_for(2)], parse=number)
        assert client.ask([ask_for(2)], parse=number)[0].value == 2 and len(server.received) == 2


@given(added=st.lists(st.tuples(st.sampled_from("abcd"), st.text(max_size=30)), max_size=12), keep=st.integers(0, 400))
def test_a_store_cut_anywhere_keeps_the_whole_lines(added, keep, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    store = AnswerStore(folder)
    for key, text in added:
        store.add(key, Reply(text, "stop", 1, None), model="m")
    assert all(store.get(key) is not None for key, _ in added)
    for path in folder.iterdir():
        data = path.read_bytes()[:keep]
        path.write_bytes(data)
        whole = [json.loads(line) for line in data.decode().splitlines(keepends=True) if line.endswith("\n")]
        expected = {}
        for entry in whole:
            expected.setdefault(entry["key"], entry["text"])
        again = AnswerStore(folder)
        assert {k: again.get(k).text for k in "abcd" if again.get(k)} == expected
        again.add("new", Reply("1"))
        assert AnswerStore(folder).get("new") == Reply("1") and len(list(folder.iterdir())) == 2


def test_lines_that_are_no_answers_are_passed_over(tmp_path):
    (tmp_path / "x.jsonl").write_text('[1]\nnonsense\n{"key": "a"}\n\n{"key": 1, "text": "t"}\n')
    store = AnswerStore(tmp_path)
    assert store.get("a") is None
    store.add("a", Reply("yes", "stop", 3, 4))
    assert AnswerStore(tmp_path).get("a") == Reply("yes", "stop", 3, 4)


def test_a_rate_limit_that_does_not_end_stops_the_run(tmp_path):
    """No row is at fault, so none becomes null."""
    with ScriptedServer(lambda r, n: echo(r, n) if n <= 5 else Raw(429, "slow down")) as server:
        client = endpoint(server, tmp_path, tries=3, concurrency=1)
        with pytest.raises(
            EndpointDown, match=r"429 Too Many Requests: slow down. 5 of 9 .*4 are left.*lower concurrency"
        ):
            client.ask([ask_for(i) for i in range(9)], parse=number)
    assert len(server.received) == 5 + 3


def test_a_placeholder_key_is_not_cut_out_of_answers(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", "EMPTY")
    with ScriptedServer(lambda r, n: "EMPTY") as server:
        [answer] = endpoint(server, tmp_path, key_variable="MY_KEY").ask([ask_for(1)], parse=str)
    assert answer.value == "EMPTY" and server.received[0].headers["authorization"] == "Bearer EMPTY"


def test_half_a_surrogate_pair(tmp_path):
    """JSON may hold one, UTF-8 and Arrow may not."""
    body = completion("x").replace('"x"', '"x\\ud83d"')
    with ScriptedServer(lambda r, n: Raw(body=body)) as server:
        asked = [ask_for(1), Request(({"role": "user", "content": "half \ud83d"},))]
        good, bad = endpoint(server, tmp_path).ask(asked, parse=str)
    assert good.value == "x?" and bad.value is None and "half a surrogate pair" in bad.status


def test_many_at_a_time(tmp_path):
    """More than one HTTP client holds: nobody is answered until 120 are there."""
    full = threading.Event()

    def answer(received, n):
        if n == 120:
            full.set()
        assert full.wait(60)
        return echo(received, n)

    with ScriptedServer(answer) as server:
        client = endpoint(server, tmp_path, concurrency=120)
        assert [a.value for a in client.ask([ask_for(i) for i in range(200)], parse=number)] == list(range(200))
    assert server.most_at_once == 120 and len(server.received) == 200


def test_a_store_that_cannot_be_made_is_found_before_it_costs(tmp_path):
    (tmp_path / "store").write_text("a file")
    with ScriptedServer(echo) as server:
        with pytest.raises(FileExistsError, match="store"):
            endpoint(server, tmp_path).ask([ask_for(1)], parse=number)
    assert not server.received


@pytest.mark.slow
def test_a_real_server(smollm2_server, smollm2_folder, tmp_path):
    client = Endpoint(model=smollm2_folder, base_url=smollm2_server, store=tmp_path, concurrency=2)
    asked = [Request(({"role": "user", "content": f"Say the word {w}."},), max_tokens=8) for w in ("tea", "rain")]
    answers = client.ask(asked, parse=str)
    assert all(a.status == "ok" and a.text for a in answers) and client.tokens_in > 40 and 2 <= client.tokens_out <= 16
    assert Endpoint(model=smollm2_folder, base_url=smollm2_server, store=tmp_path).ask(asked, parse=str) == answers
