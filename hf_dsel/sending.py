# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Sending many requests to one server: so many at a time, patient with its faults, within a budget."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from hf_dsel.answers import Reply
from hf_dsel.faults import Fault, fault_of
from hf_dsel.progress import say

if TYPE_CHECKING:
    from hf_dsel.endpoint import Endpoint, Request

LONGEST_BACKOFF = 60.0  # seconds
BUSY = 4  # a 429 without Retry-After is waited out so many times longer, for limits are counted by the minute
LONGEST_RETRY_AFTER = 900.0  # a server that asks for more has closed for now
FAILED_IN_A_ROW = 16  # at least; then the server is taken to be down
FAILED_AT_FIRST = 4  # the same, when it has never answered
A_CLIENT = 100  # connections that one HTTP client holds
SHORTEST_SECRET = 12  # what is shorter is a placeholder such as EMPTY, and may stand in an answer by chance
NO_KEY = "none"  # never empty: without a key the client would send the saved Hub token to any server


class BudgetSpent(RuntimeError):
    """A budget is used up. All answers so far are stored; the text says how many, and what to raise."""


class EndpointDown(RuntimeError):
    """The server cannot be used: not there, or it refuses everyone. The text names it and what to check."""


class Halted(Exception):
    """This request is not to be sent any more."""


