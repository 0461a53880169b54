# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Training DEITA's scorers: a causal language model learns to say the score after the template."""

from __future__ import annotations

import gc
import json
import os
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from hf_dsel.progress import count, is_main_process, say
from hf_dsel.scorer_specs import nearest
from hf_dsel.scorers.deita import DeitaComplexity, DeitaQuality
from hf_dsel.scorers.models import Checkpoint, ModelNotLoaded, has_fast_bfloat16, pick_device, release
from hf_dsel.scorers.score_templates import PLACE, SETTINGS_FILE, LabelNotOneToken, Reading, Scores
from hf_dsel.training.scorer_card import card
from hf_dsel.training.scorer_data import Examples, ScorerData, scorer_data
from hf_dsel.training.scorer_report import ScorerReport, agreements

IGNORED = -100  # a token without a loss
SET_HERE = ("output_dir", "max_length", "packing", "padding_free", "dataset_kwargs", "eval_strategy")


class OutputInTheWay(ValueError):
    """The folder to write to holds something that is not an earlier scorer, or that may not be replaced."""


@dataclass(frozen=True)
class Prepared:
    """Everything before the training: the data in the final template, and how the model's tokenizer reads it."""

    data: ScorerData
    reading: Reading
    training: Dataset
    cut: int

    def __str__(self) -> str:
        """What would be trained and measured, a line each."""
        data, lengths = self.data, sorted(map(len, self.training["input_ids"][:]))
        of_score = Counter(data.training.scores)
        labels = ", ".join(f"{of_score[score]:,} x {score}" for score in sorted(of_score))
        ending = data.template[-20:]
        tokens = " ".join(map(str, self.reading.label_ids))
        lines = [
            ("train on", described(data.training)),
            ("scores", labels),
            ("tokens", f"{sum(lengths):,}; a row has {lengths[len(lengths) // 2]:,} (median) to {lengths[-1]:,}; "
                       f"{self.cut:,} cut to the window of {self.reading.window:,}"),
            ("labels", f"the tokens {tokens} after {ending!r}"),
            ("measure on", f"{described(data.held_out)}, held out"),
        ]  # fmt: skip
        width = max(len(name) for name, _ in lines)
        return "\n".join(f"{name.ljust(width)}  {text}" for name, text in lines)


def described(examples: Examples) -> str:
    """How many, of how many samples."""
    return f"{count(len(examples), 'variant')} of {count(len(set(examples.samples)), 'sample')}"


