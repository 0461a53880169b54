# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What `hf-dsel COMMAND --help` teaches, above the list of flags."""

from __future__ import annotations

TOP = """Choose the best rows of an instruction or preference dataset, and train on them.

  score     add score and embedding columns to a dataset
  gate      how much of a dataset is junk, of which kinds, and what a threshold would drop: look before you select
  select    pick the best rows, and write them where trl sft and trl dpo read them
  describe  every metric of a dataset, beside a subset and random subsets of its size
  push      publish what select wrote on the Hub: rows, record, and a card that shows how they were chosen
  verify    whether published rows are what their record produces
  sft       select and fine-tune in one go: TRL's own YAML with a selection: block
  dpo       the same for preference pairs
  dynamics  how far each row is memorised, from models trained on random subsets; which skill teaches which

  bank     keep one ordered set of the best rows, and feed it each new dataset: init, update, show, export, push, pull

  evolve         have a strong model write and rank variants of some rows: data to train a scorer
  train-scorer   train a DEITA scorer of complexity or quality on them

Start with
  hf-dsel select tatsu-lab/alpaca --strategy random --k 1000 --out alpaca-1k
and see hf-dsel COMMAND --help. Errors show in one line; HF_DSEL_TRACEBACK=1 shows where they come from.
"""

SCORE = """Compute score columns for a dataset and write it as parquet. Scores are kept in shards on the way: after a
kill, the same command goes on where it was. Under torchrun every rank scores its share. OUT/provenance.json says which
scorers made the columns and where the rows are from, for select and push.

Example: the IFD of every response, and an embedding of every instruction
  hf-dsel score tatsu-lab/alpaca --scorer IFD:model=HuggingFaceTB/SmolLM2-135M-Instruct \\
      --scorer Embed:model=sentence-transformers/all-MiniLM-L6-v2 --out alpaca-scored

The same as a file, for --config
  dataset: tatsu-lab/alpaca
  scorers:
    - {name: IFD, model: HuggingFaceTB/SmolLM2-135M-Instruct}
    - {name: Embed, model: sentence-transformers/all-MiniLM-L6-v2}
  out: alpaca-scored
"""

GATE = """How much of a dataset is junk, and of which kinds: answers to other questions, cut, looped, garbled, foreign,
empty. A classifier learns it from the dataset itself, without labels: it tells rows from copies that were broken on
purpose, and judges each row by models that have not seen it. It prints the estimated share with its interval, what
each threshold would keep and drop, and rows by kind with their probability of being sound; --report writes a page with
more of them, so that you decide with your own eyes. It does not see wrong facts. Needs pip install 'hf-dsel[gate]'.

Example: look, then choose among the rest
  hf-dsel gate pool.jsonl --report pool-gate.html --out judged
  hf-dsel gate judged --threshold 0.5 --report half.html     # rows around another threshold; nothing is computed
  hf-dsel select judged --gate 0.5 --strategy random --k 3000 --out subset

Learn once and judge another dataset of the same kind: --save kind.safetensors, and there --gate kind.safetensors.
Without a model: --text-only, which sees answers to other questions less well. Of a preference pair the less sound side
counts, and pairs that look flipped are shown. As a file, for --config: the long names of the flags, with _ for -.
"""

SELECT = """Pick the best rows of a dataset. OUT/train.parquet holds them in pick order, as trl sft and trl dpo read
them, with selection_rank, selection_gain and the scores; OUT/selection.json is the record that replays the choice.

Example: 3,000 rows of Alpaca, good and diverse
  hf-dsel select tatsu-lab/alpaca --strategy qdit --k 3000 --param quality=ifd --param scale=rank \\
      --where 'ifd < 1' --scorer IFD:model=HuggingFaceTB/SmolLM2-135M-Instruct \\
      --scorer Embed:model=sentence-transformers/all-MiniLM-L6-v2 --out alpaca-3k
  trl sft --model_name_or_path Qwen/Qwen2.5-0.5B --dataset_name alpaca-3k --output_dir out

First see what it would take: the same with --dry-run. With --dedup it also shows the largest groups of copies, and
the choice is made among one row of each. Again, from the record: hf-dsel select tatsu-lab/alpaca
--selection alpaca-3k/selection.json --out again. As a file, for --config: the long names of the flags, with _ for -,
params: as a mapping and scorers: as a list.
"""

