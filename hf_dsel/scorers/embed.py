# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""One vector a row, from a sentence encoder or a causal language model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
from datasets import List, Value

from hf_dsel import rows
from hf_dsel.scorers import options
from hf_dsel.scorers.batching import RowCount, in_halves, micro_batches, padded, tokens_a_batch
from hf_dsel.scorers.models import Checkpoint
from hf_dsel.scorers.pooling import Pooling, SentenceRecipe, pool, read_recipe
from hf_dsel.scorers.texts import Of, instruction_of
from hf_dsel.scorers.windows import CannotRender, pick_template, render, window_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ALGORITHM = 1
Vector = npt.NDArray[np.float32]


@dataclass
class Embed:
    """One vector for each row: of its instruction, its response, or the whole example.

    v = pooling(last hidden states of the text), divided by its Euclidean length unless `normalize=False`.

    Writes `embedding` (`List(Value(store), length=dim)`) and `embedding_status`: "ok", what was cut or left out, or why
    there is no vector. A text longer than the window loses its end, as in sentence-transformers.

    Args:
        model: a sentence encoder or a causal language model: folder, Hub id, or either followed by a `.gguf` file.
        of: "instruction" (the user message; the whole text of a plain-text row), "response", or "example" (the
            conversation in the tokenizer's chat template, or each message and a newline).
        pooling: "mean", "cls", "last", "weighted_mean"; None is what the checkpoint says, else "last" for a causal
            language model and "mean" for an encoder.
        normalize: scale the vectors to length 1.
        prefix: text put before each one, such as "query: "; None is the checkpoint's default prompt, else nothing.
        column: the name of the column; `rejected_` comes in front for the rejected side.
        store: "float16" or "float32" in the column. The pooling is computed in float32.
        turns: for a conversation: "first", "last", or "all", whose vectors are averaged and scaled again. None is
            "first" for an instruction or a response and "all" for an example, where "all" is one text.
        history: put the messages before the user message into an instruction, and before the turn into an example
            with turns="last".
        side: which response of a preference pair.
        revision, trust_remote_code, dtype, device, max_length, batch_tokens: see `CausalLM`.

    Raises:
        ValueError: an option outside its range; a sentence-transformers checkpoint with parts that are not done here.
        hf_dsel.scorers.models.ModelNotLoaded: the model cannot be had.

    Source: QDIT (arXiv 2311.14736) embeds instructions with all-mpnet-base-v2; DEITA (2312.15685) embeds the whole
        conversation with the last token of a causal language model; SGPT (2202.08904) for the weighted mean.
    Differs: the default precision is bfloat16 where the device has it; pass dtype="float32" for the digits of
        sentence-transformers.

    >>> Embed(of="example", pooling="last", store="float32").column
    'embedding'
    """

    model: str = "sentence-transformers/all-mpnet-base-v2"
    _: KW_ONLY
    of: Of = "instruction"
    pooling: Pooling | None = None
    normalize: bool = True
    prefix: str | None = None
    column: str = "embedding"
    store: Literal["float16", "float32"] = "float16"
    turns: rows.Which | None = None
    history: bool = False
    side: rows.Side = "chosen"
    revision: str | None = None
    trust_remote_code: bool = False
    dtype: str | None = None
    device: str | None = None
    max_length: int | None = None
    batch_tokens: int | None = None
    on_rows: Callable[[int], None] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        options.check_choice("of", self.of, get_args(Of))
        options.check_choice("pooling", self.pooling, (*get_args(Pooling), None))
        options.check_choice("store", self.store, ("float16", "float32"))
        options.check_shared(self, turns=(*get_args(rows.Which), None))
        if not self.column:
            raise ValueError("column is empty; give the name of the column to write, such as 'embedding'")

    def __getstate__(self) -> dict[str, Any]:
        return options.config_of(self, ALGORITHM)

    def __setstate__(self, state: dict[str, Any]) -> None:
        options.restore(self, state)

    def settings(self) -> dict[str, Any]:
        """Everything that the vectors depend on, as JSON; the precision as it will be on this machine."""
        return options.settings_of(self, ALGORITHM)

    def features(self) -> dict[str, Any]:
        """The columns that it writes. The width comes from the model's config; no weights are loaded."""
        width = int(self._checkpoint.config().get_text_config().hidden_size)
        return {self._column: List(Value(self.store), length=width), f"{self._column}_status": Value("string")}

    def joined(self, other: Any) -> Self | None:
        """Itself when the other is the same, else None."""
        return self if other == self else None

    def check(self, column_names: Sequence[str]) -> None:
        """Look at the columns and the disk before anything is loaded."""
        options.check_rows(column_names, self.side)
        self._checkpoint.check()

    @property
    def _column(self) -> str:
        return f"rejected_{self.column}" if self.side == "rejected" else self.column

    @property
    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(self.model, self.revision, self.trust_remote_code)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""
        return self._checkpoint.tokenizer()

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """The new columns for a batch of rows, in order."""
        tokenizer = self.tokenizer()
        texts = [self._texts(row, tokenizer) for row in rows.read(batch, side=self.side)]
        wanted = [(i, j) for i, of_row in enumerate(texts) for j, text in enumerate(of_row) if text.reason is None]
        found = self._embed([texts[i][j] for i, j in wanted], [i for i, _ in wanted], len(texts), tokenizer)
        vectors: list[list[Vector]] = [[] for _ in texts]
        for (i, _), vector in zip(wanted, found, strict=True):
            vectors[i].append(vector)
        pairs = [self._row(of_row, mine) for of_row, mine in zip(texts, vectors, strict=True)]
        values = [vector for vector, _ in pairs]
        status = [text for _, text in pairs]
        filled = [vector for vector in values if vector is not None]
        return {
            self._column: np.stack(filled) if filled and len(filled) == len(values) else values,
            f"{self._column}_status": status,
        }

    def _texts(self, row: rows.Row, tokenizer: PreTrainedTokenizerBase) -> list[Text]:
        """What is to be embedded for a row; a text that cannot be has its reason."""
        if row.problem is not None:
            return [Text("", reason=row.problem)]
        if self.of == "example":
            whole = self.turns in (None, "all")
            turns = row.chosen_turns("first" if self.turns == "first" else "last", history=whole or self.history)
            return [self._example(turn, tokenizer) for turn in turns]
        turns = row.chosen_turns(self.turns or "first", history=True)
        if self.of == "response":
            answers = [Text.of(turn.response, "empty response") for turn in turns if turn.response is not None]
            return answers or [Text("", reason="no response")]
        return [
            Text.of(
                turn.plain_prompt.rstrip("\n") if self.history and turn.prompt else instruction_of(turn),
                "empty instruction",
            )
            for turn in turns
        ]

    def _example(self, turn: rows.Turn, tokenizer: PreTrainedTokenizerBase) -> Text:
        if not turn.prompt:
            return Text.of(turn.response, "empty text")
        answer = () if turn.response is None else (rows.Message("assistant", turn.response),)
        template = pick_template(tokenizer, None)
        try:
            text = render(tokenizer, (*turn.prompt, *answer), generation_prompt=False, template=template)
        except CannotRender as error:
            return Text("", reason=str(error))
        return Text(text.rstrip("\n") if template == "plain" else text, special_tokens=template == "plain")

    def _embed(
        self, texts: Sequence[Text], owners: Sequence[int], n_rows: int, tokenizer: PreTrainedTokenizerBase
    ) -> list[Vector]:
        import torch

        count = RowCount(owners, n_rows, self.on_rows)
        if not texts:
            return []
        recipe = self._recipe()
        config = self._checkpoint.config()
        window = window_of(config, tokenizer, self.max_length)
        if self.max_length is None:
            window = min(window, tokenizer.model_max_length, recipe.max_length or window)
        sequences = _tokenise(texts, tokenizer, recipe, window)
        model = self._checkpoint.load("backbone", dtype=self.dtype, device=self.device)
        results: list[Any] = [None] * len(texts)
        pad = tokenizer.pad_token_id or 0
        extra = {"use_cache": False} if self._checkpoint.is_causal() else {}
        how: Pooling = recipe.pooling or "mean"

        def run(group: list[int]) -> list[Vector]:
            ids, mask = padded([sequences[i] for i in group], model.device, pad=pad)
            return list(pool(model(input_ids=ids, attention_mask=mask, **extra)[0], mask, how).cpu().numpy())

        with torch.inference_mode():
            for group in micro_batches([len(s) for s in sequences], tokens_a_batch(self.batch_tokens, model.device)):
                for i, vector in zip(group, in_halves(run, group, f"{len(sequences[group[0]]):,} tokens"), strict=True):
                    results[i] = vector
                count.done(group)
        return results

    def _recipe(self) -> SentenceRecipe:
        """What the options and the checkpoint say together."""
        config = self._checkpoint.config()
        if config.is_encoder_decoder:
            raise ValueError(
                f"model={self.model!r} is an encoder-decoder; Embed takes encoders and causal language models"
            )
        own = read_recipe(self._checkpoint, pooling=self.pooling)
        usual: Pooling = "last" if self._checkpoint.is_causal() else "mean"
        return replace(own, pooling=own.pooling or usual, prefix=own.prefix if self.prefix is None else self.prefix)

    def _row(self, texts: Sequence[Text], vectors: Sequence[Vector]) -> tuple[npt.NDArray[Any] | None, str]:
        """The row's vector and status, from the vectors of those of its texts that have one."""
        if not vectors:
            return None, "; ".join(dict.fromkeys(str(text.reason) for text in texts))
        vector = vectors[0] if len(vectors) == 1 else np.mean([self._scaled(v) for v in vectors], axis=0)
        stored = self._scaled(vector).astype(self.store)
        if not np.isfinite(stored).all():
            return None, f"the vector is not finite in {self.store}"
        if self.normalize and not stored.any():
            return None, "the vector is zero"
        remarks = []
        for i, text in enumerate(texts, start=1):
            what = f"left out: {text.reason}" if text.reason else text.remark
            if what:
                remarks.append(f"turn {i} of {len(texts)}: {what}" if len(texts) > 1 else what)
        return stored, "; ".join(remarks) or "ok"

    def _scaled(self, vector: Vector) -> Vector:
        length = float(np.linalg.norm(vector))
        return vector / length if self.normalize and length > 0 else vector