def estimated_tokens(request: Request) -> int:
    """Tokens of a prompt, before a server has counted them: UTF-8 bytes / 4, and 4 a message."""
    return sum(len(m["content"].encode(errors="replace")) // 4 + 4 for m in request.messages)


class Sender:
    """One run over a list of requests."""

    def __init__(self, endpoint: Endpoint, key: str | None, *, total: int, settled: int) -> None:
        self.endpoint, self.total, self.settled = endpoint, total, settled
        self._secret = key
        self._stopped: Callable[[], Exception] | None = None  # makes the error that ends the run
        self._hold_until = 0.0
        self._reserved = 0
        self._failed = self._failed_in_a_row = 0
        self._told = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[Any] | None = None

    def run(self, settle: Callable[[Any, str, Request], Awaitable[None]], waiting: Mapping[str, Request]) -> None:
        """Settle every request, some at a time.

        Args:
            settle: called with an HTTP client, a key and its request.
            waiting: the requests by key.

        Raises:
            BudgetSpent, EndpointDown: once the requests under way have ended.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            asyncio.run(self._all(settle, waiting))
        else:
            self._in_a_thread(settle, waiting)
        if self._stopped is not None:
            raise self._stopped() from None

    def _in_a_thread(
        self, settle: Callable[[Any, str, Request], Awaitable[None]], waiting: Mapping[str, Request]
    ) -> None:
        """For callers inside a running loop: a loop of our own, in a thread of its own."""
        raised: list[BaseException] = []

        def work() -> None:
            try:
                asyncio.run(self._all(settle, waiting))
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=work, name="hf_dsel-endpoint", daemon=True)
        thread.start()
        try:
            thread.join()
        except KeyboardInterrupt:
            if self._loop is not None and self._main is not None:
                self._loop.call_soon_threadsafe(self._main.cancel)
            thread.join()
            raise
        if raised:
            raise raised[0]

    async def _all(
        self, settle: Callable[[Any, str, Request], Awaitable[None]], waiting: Mapping[str, Request]
    ) -> None:
        from huggingface_hub import AsyncInferenceClient

        self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
        self._halt, self._freed = asyncio.Event(), asyncio.Condition()
        queue = iter(waiting.items())
        endpoint = self.endpoint
        workers = min(endpoint.concurrency, len(waiting))
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(
                    AsyncInferenceClient(
                        base_url=endpoint.base_url, api_key=self._secret or NO_KEY, timeout=endpoint.timeout
                    )
                )
                for _ in range(0, workers, A_CLIENT)
            ]

            async def work(client: Any) -> None:
                for key, request in queue:
                    try:
                        await settle(client, key, request)
                    except Halted:
                        return
                    except Exception as error:  # a parser's mistake, a full disk: what is under way is still waited for
                        self._end(error)
                        return
                    self.settled += 1

            async with asyncio.TaskGroup() as group:
                for i in range(workers):
                    group.create_task(work(clients[i // A_CLIENT]))

    async def send(self, client: Any, request: Request) -> Reply | str:
        """The server's reply, or why there is none after all tries.

        Raises:
            Halted: the run is over.
        """
        endpoint = self.endpoint
        fault = Fault("later", "not sent")
        for n in range(1, endpoint.tries + 1):
            most = estimated_tokens(request) + (request.max_tokens or 0)
            await self._turn(most)
            try:
                reply = await asyncio.wait_for(self._post(client, request), endpoint.timeout)
            except Exception as error:
                fault = fault_of(error, timeout=endpoint.timeout)
            else:
                self._count(request, reply)
                return reply
            finally:
                self._reserved -= most
                async with self._freed:
                    self._freed.notify_all()
            if fault.kind == "closed" or (fault.kind == "forbidden" and not endpoint.has_answered):
                self._down(fault)
            if fault.kind in ("refused", "forbidden"):
                break
            if (fault.wait or 0) > LONGEST_RETRY_AFTER:
                self._down(fault, f"It asks to come back in {fault.wait:,.0f} s; run again then.")
            if n < endpoint.tries:
                await self._back_off(n, fault)
        return self._gave_up(fault)

    async def _post(self, client: Any, request: Request) -> Reply:
        output = await client.chat_completion(
            list(request.messages),
            model=self.endpoint.model,
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            seed=request.seed,
            extra_body=dict(self.endpoint.extra_body or {}),
        )
        if not output.choices:
            raise ValueError(f"it holds no choice; the server says {getattr(output, 'error', None) or 'nothing more'}")
        choice = output.choices[0]
        text = choice.message.content
        if text is not None and not isinstance(text, str):
            raise ValueError(f"the content is {type(text).__name__}, not text")
        usage = output.usage
        counted = [getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens")]
        tokens = [n if isinstance(n, int) and n >= 0 else None for n in counted]
        return Reply(self._clean(text or "").encode(errors="replace").decode(), choice.finish_reason, *tokens)

    async def _turn(self, most: int) -> None:
        """Wait until this request may be sent, and reserve its tokens."""
        endpoint = self.endpoint
        while True:
            if self._halt.is_set():
                raise Halted
            hold = self._hold_until - asyncio.get_running_loop().time()
            if hold > 0:
                await self._sleep(hold + endpoint.first_wait * random.uniform(0, 0.5))
                continue
            if endpoint.max_requests is not None and endpoint.requests_sent >= endpoint.max_requests:
                self._spent(f"max_requests={endpoint.max_requests:,} is spent", "max_requests")
            limit = endpoint.max_total_tokens
            if limit is not None:
                used = endpoint.tokens_in + endpoint.tokens_out
                if used + most > limit:
                    text = f"max_total_tokens={limit:,} leaves {max(0, limit - used):,}"
                    self._spent(f"{text}, and the next request may take {most:,}", "max_total_tokens")
                if used + self._reserved + most > limit:
                    await self._until_freed(limit, most)
                    continue
            endpoint.requests_sent += 1
            self._reserved += most
            return

    async def _until_freed(self, limit: int, most: int) -> None:
        """Wait until a request under way has ended, for only then is it known what it took."""
        async with self._freed:
            if self.endpoint.tokens_in + self.endpoint.tokens_out + self._reserved + most > limit:
                await self._freed.wait()

    async def _back_off(self, n: int, fault: Fault) -> None:
        """Wait before try n + 1: as long as the server asks, or twice as long as before; with jitter."""
        first = self.endpoint.first_wait * (BUSY if fault.kind == "busy" else 1)
        wait = min(LONGEST_BACKOFF, first * 2 ** (n - 1)) * random.uniform(0.5, 1.5)
        if fault.wait is not None:
            wait = fault.wait + self.endpoint.first_wait * random.uniform(0, 0.5)
        if fault.wait is not None or fault.kind == "busy":  # it concerns every request
            self._hold_until = max(self._hold_until, asyncio.get_running_loop().time() + wait)
        if not self._told:
            self._told = True
            say(f"{self._name()}: {self._clean(fault.reason)}; trying again (try {n} of {self.endpoint.tries})")
        await self._sleep(wait)

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._halt.wait(), seconds)
        except TimeoutError:
            return
        raise Halted

    def _count(self, request: Request, reply: Reply) -> None:
        endpoint = self.endpoint
        endpoint.has_answered = True
        self._failed_in_a_row = 0
        endpoint.tokens_in += estimated_tokens(request) if reply.tokens_in is None else reply.tokens_in
        endpoint.tokens_out += len(reply.text.encode()) // 4 if reply.tokens_out is None else reply.tokens_out

    def _gave_up(self, fault: Fault) -> str:
        """The reason for a row, or the end of the run when it is not this request's fault alone."""
        self._failed_in_a_row += 1
        most = max(FAILED_IN_A_ROW, 2 * self.endpoint.concurrency) if self.endpoint.has_answered else FAILED_AT_FIRST
        many = self._failed_in_a_row >= most
        nothing = fault.kind == "later" and not self.endpoint.has_answered
        if fault.kind in ("unreachable", "busy") or nothing or many:
            self._down(fault, f"{self._failed_in_a_row:,} requests in a row failed for good." if many else "")
        self._failed += 1
        tries = f" ({self.endpoint.tries} tries)" if fault.kind == "later" else ""
        return self._clean(f"{fault.reason}{tries}")

    def _down(self, fault: Fault, more: str = "") -> None:
        endpoint = self.endpoint
        key = f"the key in {endpoint.key_variable}" if self._secret else "whether it wants a key (key_variable=)"
        check = {
            "busy": "your rate limit; lower concurrency, or raise tries or first_wait",
            "unreachable": "that the server runs and base_url is its address",
            "closed": key,
            "forbidden": f"base_url, that the server has this model, and {key}",
            "refused": "the model, max_tokens and extra_body",
            "later": "the server's own log, or raise timeout and tries",
        }[fault.kind]
        text = f"{self._name()}: {self._clean(fault.reason)}. {more}".rstrip()
        self._end(lambda: EndpointDown(f"{text} {self._standing()} Check {check}."))
        raise Halted

    def _spent(self, text: str, option: str) -> None:
        more = f"Raise {option} and run again: stored answers are not asked again."
        self._end(lambda: BudgetSpent(f"{text}. {self._standing()} {more}"))
        raise Halted

    def _end(self, error: Exception | Callable[[], Exception]) -> None:
        """End the run: nothing more is sent; what is under way is waited for, and counted in the error's text."""
        if self._stopped is None:
            self._stopped = (lambda: error) if isinstance(error, Exception) else error
        self._halt.set()

    def _standing(self) -> str:
        answered, left = self.settled - self._failed, self.total - self.settled
        failed = f", {self._failed:,} failed" if self._failed else ""
        return f"{answered:,} of {self.total:,} requests are answered and stored{failed}, {left:,} are left."

    def _name(self) -> str:
        return f"model={self.endpoint.model!r} at {self.endpoint.base_url or 'the Hugging Face router (base_url=None)'}"

    def _clean(self, text: str) -> str:
        """A server's text without the key, which some echo."""
        hide = self._secret is not None and len(self._secret) >= SHORTEST_SECRET
        return text.replace(str(self._secret), "***") if hide else text