DESCRIBE = """Print every metric that the columns of a dataset allow: means of the scores, coverage, distances, Vendi
scores, radius, entropies of clusters, diversity of the words. With --subset beside that subset and random subsets of
its size. What is quadratic is computed on a sample when the dataset is large, and then has an interval.

Example: what was selected, beside random rows
  hf-dsel score tatsu-lab/alpaca --scorer Embed:model=sentence-transformers/all-MiniLM-L6-v2 --out scored
  hf-dsel select scored --strategy k_center --k 1000 --out alpaca-1k
  hf-dsel describe scored --subset alpaca-1k

A folder with selection.json stands for those rows of DATASET, so that their embeddings are found there. As a file, for
--config: the long names of the flags.
"""

PUSH = """Publish what hf-dsel select wrote, in one commit: the rows as parquet, hf_dsel.json (the record, and a hash of
each row), pictures, and a card with a table of these rows beside the pool and random rows, and the lines that make them
again. Pushed again, the rows and the generated part are replaced, and what people wrote in the card stays. When the
connection breaks, the repository is as it was: run the same again. The token is that of `hf auth login` or HF_TOKEN.

Example: look first, then publish for yourself alone, then check it
  hf-dsel select tatsu-lab/alpaca --strategy random --k 1000 --out alpaca-1k
  hf-dsel push alpaca-1k me/alpaca-1k --dry-run
  hf-dsel push alpaca-1k me/alpaca-1k
  hf-dsel verify me/alpaca-1k

With --scores-only DIR is a scored dataset, and its scores are published without its rows: one line for each distinct
row, found by a hash of its text, which anyone joins to a copy of the rows (hf-dsel select DATASET --scores-from REPO).
  hf-dsel push scored me/alpaca-ifd --scores-only --source tatsu-lab/alpaca

Scores in the table: give the scored pool, --pool scored, where you selected from one. A pool that is on no Hub: --pool
FILE and --license ID. As a file, for --config: the long names of the flags, with _ for -, and folder and repo.
"""

VERIFY = """Say whether published rows are what their record produces. Each row's hash is compared with the one that was
recorded when it was published; then the source is loaded at the recorded commit, the record's row numbers are applied,
and the rows are compared one by one. The exit status is 0 when they are the same, 1 when not, and the first difference
is printed. It also says whether the strategy could be run again from the start.

Example
  hf-dsel verify me/alpaca-1k
  hf-dsel verify alpaca-1k --source pool.parquet      # a folder that hf-dsel select wrote, from a local file
"""

TRAIN = """Select and train in one go. The file holds TRL's keys for trl {command} and a selection: block.

Example, x.yaml
  model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
  dataset_name: {dataset}          # a Hub id, a local file or a folder
  output_dir: out
  selection:
    strategy: {strategy}
    k: 3000
    seed: 42
    params: {{{params}}}
    scorers:                       # what to compute first; leave out what the dataset has
      - {{name: Embed, model: sentence-transformers/all-MiniLM-L6-v2}}

  hf-dsel {command} --config x.yaml
  hf-dsel {command} --config x.yaml --selection.strategy random --output_dir out-random   # the baseline
  accelerate launch -m hf_dsel {command} --config x.yaml                                  # several GPUs

Other keys of the block: fraction or max_tokens instead of k; where, a list of conditions on columns such as "ifd < 1";
scores_from, published scores to join; gate and dedup, as in select; cache_dir, the folder of the scores; compare: false
leaves the table of numbers out.
Any key of the block can be given as --selection.KEY and a strategy's option as --selection.params.NAME; every flag of
trl {command} works too (trl {command} --help lists them). Flags win over the file. The record of the selection goes to
OUTPUT_DIR/selection.json.

A dynamics: block (true, or learned_at, probe, probe_every, probe_on, gradients, pack_to, map) records what each row did
in training, in OUTPUT_DIR/dynamics; without a selection: block all rows are trained on. Flags: --dynamics.KEY.
"""


EVOLVE = """Have a strong model rewrite some rows of a dataset, harder or better each round, and then rank all variants
of a row from 1 to 6 in one request (DEITA). OUT/train.parquet holds one row for each variant, with its score: what
hf-dsel train-scorer learns from. Every answer is stored at once: after a kill, or when a budget is spent, the same
command asks only for what is missing. The key is read from the environment variable that --key-variable names.

Example: how complex instructions are, from 2,000 rows of Alpaca; first what it would cost
  hf-dsel evolve tatsu-lab/alpaca --scores complexity --k 2000 --model gpt-4.1-mini \\
      --base-url https://api.openai.com/v1 --key-variable OPENAI_API_KEY --price-in 0.4 --price-out 1.6 \\
      --out evolved-complexity --dry-run
  hf-dsel train-scorer evolved-complexity --model Qwen/Qwen2.5-0.5B --out complexity-scorer

Your own prompts: a folder with NAME.txt for each method and rank.txt for the ranking; ours are in
{prompts}

As a file, for --config: the long names of the flags, with _ for -.
"""