def train_scorer(
    dataset: Dataset,
    model: str,
    out: str | os.PathLike[str],
    *,
    scores: Scores | None = None,
    template: str | None = None,
    held_out: float = 0.1,
    epochs: float = 3.0,
    learning_rate: float = 2e-5,
    batch_size: int = 8,
    max_length: int | None = None,
    seed: int = 42,
    training: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> ScorerReport:
    """Trains a causal language model to say a text's score, and measures it on samples that it has not seen.

    The loss is the cross-entropy of the one label token after the template, −ln p(score given text); neither the text
    nor an end token is learned. `DeitaComplexity(out)` or `DeitaQuality(out)` reads the expectation over the labels.
    The folder holds the model, its tokenizer, `hf_dsel_scorer.json` (which score, which template) and a README.md with
    the report: Spearman's correlation on the held-out samples, exact scores, and two baselines without a model.

    A tokenizer that joins the white space at the template's end with the label gets the template without it; that is
    said, and recorded in `hf_dsel_scorer.json`. A text longer than the window is cut as the scorers cut it.

    Args:
        dataset: what `evolve` returned; see `hf_dsel.training.scorer_data.scorer_data` for the columns.
        model: a folder or Hub id, usually a base model.
        out: the folder to write.
        scores, template, held_out, seed: see `scorer_data`; the seed is also that of the training.
        epochs, learning_rate, batch_size: of the training; the batch is one device's.
        max_length: tokens; None is the model's window.
        training: more options of `trl.SFTConfig`, such as {"gradient_accumulation_steps": 8}; they win.
        overwrite: replace a scorer that is in `out` already.
        revision, trust_remote_code: as in transformers.

    Raises:
        hf_dsel.training.scorer_data.BadTrainingData: rows that cannot be learned from.
        OutputInTheWay: `out` holds something.
        hf_dsel.scorers.score_templates.LabelNotOneToken: no label can be read after this template.
        ModelNotLoaded: the model cannot be had, or is no causal language model.
        ValueError: an option outside its range.

    Source: DEITA (Liu et al. 2024), Section 2.3: LLaMA-1 7B on the ranked variants of 2,000 samples.
    Differs: the paper gives no settings of this training; these are ours. It does not hold samples out.
    """
    folder = check_output(out, overwrite=overwrite)
    options = check_training(training or {})
    for name, value in (("epochs", epochs), ("learning_rate", learning_rate), ("batch_size", batch_size)):
        if not value > 0:
            raise ValueError(f"{name}={value!r}; it is above 0")
    ready = prepare(
        dataset, model, scores=scores, template=template, held_out=held_out, seed=seed, max_length=max_length,
        revision=revision, trust_remote_code=trust_remote_code,
    )  # fmt: skip
    data = ready.data
    if is_main_process():
        folder.mkdir(parents=True, exist_ok=True)  # settings first: weights without them would be read wrongly
        settings = {"scores": data.scores, "template": data.template, "training": uuid.uuid4().hex}
        (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    config = {
        "num_train_epochs": epochs, "learning_rate": learning_rate, "per_device_train_batch_size": batch_size,
        "seed": seed,
    } | options  # fmt: skip
    release()  # models of other scorers make room, and an earlier one in this folder is not read again
    _fit(ready, model, folder, config, revision=revision, trust_remote_code=trust_remote_code)
    report = ScorerReport(data.scores, len(data.training), len(set(data.training.samples)), 0, 0, ())
    if is_main_process():
        report = measured(data, folder, max_length=max_length, trust_remote_code=trust_remote_code)
        release()
        (folder / "README.md").write_text(card(report, data, model, config), encoding="utf-8")
    return report


def check_output(out: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """The folder, when it may be written to. Only the main process looks: it writes there while others still come.

    Raises:
        OutputInTheWay: it holds something; an earlier scorer may be replaced where that is wished.
    """
    folder = Path(out).expanduser()
    if folder.exists() and not folder.is_dir():
        raise OutputInTheWay(f"out={str(out)!r} is a file; give a folder")
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if there - {SETTINGS_FILE} and is_main_process():  # that file alone is what a stopped training leaves
        if SETTINGS_FILE not in there:
            raise OutputInTheWay(f"out={str(out)!r} is not empty and holds no scorer; give another folder")
        if not overwrite:
            raise OutputInTheWay(f"out={str(out)!r} holds a scorer already; give another folder, or overwrite it")
    return folder


def check_training(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options for `trl.SFTConfig`, by name.

    Raises:
        ValueError: an unknown name, or one that this training sets itself.
    """
    from trl import SFTConfig

    known = [f.name for f in fields(SFTConfig) if f.init]
    for name in options:
        if name in SET_HERE:
            raise ValueError(f"training: {name} is set by the training of scorers; leave it out")
        if name not in known:
            raise ValueError(f"training: trl.SFTConfig has no option {name!r}; {nearest(str(name), known)}")
    return dict(options)


def prepare(
    dataset: Dataset,
    model: str,
    *,
    scores: Scores | None = None,
    template: str | None = None,
    held_out: float = 0.1,
    seed: int = 42,
    max_length: int | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Prepared:
    """The training rows as token ids; the weights are not loaded. Arguments and errors are those of `train_scorer`."""
    data = scorer_data(dataset, scores=scores, template=template, held_out=held_out, seed=seed)
    checkpoint = Checkpoint(model, revision, trust_remote_code)
    if checkpoint.gguf_file is not None:
        raise ModelNotLoaded(f"model={model!r} is a GGUF file, which cannot be trained; give a folder of safetensors")
    checkpoint.check()
    names = checkpoint.config().architectures
    if names and not checkpoint.is_causal():
        raise ModelNotLoaded(f"model={model!r} is a {names[0]}; give a causal language model")
    reading = readable(Reading.of(checkpoint, data.template, max_length))
    if reading.template != data.template:
        say(
            f"the tokenizer of {model} joins the white space at the end of the template with the label; the scorer is "
            f"trained and used on the template without it, which ends {reading.template[-20:]!r}"
        )
        data = replace(data, template=reading.template)
    rows, cut = _token_rows(reading, data.training)
    if cut:
        say(f"{count(cut, 'training text')} cut to the window of {reading.window} tokens")
    return Prepared(data, reading, Dataset.from_dict(rows), cut)


def readable(reading: Reading) -> Reading:
    """The reading itself, or that of the template without white space at its end, after which every label is a token.

    Raises:
        LabelNotOneToken: neither will do; the text says what to change.
    """
    try:
        _ = reading.label_ids
        return reading
    except LabelNotOneToken:
        stripped = replace(reading, template=reading.template.rstrip())
        if stripped.template == reading.template or not PLACE.split(stripped.template)[-1]:  # no ending is left
            raise
        try:
            _ = stripped.label_ids
        except LabelNotOneToken:
            pass
        else:
            return stripped
        raise


def _token_rows(reading: Reading, examples: Examples) -> tuple[dict[str, list[list[int]]], int]:
    """Token ids and labels of the training rows, and how many texts were cut."""
    encoded, cut = reading.encode(examples.texts), 0
    ids: list[list[int]] = []
    labels: list[list[int]] = []
    for text, score, whole in zip(examples.texts, examples.scores, encoded, strict=True):
        kept = whole
        if len(whole) >= reading.window:  # the label needs a place as well
            found, _ = replace(reading, window=reading.window - 1).cut(text)
            if found is None:
                raise ValueError(f"the window of {reading.window} tokens has no room beside the template and the label")
            kept, cut = found, cut + 1
        ids.append([*kept, reading.label_ids[score - 1]])
        labels.append([IGNORED] * len(kept) + [reading.label_ids[score - 1]])  # −ln p(label | text), nothing else
    return {"input_ids": ids, "labels": labels}, cut


def _fit(ready: Prepared, model: str, folder: Path, options: Mapping[str, Any], **loading: Any) -> None:
    """TRL's SFTTrainer on the rows as they are: no chat template, no end token, nothing cut."""
    import torch
    import trl

    device = pick_device(None)
    loaded = {"revision": loading["revision"], "dtype": torch.float32} | dict(options.get("model_init_kwargs") or {})
    defaults = {
        "lr_scheduler_type": "cosine", "warmup_steps": 0.03, "logging_steps": 10, "save_strategy": "no",
        "report_to": "none", "bf16": has_fast_bfloat16(device), "use_cpu": device.type == "cpu",
        "trust_remote_code": loading["trust_remote_code"],
    }  # fmt: skip
    if "gradient_checkpointing" not in options:  # the old name of the same
        defaults["activation_checkpointing"] = device.type != "cpu"
    fixed = {"output_dir": str(folder), "max_length": None, "model_init_kwargs": loaded}
    config = trl.SFTConfig(**{**defaults, **options, **fixed})
    trainer = trl.SFTTrainer(
        model=model, args=config, train_dataset=ready.training, processing_class=ready.reading.tokenizer
    )
    trainer.train()
    trainer.save_model(str(folder))
    accelerator = trainer.accelerator
    accelerator.wait_for_everyone()
    accelerator.free_memory()  # before the process group goes, as in hf_dsel.training.experiment
    del trainer
    gc.collect()
    accelerator.end_training()


def measured(
    data: ScorerData, folder: Path, *, max_length: int | None = None, trust_remote_code: bool = False
) -> ScorerReport:
    """The report of the scorer in a folder on the held-out examples, scored as any user would."""
    held, learned = data.held_out, data.training
    found: list[float | None] = []
    if len(held):
        scorer = (DeitaComplexity if data.scores == "complexity" else DeitaQuality)(
            str(folder), max_length=max_length, trust_remote_code=trust_remote_code
        )
        batch = {"prompt": [text["instruction"] for text in held.texts]}
        if data.scores == "quality":
            batch["completion"] = [text["response"] for text in held.texts]
        found = scorer(batch)[data.scores]
    scored = [i for i, value in enumerate(found) if value is not None]
    if len(scored) < len(held):
        say(f"{count(len(held) - len(scored), 'held-out row')} could not be scored and are not in the report")
    lines: Any = ()
    if scored:
        held = held.only(scored)
        lines = agreements(
            np.asarray([found[i] for i in scored], np.float64),
            np.asarray(held.scores, np.float64),
            np.asarray([len(t) for t in held.filled(data.template)], np.float64),
            held.samples,
            trained_scores=np.asarray(learned.scores, np.float64),
            trained_lengths=np.asarray([len(t) for t in learned.filled(data.template)], np.float64),
        )
    n_held = len(scored)
    n_samples = len(set(held.samples)) if n_held else 0
    return ScorerReport(data.scores, len(learned), len(set(learned.samples)), n_held, n_samples, tuple(lines))
