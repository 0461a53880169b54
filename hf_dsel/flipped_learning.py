# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Learning which answer of a pair is the chosen one, so that no pair is judged by who has seen it or its mirror."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from hf_dsel.encoder_memory import EncoderMemory
from hf_dsel.flipped_pairs import Numbers, Pairs, Vectors
from hf_dsel.flipped_share import FlippedShare, flipped_share

FORMAT = 1
FOLDS = 5
PENALTIES = (1000.0, 300.0, 100.0, 30.0, 10.0)
FARTHEST = 3.0  # root mean squares; numbers beyond count as if they were there
EMBEDDED = 0.2  # of an embedding's number, the weight beside a statistic: there are many of them
ROUNDS = 80
SETTINGS = {
    "objective": "binary", "learning_rate": 0.05, "num_leaves": 7, "min_data_in_leaf": 20, "feature_fraction": 0.3,
    "lambda_l2": 10.0, "bagging_fraction": 0.7, "bagging_freq": 1, "verbose": -1, "deterministic": True,
    "force_row_wise": True, "seed": 0,
}  # fmt: skip
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear model without a constant, of numbers that change their sign. `scale`, `weights`: float64 (numbers,)."""

    scale: Doubles
    weights: Doubles

    def scores(self, found: Numbers) -> Doubles:
        """Log odds."""
        return np.asarray(_scaled(found, self.scale) @ self.weights)


@dataclass(frozen=True, eq=False)
class Judge:
    """One model: log odds that the chosen answer is the better one."""

    linear: Linear
    trees: Any

    def scores(self, found: Numbers) -> Doubles:
        """s(pair) = w · φ(pair) + (F(pair) − F(mirrored pair)) / 2, so that s(mirrored pair) = −s(pair) exactly."""
        there, back = (np.asarray(self.trees.predict(x, raw_score=True), np.float64) for x in found.orders())
        return self.linear.scores(found) + (there - back) / 2


@dataclass(frozen=True, eq=False)
class LearnedOrder:
    """The judges, one for each part of the pairs, and what they found in the pool that they learned from.

    `scores`: float64 (pairs,), of that pool in the order of `Pairs.order`, each by the judge that has not seen it.
    `longer`, `prefers_longer`: how often the longer answer is the chosen one, and the one that a judge prefers.
    `encoder`: whose vectors they learned from.
    """

    judges: tuple[Judge, ...]
    by_prompt: bool
    share: FlippedShare
    scores: Doubles
    longer: float
    prefers_longer: float
    encoder: EncoderMemory | None = None

    def bare(self) -> LearnedOrder:
        """What the probabilities depend on, without what is only remembered."""
        return replace(self, encoder=None)

    def scores_of(self, pairs: Pairs, vectors: Vectors | None) -> Doubles:
        """The score of each pair by the judge that has not seen it: positive where the labels look right.

        Raises:
            ValueError: vectors of another width than it learned from.
        """
        found, wanted = Numbers.of(pairs, vectors), len(self.judges[0].linear.scale)
        given = found.plain.shape[1] + found.embedded.shape[1]
        if given != wanted:
            raise ValueError(
                f"it learned from {wanted} numbers a pair, and here are {given}: give the embedder that it learned "
                "with, FlippedLabels.load(path, embedder=...)"
            )
        return _crossed(self.judges, found, pairs.parts(len(self.judges), by_prompt=self.by_prompt))


def learn_order(
    pairs: Pairs, vectors: Vectors | None, *, by_prompt: bool, say: Callable[[str], None] = lambda _: None
) -> LearnedOrder:
    """Cross-fitted judges of some pairs.

    A pair's two orders are the two classes. The numbers of the linear model are each other's negative there, so without
    a constant it learns the same from one order as from both; the trees see both. The linear model alone was better
    where embeddings tell (harmlessness), the trees alone where statistics do; their sum was near the better one
    everywhere. The linear penalty is the one of a few under which labels of pairs that were not seen are foretold best.
    """
    order = pairs.order()
    found, parts = Numbers.of(pairs, vectors).take(order), pairs.parts(FOLDS, by_prompt=by_prompt)[order]
    say(f"{FOLDS} judges learn from {len(found):,} pairs which answer is the chosen one")
    seen = [found.take(parts != fold) for fold in range(FOLDS)]
    linear = _linear(found, seen, parts)
    judges = tuple(Judge(one, _trees(part)) for one, part in zip(linear, seen, strict=True))
    scores = _crossed(judges, found, parts)
    size = np.array([len(one) - len(two) for one, two in zip(pairs.chosen, pairs.rejected, strict=True)])[order]
    uneven = size != 0
    longer = float((size > 0)[uneven].mean()) if uneven.any() else 0.5
    prefers = float(((size > 0) == (scores > 0))[uneven].mean()) if uneven.any() else 0.5
    return LearnedOrder(judges, by_prompt, flipped_share(scores), scores, longer, prefers)


def _linear(found: Numbers, seen: Sequence[Numbers], parts: Ints) -> list[Linear]:
    """A linear model for each part, from the others."""
    scales = [_scale(part) for part in seen]
    scaled = [_scaled(part, scale) for part, scale in zip(seen, scales, strict=True)]
    weights = [np.zeros(len(scale)) for scale in scales]
    best: tuple[float, list[Linear]] | None = None
    for penalty in PENALTIES:
        weights = [logistic(x, penalty, start=w) for x, w in zip(scaled, weights, strict=True)]
        models = [Linear(scale, w) for scale, w in zip(scales, weights, strict=True)]
        level = float(-np.logaddexp(0, -_crossed(models, found, parts)).mean())
        if best is None or level > best[0]:
            best = level, models
    assert best is not None
    return best[1]


def _trees(found: Numbers) -> Any:
    import lightgbm

    there, back = found.orders()
    labels = np.repeat([1, 0], len(found))
    return lightgbm.train(SETTINGS, lightgbm.Dataset(np.concatenate([there, back]), labels), ROUNDS)


def logistic(x: Doubles, penalty: float, *, start: Doubles | None = None, most_steps: int = 25) -> Doubles:
    """argmin_w Σ_i log(1 + exp(−x_i · w)) + penalty / 2 · |w|², by Newton steps that are halved until they descend."""
    w = np.zeros(x.shape[1]) if start is None else start
    now = _loss(x, w, penalty)
    for _ in range(most_steps):
        wrong = 1 / (1 + np.exp(np.clip(x @ w, -500, 500)))
        slope = penalty * w - x.T @ wrong
        curve = (x * (wrong * (1 - wrong))[:, None]).T @ x + penalty * np.eye(len(w))
        step = np.linalg.solve(curve, slope)
        while (new := _loss(x, w - step, penalty)) > now and np.abs(step).max() > 1e-12:
            step = step / 2
        w, gained, now = w - step, now - new, new
        if gained <= 1e-9 * len(x):
            break
    return w


def _loss(x: Doubles, w: Doubles, penalty: float) -> float:
    return float(np.logaddexp(0, -(x @ w)).sum() + penalty / 2 * (w @ w))


def _scale(found: Numbers) -> Doubles:
    """Root mean squares; inf for a number that hardly any pair has, which says nothing."""
    values = np.concatenate([found.plain, found.embedded / EMBEDDED], 1)
    return np.where((values != 0).mean(0) >= 0.01, np.maximum(np.sqrt((values**2).mean(0)), 1e-12), np.inf)


def _scaled(found: Numbers, scale: Doubles) -> Doubles:
    return np.clip(np.concatenate([found.plain, found.embedded], 1) / scale, -FARTHEST, FARTHEST)


def _crossed(judges: Sequence[Linear | Judge], found: Numbers, parts: Ints) -> Doubles:
    scores = np.zeros(len(found))
    for fold, judge in enumerate(judges):
        if (parts == fold).any():
            scores[parts == fold] = judge.scores(found.take(parts == fold))
    return scores


def to_bytes(learned: LearnedOrder, **kept: Any) -> bytes:
    """One safetensors file's content; `kept` are options that loading gives back."""
    arrays: dict[str, Any] = {
        "scale": np.stack([judge.linear.scale for judge in learned.judges]),
        "weights": np.stack([judge.linear.weights for judge in learned.judges]),
        "at": learned.share.at, "flipped": learned.share.flipped, "scores": learned.scores,
    }  # fmt: skip
    share = [learned.share.share, learned.share.low, learned.share.high, learned.share.told]
    for i, judge in enumerate(learned.judges):
        arrays[f"trees{i}"] = np.frombuffer(judge.trees.model_to_string().encode(), np.uint8)
    about = {
        "hf_dsel_flipped_labels": FORMAT, "by_prompt": learned.by_prompt, "share": share, "longer": learned.longer,
        "prefers_longer": learned.prefers_longer, "kept": kept,
    }  # fmt: skip
    if learned.encoder is not None:
        arrays["encoder"], about["encoder"] = learned.encoder.vectors, learned.encoder.model
    arrays["about"] = np.frombuffer(json.dumps(about, sort_keys=True).encode(), np.uint8)
    return save({name: np.ascontiguousarray(value) for name, value in arrays.items()})