@dataclass(slots=True)
class Text:
    """A text to embed, or why there is none."""

    text: str
    special_tokens: bool = True  # a rendered chat template brings its own
    reason: str | None = None
    remark: str | None = None

    @classmethod
    def of(cls, text: str | None, if_empty: str) -> Text:
        """The text, with a reason when there is nothing but white space."""
        return cls(text) if text and text.strip() else cls("", reason=if_empty)


def _tokenise(
    texts: Sequence[Text], tokenizer: PreTrainedTokenizerBase, recipe: SentenceRecipe, window: int
) -> list[list[int]]:
    """The ids of each text, cut at its end to the window; what was cut is noted in the text."""
    result: list[list[int]] = [[]] * len(texts)
    for special in (True, False):
        chosen = [i for i, text in enumerate(texts) if text.special_tokens == special]
        plain = [(recipe.prefix or "") + texts[i].text for i in chosen]
        plain = [text.lower() for text in plain] if recipe.lower_case else plain
        if not plain:
            continue
        found = tokenizer(plain, add_special_tokens=special, verbose=False)["input_ids"]
        for i, text, ids in zip(chosen, plain, found, strict=True):
            if len(ids) > window:
                texts[i].remark = f"text cut by {len(ids) - window} of {len(ids)} tokens"
                ids = tokenizer(text, add_special_tokens=special, truncation=True, max_length=window)["input_ids"]
            result[i] = list(ids)
    return result
