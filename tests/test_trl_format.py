"""to_trl: what comes out trains."""

import pytest
from datasets import Dataset, DatasetDict

from hf_dsel import to_trl
from hf_dsel.trl_format import Unreadable


def test_alpaca_becomes_prompt_and_completion():
    pool = Dataset.from_dict({"output": ["3"], "input": ["1 2"], "instruction": ["Add."], "ifd": [0.5]})
    row = to_trl(pool)[0]
    assert row == {
        "ifd": 0.5,
        "prompt": [{"role": "user", "content": "Add.\n1 2"}],
        "completion": [{"role": "assistant", "content": "3"}],
    }


def test_streams_and_other_things():
    pool = Dataset.from_dict({"instruction": ["Hi."], "output": ["Yo."], "n": [1]})
    stream = to_trl(pool.to_iterable_dataset())
    assert list(stream) == list(to_trl(pool)) and stream.features == to_trl(pool).features
    with pytest.raises(TypeError, match="got list"):
        to_trl([{"text": "x"}])


def test_sharegpt_becomes_messages():
    pool = Dataset.from_dict(
        {
            "conversations": [
                [{"from": "system", "value": "S"}, {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]
            ]
        }
    )
    assert to_trl(DatasetDict(train=pool))["train"]["messages"][0] == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yo"},
    ]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]},
        {"prompt": "Hi", "completion": "Yo"},
        {"text": "Hi"},
        {"prompt": "Hi", "chosen": "Yo", "rejected": "No"},
    ],
)
def test_what_trl_takes_is_left_alone(row):
    pool = Dataset.from_list([row])
    assert to_trl(pool) is pool


def test_a_prompt_that_is_said_twice_is_dropped():
    pair = {
        side: [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": side}]
        for side in ("chosen", "rejected")
    }
    assert to_trl(Dataset.from_list([{"prompt": "Hi", **pair}])).column_names == ["chosen", "rejected"]


@pytest.mark.parametrize(
    "row",
    [
        {
            "prompt": "Hi",
            "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}],
            "n": 1,
        },
        {"instruction": "Hi", "output": "Yo", "text": "Below is an instruction ... Hi ... Yo", "n": 1},
    ],
)
def test_text_columns_of_a_second_format_are_dropped(row):
    columns = set(to_trl(Dataset.from_list([row])).column_names)
    assert columns in ({"messages", "n"}, {"prompt", "completion", "n"})


def test_unreadable_rows_are_named():
    pool = Dataset.from_dict({"instruction": ["a", "b"], "output": ["x", None]})
    with pytest.raises(Unreadable, match="1 of 2 rows cannot be converted, first row 1: output is null"):
        to_trl(pool)
    with pytest.raises(Unreadable, match="prompts and no answers"):
        to_trl(Dataset.from_dict({"prompt": ["x"]}))


SFT = [
    {"instruction": "Say hello", "input": "", "output": "hello world"},
    {"conversations": [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "world"}]},
    {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "world"}]},
    {"prompt": "hello", "completion": " world"},
    {"text": "hello world this is a test"},
]


@pytest.mark.parametrize("row", SFT, ids=lambda row: "+".join(row))
def test_sft_trainer_takes_a_selected_subset(row, tiny_qwen2, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    subset = to_trl(Dataset.from_list([row] * 6).select_by("random", k=4))
    args = SFTConfig(
        output_dir=str(tmp_path),
        max_steps=1,
        per_device_train_batch_size=2,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(tiny_qwen2),
        args=args,
        train_dataset=subset,
        processing_class=AutoTokenizer.from_pretrained(tiny_qwen2),
    )
    assert trainer.train().training_loss > 0


def chat(role, text):
    return [{"role": role, "content": text}]


DPO = [
    {"prompt": "hello", "chosen": " world", "rejected": " test"},
    {"prompt": chat("user", "hello"), "chosen": chat("assistant", "world"), "rejected": chat("assistant", "test")},
    {
        "prompt": "hello",
        "chosen": chat("user", "hello") + chat("assistant", "world"),
        "rejected": chat("user", "hello") + chat("assistant", "test"),
    },
]


@pytest.mark.parametrize("row", DPO, ids=["text", "messages", "prompt said twice"])
def test_dpo_trainer_takes_a_selected_subset(row, tiny_qwen2, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    subset = to_trl(Dataset.from_list([row] * 6).select_by("random", k=4))
    args = DPOConfig(
        output_dir=str(tmp_path),
        max_steps=1,
        per_device_train_batch_size=2,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = DPOTrainer(
        AutoModelForCausalLM.from_pretrained(tiny_qwen2),
        args=args,
        train_dataset=subset,
        processing_class=AutoTokenizer.from_pretrained(tiny_qwen2),
    )
    assert trainer.train().training_loss > 0
