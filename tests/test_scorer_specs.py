import pytest

from hf_dsel.scorer_specs import BadSpec, make_scorer, scorer_names, value
from hf_dsel.scorers import IFD, CausalLM, Embed, Length


@pytest.mark.parametrize(
    ("spec", "scorer"),
    [("Length", Length()), ("Length:of=response,unit=words", Length(of="response", unit="words")),
     ("IFD:model=gpt2,turns=last,history=false", IFD("gpt2", turns="last", history=False)),
     ("CausalLM:model=a/b,columns=[nll, ifd],max_length=512", CausalLM("a/b", columns=("nll", "ifd"), max_length=512)),
     ({"name": "Embed", "model": "m", "of": "response"}, Embed("m", of="response")),
     ("Embed:prefix='query: '", Embed(prefix="query: ")), ("Embed:model=./a=b.gguf", Embed("./a=b.gguf")),
     ("hf_dsel.scorers.length.Length:of=example", Length(of="example"))],
)  # fmt: skip
def test_words_become_scorers(spec, scorer):
    assert make_scorer(spec) == scorer


@pytest.mark.parametrize(
    ("spec", "message"),
    [("ifd:model=x", "unknown scorer 'ifd'; .*Known: CausalLM, .*Embed, FlippedLabels, Gate, IFD, Judge"),
     ("Lenth", "did you mean 'Length'"),
     ("Length:off=response", "no option 'off'; did you mean 'of'"), ("IFD:modle=x", "did you mean 'model'"),
     ("IFD:model=x,columns=nll", "no option 'columns'"), ("Length:unit=pages", "unit='pages'.*'chars'"),
     ("Length:response", "'response' in .* is no option; write option=value"), ("IFD", "scorer IFD: .*'model'"),
     ({"model": "x"}, "needs a name"), (3, "got 3"), ("no.such.Thing", "cannot be imported"),
     ("Length:on_rows=3", "no option 'on_rows'")],
)  # fmt: skip
def test_what_is_no_scorer(spec, message):
    with pytest.raises(BadSpec, match=message):
        make_scorer(spec)


def test_values_are_read_as_yaml_and_as_exponents():
    assert [value(t) for t in ("1", "1e-4", "-2E+3", "true", "null", "[a, 1]", "a: b: c", "0.9")] == [
        1, 1e-4, -2000.0, True, None, ["a", 1], "a: b: c", 0.9
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "read"),
    [("5e-1", 0.5), ("1.5e3", 1500.0), (".5e1", 5.0), ("1E+3", 1000.0), ("[1e-3, a]", [1e-3, "a"]),
     ("{a: 2e-5}", {"a": 2e-5}), ("'5e-1'", "5e-1"), ("12345e6", "12345e6"), ("98e1234567", "98e1234567"),
     ("e5", "e5"), ("1e", "1e"), ("0x1e5", 485)],
)  # fmt: skip
def test_exponents_but_no_commits(text, read):
    assert value(text) == read and type(value(text)) is type(read)


def test_every_short_name_is_a_scorer():
    assert {"CausalLM", "Embed", "IFD", "Length", "NLL", "Perplexity"} <= set(scorer_names())
