# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""A language model behind an OpenAI-compatible server: many requests, each paid for once."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import datasets

from hf_dsel.answers import AnswerStore, Reply
from hf_dsel.progress import bar, count, say
from hf_dsel.sending import BudgetSpent, EndpointDown, Sender, estimated_tokens

__all__ = ["Answer", "BudgetSpent", "Endpoint", "EndpointDown", "Forecast", "Malformed", "Request"]

T = TypeVar("T")
HUB_TOKEN = "HF_TOKEN"
HUB_HOSTS = ("huggingface.co", "huggingface.cloud", "hf.co")
LONGEST_NOTE = 300


class Malformed(ValueError):
    """What a parser raises when an answer is not in the form asked for; the text says what is wrong with it."""


@dataclass(frozen=True)
class Request:
    """One chat request.

    Args:
        messages: `{"role": ..., "content": ...}`, in order.
        max_tokens: most tokens of the answer; None leaves it to the server.
        temperature: 0 is the likeliest answer; None leaves it to the server.
        seed: sent when it is given. Equal requests get one answer between them, so give them different seeds to get
            different samples.
    """

    messages: tuple[dict[str, str], ...]
    max_tokens: int | None = 512
    temperature: float | None = 0.0
    seed: int | None = None

    def again(self, attempt: int, problem: str) -> Request:
        """The request after its answer could not be read: a note says why, and a seed moves on by one each time.

        >>> asked = Request(({"role": "user", "content": "A number?"},), seed=5)
        >>> asked.again(2, "no number in it").messages[0]["content"]
        'A number?\\n\\n(An earlier answer could not be used: no number in it. Keep to the form that is asked for.)'
        """
        short = " ".join(problem.split())[:LONGEST_NOTE].rstrip(". ")
        note = f"\n\n(An earlier answer could not be used: {short}. Keep to the form that is asked for.)"
        last = {**self.messages[-1], "content": self.messages[-1]["content"] + note}
        seed = None if self.seed is None else self.seed + attempt - 1
        return replace(self, messages=(*self.messages[:-1], last), seed=seed)


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What became of a request: the parsed value, the text it was read from, and "ok" or why there is no value."""

    value: T | None
    text: str | None
    status: str


@dataclass(frozen=True)
class Forecast:
    """What asking would take: requests to send, tokens of their prompts (estimated), most tokens of the answers, and
    the most it can cost (None without prices). Tries after a failure, or after an answer in a wrong form, are extra.

    >>> print(Forecast(2, 300, 512, None))
    2 requests, about 300 tokens in, at most 512 out
    """

    requests: int
    tokens_in: int
    most_tokens_out: int
    most_cost: float | None

    def __add__(self, other: Forecast) -> Forecast:
        """Both together."""
        cost = None if self.most_cost is None or other.most_cost is None else self.most_cost + other.most_cost
        tokens = self.tokens_in + other.tokens_in, self.most_tokens_out + other.most_tokens_out
        return Forecast(self.requests + other.requests, *tokens, cost)

    def __str__(self) -> str:
        """For a reader."""
        cost = "" if self.most_cost is None else f", cost at most {self.most_cost:,.4f}"
        tokens = f"about {self.tokens_in:,} tokens in, at most {self.most_tokens_out:,} out"
        return f"{count(self.requests, 'request')}, {tokens}{cost}"


@dataclass(kw_only=True)
class Endpoint:
    """A model behind a server: asked with many requests at a time, and never twice for what is stored.

    Every answer is stored the moment it arrives, under a hash of the model, the request and the attempt. A run that was
    killed, stopped by a budget or refused by the server goes on where it was. The server's address is not part of the
    hash: the same model elsewhere continues the work.

    A busy or failing server (408, 425, 429, 5xx, a slow, broken or unreadable reply) is tried again, `tries` times in
    all, after `first_wait`, twice that, and so on up to a minute, each time half as long to half as long again. A 429
    is waited out four times as long, and like a `Retry-After` it holds back every request; a rate limit that does not
    end stops the run, for it is no row's fault. Any other request that fails for good is an `Answer` without a value.
    It is not stored, so a later run tries it again.

    Args:
        model: the model's name on the server; without base_url a Hub id, served by Hugging Face's router.
        base_url: such as "http://localhost:8000/v1"; None is Hugging Face's router.
        key_variable: the environment variable that holds the key. HF_TOKEN is sent to Hugging Face's own hosts alone;
            a server elsewhere gets a key only when another variable is named.
        concurrency: requests under way at a time.
        timeout: seconds for one whole reply. The server may charge for a reply that came too late; it is not counted.
        tries: how often one request is sent before it counts as failed.
        first_wait: seconds before the second try.
        store: folder of the stored answers; None is a folder of the model's own in the `datasets` cache.
        max_requests: requests that this object may send in its life, in one process. Repeated ones count, stored
            answers do not.
        max_total_tokens: tokens, of prompts and answers, that this object may use in its life. A request is only sent
            when its prompt (UTF-8 bytes / 4) and its `max_tokens` still fit.
        price_in, price_out: money for a million tokens of prompts and of answers; with both, progress shows the cost.
        extra_body: more fields for every request, such as {"reasoning_effort": "low"}.

    Raises:
        ValueError: an option outside its range; a base_url with a key in it.
    """

    model: str
    base_url: str | None = None
    key_variable: str = HUB_TOKEN
    concurrency: int = 8
    timeout: float = 120.0
    tries: int = 6
    first_wait: float = 1.0
    store: str | os.PathLike[str] | None = None
    max_requests: int | None = None
    max_total_tokens: int | None = None
    price_in: float | None = None
    price_out: float | None = None
    extra_body: Mapping[str, Any] | None = None
    requests_sent: int = field(default=0, init=False, repr=False, compare=False)
    tokens_in: int = field(default=0, init=False, repr=False, compare=False)
    tokens_out: int = field(default=0, init=False, repr=False, compare=False)
    has_answered: bool = field(default=False, init=False, repr=False, compare=False)
    _answers: AnswerStore | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model.strip():
            raise ValueError(f"model={self.model!r}; it is the name of a model on the server")
        for option in ("concurrency", "tries", "max_requests", "max_total_tokens"):
            value = getattr(self, option)
            if value is not None and (type(value) is not int or value < 1):
                raise ValueError(f"{option}={value!r}; it is a whole number, at least 1")
        for option, least in (("timeout", 0.001), ("first_wait", 0.0), ("price_in", 0.0), ("price_out", 0.0)):
            value = getattr(self, option)
            if value is not None and not (isinstance(value, int | float) and value >= least):
                raise ValueError(f"{option}={value!r}; it is a number, at least {least:g}")
        if (self.price_in is None) != (self.price_out is None):
            raise ValueError("price_in and price_out are given together, for a million tokens each")
        if not re.fullmatch(r"[A-Za-z_]\w*", str(self.key_variable)):  # the text does not repeat it: it may be a key
            raise ValueError("key_variable is the NAME of an environment variable, such as OPENAI_API_KEY, not a key")
        if self.base_url is not None:
            _check_url(self.base_url)

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "_answers"} | {"_answers": None}

    @property
    def cost(self) -> float | None:
        """What the tokens of this object's requests cost so far; None without prices."""
        return self._price(self.tokens_in, self.tokens_out)

    def ask(
        self,
        requests: Sequence[Request],
        *,
        parse: Callable[[str], T],
        asks: int = 3,
        what: str = "requests",
        on_done: Callable[[Sequence[int]], None] | None = None,
    ) -> list[Answer[T]]:
        """Every request's answer, in order; also where a loop is running already (Jupyter).

        Args:
            requests: equal ones are sent once.
            parse: text to value; it raises `Malformed` for an answer in a wrong form. Such a request is sent again with
                a note that says what was wrong (`Request.again`). An empty answer counts as malformed.
            asks: how often a request is sent in all for the sake of its answer's form. After that its value is None,
                and the last text is kept.
            what: what is asked, for the progress bar.
            on_done: called with the positions of the requests that were just settled.

        Raises:
            BudgetSpent: max_requests or max_total_tokens is reached. Requests under way are waited for and stored.
            EndpointDown: the server cannot be reached, or refuses everyone; the text says what to check.
        """
        if asks < 1:
            raise ValueError(f"asks={asks!r}; it is how often a request is sent, at least 1")
        keys = [self._key(request, 1) for request in requests]
        places: dict[str, list[int]] = {}
        for i, key in enumerate(keys):
            places.setdefault(key, []).append(i)
        answers: dict[str, Answer[T]] = {}
        waiting: dict[str, Request] = {}
        store = self._opened()
        store.refresh()
        for key, request in dict(zip(keys, requests, strict=True)).items():
            step = self._step(request, parse, asks)
            if isinstance(step, Answer):
                answers[key] = step
                self.has_answered = True
            else:
                waiting[key] = request
        settled = [i for key in answers for i in places[key]]
        if on_done is not None and settled:
            on_done(settled)
        if waiting:
            self.check()
            store.folder.mkdir(parents=True, exist_ok=True)  # a folder that cannot be made is found before it costs
            before = self.requests_sent
            with bar(total=len(requests), what=what, unit="requests", done=len(settled)) as progress:
                progress.leave = False

                def settle(key: str, answer: Answer[T]) -> None:
                    answers[key] = answer
                    progress.set_postfix_str(self._spent(), refresh=False)
                    progress.update(len(places[key]))
                    if on_done is not None:
                        on_done(places[key])

                sender = Sender(self, self._key_value(), total=len(places), settled=len(answers))
                try:
                    sender.run(partial(self._settle, sender, parse, asks, settle), waiting)
                finally:
                    store.close()
            sent = self.requests_sent - before
            say(f"{what}: {count(len(requests), 'request')}, {sent:,} sent; {self._spent()} so far")
        return [answers[key] for key in keys]

    def forecast(self, requests: Sequence[Request]) -> Forecast:
        """What `ask` would send at most on its first round, without sending anything."""
        store = self._opened()
        store.refresh()
        todo = [r for key, r in {self._key(r, 1): r for r in requests}.items() if store.get(key) is None]
        tokens_in, most_out = sum(map(estimated_tokens, todo)), sum(r.max_tokens or 0 for r in todo)
        return Forecast(len(todo), tokens_in, most_out, self._price(tokens_in, most_out))

    def check(self) -> None:
        """Look at the key's variable and the offline switch, without sending anything.

        Raises:
            EndpointDown: the key is missing or cannot be one; HF_HUB_OFFLINE is set.
        """
        from huggingface_hub import constants

        self._key_value()
        if constants.is_offline_mode():
            raise EndpointDown(f"{self._where()}: HF_HUB_OFFLINE is set, which blocks every server; unset it")

    async def _settle(
        self,
        sender: Sender,
        parse: Callable[[str], T],
        asks: int,
        settle: Callable[[str, Answer[T]], None],
        client: Any,
        key: str,
        request: Request,
    ) -> None:
        """Send a request, and send it again while its answers cannot be read."""
        step = self._step(request, parse, asks)
        while not isinstance(step, Answer):
            attempt, asked, last_text = step
            reply = await sender.send(client, asked)
            if not isinstance(reply, Reply):
                step = Answer(None, last_text, reply)
                break
            self._opened().add(self._key(asked, attempt), reply, model=self.model, attempt=attempt)
            step = self._step(request, parse, asks)
        settle(key, step)

    def _step(
        self, request: Request, parse: Callable[[str], T], asks: int
    ) -> Answer[T] | tuple[int, Request, str | None]:
        """What the stored replies come to: the answer, or which attempt is next, its request, and the last text."""
        text, problem = None, ""
        for attempt in range(1, asks + 1):
            asked = request if attempt == 1 else request.again(attempt, problem)
            reply = self._opened().get(self._key(asked, attempt))
            if reply is None:
                return attempt, asked, text
            text = reply.text
            try:
                if not text.strip():
                    raise Malformed("the answer is empty")
                return Answer(parse(text), text, "ok")
            except Malformed as error:
                cut = f" (it was cut at max_tokens={request.max_tokens})" if reply.finish == "length" else ""
                problem = f"{error}{cut}"
        return Answer(None, text, f"no readable answer in {asks} asked; the last: {problem}")

    def _key(self, request: Request, attempt: int) -> str:
        content = {
            "model": self.model, "messages": request.messages, "max_tokens": request.max_tokens,
            "temperature": request.temperature, "seed": request.seed, "extra_body": dict(self.extra_body or {}),
            "attempt": attempt,
        }  # fmt: skip
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]

    def _opened(self) -> AnswerStore:
        if self._answers is None:
            folder = re.sub(r"[^\w.+-]", "_", self.model)[:100]
            default = Path(datasets.config.HF_DATASETS_CACHE) / "hf_dsel" / "answers" / folder
            self._answers = AnswerStore(default if self.store is None else Path(self.store).expanduser())
        return self._answers

    def _key_value(self) -> str | None:
        """The key from the environment, or None where none is due."""
        key = os.environ.get(self.key_variable, "").strip()
        url = urlsplit(self.base_url or f"https://{HUB_HOSTS[0]}")
        hub = url.scheme == "https" and any(f".{url.hostname}".endswith(f".{host}") for host in HUB_HOSTS)
        if self.key_variable == HUB_TOKEN and not hub:
            return None
        if not key and (self.base_url is None or self.key_variable != HUB_TOKEN):
            raise EndpointDown(f"{self._where()}: the environment variable {self.key_variable} has no key; set it")
        if not re.fullmatch(r"[!-~]*", key):
            raise EndpointDown(
                f"{self._where()}: what {self.key_variable} holds is no key: spaces or non-ASCII letters"
            )
        if self.base_url is None and not key.startswith("hf_"):
            raise EndpointDown(
                f"{self._where()}: the key in {self.key_variable} is not a Hugging Face token (hf_...). "
                "Give base_url= for another provider."
            )
        return key or None

    def _where(self) -> str:
        return f"model={self.model!r} at {self.base_url or 'the Hugging Face router (base_url=None)'}"

    def _price(self, tokens_in: int, tokens_out: int) -> float | None:
        if self.price_in is None or self.price_out is None:
            return None
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6

    def _spent(self) -> str:
        tokens = f"{self.tokens_in:,} tokens in, {self.tokens_out:,} out"
        return tokens if self.cost is None else f"{tokens}, cost {self.cost:,.4f}"


def _check_url(url: str) -> None:
    """Raise for what is no plain server address; without repeating it when it may hold a key."""
    try:
        parts = urlsplit(url)
        ok = parts.scheme in ("http", "https") and bool(parts.hostname)
        secret = bool(parts.username or parts.password or parts.query)
        _ = parts.port
    except (ValueError, AttributeError):  # AttributeError: no text
        ok = secret = False
    if secret:
        raise ValueError(
            "base_url holds a user, password or query; put the key into an environment variable (key_variable=)"
        )
    if not ok:
        raise ValueError(f"base_url={url!r}; it is an address such as 'http://localhost:8000/v1'")
