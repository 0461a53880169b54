"""On spaCy's own documents, built by hand, so that no trained pipeline is needed."""

import pytest

from hf_dsel.metrics.verb_noun_pairs import verb_noun_pairs

spacy = pytest.importorskip("spacy")


def parse(*tokens):
    """A document from (word, lemma, part of speech, dependency, position of the head)."""
    words, lemmas, pos, deps, heads = zip(*tokens, strict=True)
    return spacy.tokens.Doc(
        spacy.blank("en").vocab, words=list(words), lemmas=list(lemmas), pos=list(pos), deps=list(deps),
        heads=list(heads),
    )  # fmt: skip


WRITE = parse(
    ("Write", "write", "VERB", "ROOT", 0), ("a", "a", "DET", "det", 2), ("Poem", "Poem", "NOUN", "dobj", 0),
    (".", ".", "PUNCT", "punct", 0),
)  # fmt: skip


def test_the_root_verb_and_its_direct_object():
    assert verb_noun_pairs([WRITE]) == [("write", "poem")]


def test_universal_dependencies():
    text = parse(("Lies", "lesen", "VERB", "ROOT", 0), ("Bücher", "Buch", "NOUN", "obj", 0))
    assert verb_noun_pairs([text]) == [("lesen", "buch")]


@pytest.mark.parametrize(
    "tokens",
    [
        [("Go", "go", "VERB", "ROOT", 0), ("home", "home", "ADV", "advmod", 0)],  # no object
        [("Tell", "tell", "VERB", "ROOT", 0), ("me", "I", "PRON", "dobj", 0)],  # a pronoun
        [("Title", "title", "NOUN", "ROOT", 0), ("Poem", "poem", "NOUN", "dobj", 0)],  # no verb
        [("Write", "write", "VERB", "ROOT", 0), ("poem", "poem", "NOUN", "nsubj", 0)],
    ],
)
def test_no_pair(tokens):
    assert verb_noun_pairs([parse(*tokens)]) == [None]


def test_the_first_sentence_that_has_one_decides():
    text = parse(
        ("Here", "here", "ADV", "advmod", 1), ("is", "be", "AUX", "ROOT", 1), ("text", "text", "NOUN", "nsubj", 1),
        ("Sort", "sort", "VERB", "ROOT", 3), ("lists", "list", "NOUN", "dobj", 3),
        ("Add", "add", "VERB", "ROOT", 5), ("numbers", "number", "NOUN", "dobj", 5),
    )  # fmt: skip
    assert verb_noun_pairs([text, WRITE]) == [("sort", "list"), ("write", "poem")]


def test_a_pipeline_without_a_parser_is_refused():
    with pytest.raises(ValueError, match="a pipeline with a parser"):
        verb_noun_pairs(spacy.blank("en").pipe(["Write a poem."]))
