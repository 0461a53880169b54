"""A bank of 6,000 rows evolves through five datasets as they were released, and each step trains on it (InsBank, 4.3).

    python recipes/insbank/run.py                                                     bank and models go to insbank/
    accelerate launch --config_file zero3.yaml recipes/insbank/run.py                 eight GPUs, as in the paper
    python recipes/insbank/run.py --model_name_or_path Qwen/Qwen2.5-0.5B --size 1000  any option of bank or training

How to train is in sft.yaml, which plain `trl sft` reads too; it lists the same steps as commands. After a kill the same
line goes on: scores are stored, the bank is saved after each update, and a step whose model is there is passed over.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser

import hf_dsel
from hf_dsel.bank_report import report
from hf_dsel.opening import open_dataset
from hf_dsel.progress import is_main_process
from hf_dsel.scorers.models import release

STEPS = [
    "self-instruct=HuggingFaceH4/self_instruct",
    "alpaca=vicgalle/alpaca-gpt4",
    "dolly=databricks/databricks-dolly-15k",
    "sharegpt=Aeala/ShareGPT_Vicuna_unfiltered",
    "wizardlm=WizardLMTeam/WizardLM_evol_instruct_70k",
]


@dataclass
class Evolution:
    """What the bank is made of; as in bank.yaml."""

    steps: list[str] = field(default_factory=lambda: STEPS, metadata={"help": "NAME=DATASET, in order"})
    size: int = field(default=6000, metadata={"help": "rows in the bank"})
    scorer: str = field(default="hkust-nlp/deita-quality-scorer", metadata={"help": "judges quality"})
    embedder: str = field(default="sentence-transformers/all-mpnet-base-v2", metadata={"help": "embeds instructions"})


ours = [] if "--config" in sys.argv else ["--config", str(Path(__file__).with_name("sft.yaml"))]
args, training, model = TrlParser((Evolution, SFTConfig, ModelConfig)).parse_args_and_config([*ours, *sys.argv[1:]])
out = Path(training.output_dir)
folder = out / "bank"
begun = (folder / "bank.json").exists()
bank = hf_dsel.Bank.load(folder, size=args.size) if begun else hf_dsel.Bank(size=args.size)
training.distributed_state.wait_for_everyone()  # all have read it before the first writes

for number, (source, _, path) in enumerate((step.partition("=") for step in args.steps), 1):
    training.output_dir = str(out / f"model-{number}-{source}")
    if Path(training.output_dir, "config.json").exists():
        continue
    scorers = [hf_dsel.DeitaQuality(args.scorer, combine="mean"), hf_dsel.Embed(args.embedder)]
    rounds = bank.update(open_dataset(path), source=source, scorers=scorers)
    if rounds and is_main_process():
        bank.save(folder)
        print(report(bank))
    release()  # the scorers' models make room for the one that is trained
    trainer = SFTTrainer(model.model_name_or_path, args=training, train_dataset=bank.dataset.select_columns("messages"))
    trainer.train()
    trainer.save_model()

if is_main_process():
    bank.figure().savefig(out / "bank.png")
