"""A language model of five words, small enough to list all it can say."""

from __future__ import annotations

from pathlib import Path

from asr.graph.build import arpa_words, build_graph
from asr.lm.folder import DecodingWeights, write_language_model
from asr.words.tokens import PHONES, TokenTable

PHONE_TABLE = TokenTable(PHONES)
# Probabilities and back-off weights as powers of ten. "sea" and "see" sound alike; "cat" is the beginning of "cattle".
ARPA = """\\data\\
ngram 1=8
ngram 2=4

\\1-grams:
-0.9\t</s>
-99\t<s>\t-0.3
-1.0\tcat\t-0.2
-1.5\tcattle\t-0.1
-0.8\tsea\t-0.25
-1.1\tsee\t-0.4
-0.7\ta\t-0.15
-2.0\t<unk>

\\2-grams:
-0.2\ta cat
-0.3\t<s> see
-0.4\tsee a
-0.5\tcat </s>

\\end\\
"""
LEXICON = [("cat", "K AE T"), ("cattle", "K AE T AH L"), ("sea", "S IY"), ("see", "S IY"), ("a", "AH"), ("a", "EY")]
PRONUNCIATIONS = [(word, PHONE_TABLE.encode(phones.split())) for word, phones in LEXICON]
WEIGHTS = DecodingWeights(language_weight=0.7, word_cost=0.3, blank_penalty=0.5, least_confidence=0.0)


def write_small_lm(scratch: Path) -> Path:
    """Build it in this folder and return the language model folder."""
    arpa = scratch / "model.arpa"
    arpa.write_text(ARPA)
    assert set(arpa_words(arpa)) == {word for word, _ in LEXICON}
    graph = build_graph(arpa, PRONUNCIATIONS, len(PHONES), scratch)
    write_language_model(scratch / "lm", graph, PRONUNCIATIONS, PHONE_TABLE, WEIGHTS, {})
    return scratch / "lm"
