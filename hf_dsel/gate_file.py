# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""A learned gate as one safetensors file: tables as the places and values that are not 0, trees as LightGBM's text."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from hf_dsel.encoder_memory import EncoderMemory, described
from hf_dsel.gate_learning import Judge, Learned
from hf_dsel.gate_turns import Acquaintance
from hf_dsel.junk_share import JunkKinds
from hf_dsel.learning_input import need_trees
from hf_dsel.lm_memory import LMMemory
from hf_dsel.ops.text_statistics import Familiar
from hf_dsel.scorers.causal_lm import CausalLM
from hf_dsel.scorers.embed import Embed

FORMAT = 2  # 1: six judges, not twelve, and no scores by kind
TABLES = ("trigrams", "words", "pairs")


def to_bytes(learned: Learned, *, embedder: Embed | None = None, lm: CausalLM | None = None, **kept: Any) -> bytes:
    """The file's content. `embedder`, `lm` and `kept` are options that loading gives back."""
    arrays: dict[str, Any] = {
        "weights": learned.junk.weights, "shift": learned.junk.shift, "at": learned.junk.at,
        "ratio": learned.junk.ratio, "scores": learned.scores, "copies": learned.copies,
        "broken_kinds": learned.broken_kinds, "sound": learned.sound,
    }  # fmt: skip
    for i, judge in enumerate(learned.judges):
        for side, familiar in (("asked", judge.known.asked), ("said", judge.known.said)):
            for table in TABLES:
                values = getattr(familiar, table)
                at = np.flatnonzero(values)
                arrays[f"{i}.{side}.{table}.at"] = at.astype(np.int32)
                arrays[f"{i}.{side}.{table}.is"] = values[at]
                arrays[f"{i}.{side}.{table}.size"] = np.asarray([len(values)], np.int64)
        for j, matrix in enumerate(judge.known.maps or ()):
            arrays[f"{i}.map{j}"] = matrix
        arrays[f"{i}.trees"] = np.frombuffer(judge.trees.model_to_string().encode(), np.uint8)
    about = {
        "hf_dsel_gate": FORMAT, "names": learned.names, "rows_used": learned.rows_used, "judges": len(learned.judges),
        "junk": [learned.junk.share, learned.junk.low, learned.junk.high], "kept": kept,
        "embedder": None if embedder is None else described(embedder), "lm": None if lm is None else described(lm),
    }  # fmt: skip
    if learned.encoder is not None:
        arrays["encoder"], about["encoder"] = learned.encoder.vectors, learned.encoder.model
    if learned.lm is not None:
        arrays["lm"], about["lm_name"] = learned.lm.numbers, learned.lm.model
    if learned.common:
        about["common"] = learned.common
    if learned.estimated_on is not None:
        about["estimated_on"] = learned.estimated_on
    arrays["about"] = np.frombuffer(json.dumps(about, sort_keys=True).encode(), np.uint8)
    return save({name: np.ascontiguousarray(value) for name, value in arrays.items()})


def from_bytes(content: bytes, name: str) -> tuple[Learned, dict[str, Any]]:
    """What was learned, and the options that were kept.

    Raises:
        ValueError: the content is no gate, or is cut off.
    """
    need_trees()
    import lightgbm

    try:
        arrays = load(content)
        about = json.loads(arrays["about"].tobytes())
        if about["hf_dsel_gate"] != FORMAT:
            raise ValueError(
                f"{name} is a gate of format {about['hf_dsel_gate']}, and this version reads {FORMAT}: fit it again"
            )
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{name} is no gate that Gate.save wrote, or was cut off: {error}") from None
    judges = []
    for i in range(about["judges"]):
        sides = []
        for side in ("asked", "said"):
            tables = []
            for table in TABLES:
                values = np.zeros(int(arrays[f"{i}.{side}.{table}.size"][0]), np.float32)
                values[arrays[f"{i}.{side}.{table}.at"]] = arrays[f"{i}.{side}.{table}.is"]
                tables.append(values)
            sides.append(Familiar(*tables))
        maps = (arrays[f"{i}.map0"], arrays[f"{i}.map1"]) if f"{i}.map0" in arrays else None
        trees = lightgbm.Booster(model_str=arrays[f"{i}.trees"].tobytes().decode())
        judges.append(Judge(Acquaintance(sides[0], sides[1], maps), trees))
    share, low, high = about["junk"]
    junk = JunkKinds(share, low, high, arrays["weights"], arrays["shift"], arrays["at"], arrays["ratio"])
    parts = arrays["scores"], arrays["copies"], arrays["broken_kinds"], arrays["sound"]
    encoder = EncoderMemory(about["encoder"], arrays["encoder"]) if "encoder" in arrays else None
    said_by = LMMemory(about["lm_name"], arrays["lm"]) if "lm" in arrays else None
    common = tuple((text, n) for text, n in about.get("common", ()))
    learned = Learned(tuple(judges), junk, tuple(about["names"]), about["rows_used"], *parts, encoder, common,
                      about.get("estimated_on"), said_by)  # fmt: skip
    embedder = None if about["embedder"] is None else Embed(**about["embedder"])
    lm = None if about.get("lm") is None else CausalLM(**about["lm"])
    return learned, {"embedder": embedder, "lm": lm, **about["kept"]}