TRAIN_SCORER = """Train a causal language model to say the score of a text, on what hf-dsel evolve wrote. OUT is a model
that the scorers DeitaComplexity and DeitaQuality load, with a README.md that tells how well it agrees with the ranking
model on rows that were held out, beside two baselines that read no text.

Example
  hf-dsel train-scorer evolved-complexity --model Qwen/Qwen2.5-0.5B --out complexity-scorer
  hf-dsel score tatsu-lab/alpaca --scorer DeitaComplexity:model=complexity-scorer --out scored
  accelerate launch -m hf_dsel train-scorer evolved-complexity --model M --out DIR         # several GPUs

Your own data: columns text (in the template) and score (1 to 6), with --scores and --template; seed_row tells which
rows are variants of one sample. As a file, for --config: the long names of the flags, with _ for -, and training: as a
mapping of options of trl.SFTConfig.
"""

BANK = """A bank holds the best rows of every dataset it was given, in order, and does not need the datasets again
(InsBank). Each update lets the rows of a new dataset compete with those of the bank.

Example: 6,000 rows, by DEITA's quality and by how far each row is from the others
  hf-dsel bank init my-bank --size 6000
  hf-dsel bank update my-bank tatsu-lab/alpaca
  hf-dsel bank update my-bank databricks/databricks-dolly-15k --source dolly
  hf-dsel bank show my-bank
  hf-dsel bank export my-bank --out best-1k --top 1000
  trl sft --model_name_or_path Qwen/Qwen2.5-0.5B --dataset_name best-1k --output_dir out

See hf-dsel bank VERB --help; the verbs are init, update, show, export, push and pull.
"""

BANK_VERBS = {
    "init": """Make an empty bank. Its settings are fixed from here on. The first b of its rows will be the choice for
any budget b.

Example: rank by IFD instead of DEITA's quality
  hf-dsel bank init my-bank --size 3000 --quality ifd
  hf-dsel bank update my-bank tatsu-lab/alpaca --scorer IFD:model=HuggingFaceTB/SmolLM2-135M-Instruct

As a file, for --config: the long names of the flags, with _ for -. One file can serve all verbs; each reads the
keys it knows.
  size: 3000
  quality: ifd
  scorers:
    - {name: IFD, model: HuggingFaceTB/SmolLM2-135M-Instruct}
""",
    "update": """Let the rows of a dataset compete with the bank's. The columns that the bank reads are computed first
where the dataset lacks them. Rows that the bank has seen are passed over, so an update can be repeated. All or nothing:
stopped at any moment, DIR holds the old bank or the new one, and the same command goes on with the scores there are.

Example
  hf-dsel bank update my-bank databricks/databricks-dolly-15k --source dolly \\
      --scorer Embed:model=sentence-transformers/all-mpnet-base-v2
  hf-dsel bank show my-bank

First see what it would take: the same with --dry-run. Under torchrun every rank scores its share. As a file, for
--config: the long names of the flags, with _ for -, and scorers: as a list.
""",
    "show": """Say what a bank holds: its settings, the rows of each source, what every round did, the best and the
worst tenth beside each other, and the first rows.

Example
  hf-dsel bank show my-bank --rounds --top 20 --picture my-bank.png
""",
    "export": """Write the bank, or its best B rows, where trl sft and trl dpo read them: OUT/train.parquet, best first,
with score, representation, quality, source, source_row and round beside the text.

Example
  hf-dsel bank export my-bank --out best-1k --top 1000
  trl sft --model_name_or_path Qwen/Qwen2.5-0.5B --dataset_name best-1k --output_dir out
""",
    "push": """Publish a bank in one commit: its rows, best first, so that load_dataset(REPO, split="train[:2000]") is
its best 2,000; what the next update needs; and a card with the history. REPO is new, or holds an earlier state of the
same bank: another bank is never replaced. What people wrote in the card stays. The token is that of `hf auth login` or
HF_TOKEN.

Example
  hf-dsel bank update my-bank databricks/databricks-dolly-15k --source dolly
  hf-dsel bank push my-bank me/my-bank --license cc-by-sa-3.0
""",
    "pull": """Fetch a bank from the Hub into a new folder, to look at it, or to update it and push it again.

Example
  hf-dsel bank pull my-bank me/my-bank
  hf-dsel bank update my-bank HuggingFaceTB/smoltalk --name all
  hf-dsel bank push my-bank me/my-bank
""",
}