def from_bytes(content: bytes, name: str) -> tuple[LearnedOrder, dict[str, Any]]:
    """What was learned, and the options that were kept.

    Raises:
        ValueError: the content is something else, or is cut off.
    """
    import lightgbm

    try:
        arrays = load(content)
        about = json.loads(arrays["about"].tobytes())
        if about["hf_dsel_flipped_labels"] != FORMAT:
            raise ValueError(f"{name} has the format {about['hf_dsel_flipped_labels']}; this version reads {FORMAT}")
        judges = []
        for i, (scale, weights) in enumerate(zip(arrays["scale"], arrays["weights"], strict=True)):
            trees = lightgbm.Booster(model_str=arrays[f"trees{i}"].tobytes().decode())
            judges.append(Judge(Linear(scale, weights), trees))
        rate, low, high, told = about["share"]
        share = FlippedShare(rate, low, high, told, arrays["at"], arrays["flipped"])
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{name} is nothing that FlippedLabels.save wrote, or was cut off: {error}") from None
    encoder = EncoderMemory(about["encoder"], arrays["encoder"]) if "encoder" in arrays else None  # not in older files
    rest = about["longer"], about["prefers_longer"], encoder
    return LearnedOrder(tuple(judges), about["by_prompt"], share, arrays["scores"], *rest), about["kept"]
