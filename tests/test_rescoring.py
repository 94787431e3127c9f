"""Rescoring: an LSTM that disagrees with the n-grams changes finals, and never what was promised."""

import numpy as np
import pytest
import torch
from small_lm import LEXICON, PHONE_TABLE

from asr.decoding.beam import GraphDecoder
from asr.decoding.rescoring import Rescorer, Rescoring
from asr.errors import ModelError, UsageError
from asr.lm.folder import LanguageModel
from asr.lm.lstm import write_lstm_language_model
from asr.models.language import LanguageConfig, LanguageModelNetwork
from asr.recognizer import Recognizer
from asr.streaming.results import WordSpan

WORDS = ("</s>", "<unk>", *dict.fromkeys(word for word, _ in LEXICON))


def write_model(folder, likes=None, words=WORDS):
    """A network that knows nothing, but for a word that it always likes."""
    torch.manual_seed(0)
    network = LanguageModelNetwork(LanguageConfig((len(words),), (8,), 8))
    with torch.no_grad():
        for weights in network.parameters():
            weights.mul_(0.1)
        if likes:
            network.words.bias[words.index(likes)] = 8.0
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    write_lstm_language_model(folder, words, network.config.bands, weights, {})
    return folder


def frames(phones):
    """Log-probabilities (T, V) of phones said clearly, two frames each with a blank after."""
    rows = []
    for phone in PHONE_TABLE.encode(phones.split()):
        for token in (phone, phone, 0):
            row = np.full(len(PHONE_TABLE), 0.02 / (len(PHONE_TABLE) - 1))
            row[token] = 0.98
            rows.append(row)
    return np.log(np.array(rows, np.float32))


@pytest.fixture
def decoder(small_lm_folder, tmp_path):
    model = LanguageModel.open(small_lm_folder, PHONE_TABLE)

    def make(likes, **options):
        folder = write_model(tmp_path / str(likes), likes)
        options = {"weight": 1.0, "beam": 16.0, "width": 16.0, **options}
        return GraphDecoder(model, rescorer=Rescorer(Rescoring(folder, **options), model.words))

    return make


def texts(words):
    return [word.text for word in words]


@pytest.mark.parametrize("likes", ["see", "sea"])
def test_the_lstm_decides_between_words_that_sound_alike(decoder, likes):
    own = decoder(likes)
    state = own.advance(own.start(), frames("S IY AH K AE T"))
    assert texts(own.best(state)) == ["see", "a", "cat"]
    words, after = own.finish(state)
    assert texts(words) == [likes, "a", "cat"]
    places = [place for word in words for place in (word.start_frame, word.end_frame)]
    assert places == sorted(places) and places[-1] <= len(frames("S IY AH K AE T")) and places[0] == 0
    assert all(word.confidence > 0.9 for word in words)
    assert np.abs(after.context.cell).sum() > 0


def test_what_was_promised_stays(decoder):
    own = decoder("sea")
    state = own.advance(own.start(), frames("S IY AH K AE T"))
    promised = (WordSpan("see", 0, 6, 0.9),)
    assert texts(own.finish(state, promised)[0]) == ["see", "a", "cat"]
    assert texts(own.finish(state, (WordSpan("cattle", 0, 6, 0.9),))[0]) == ["see", "a", "cat"]


def test_memory_of_earlier_utterances_can_be_left_out(decoder):
    alone = decoder("sea", carry=False)
    _, after = alone.finish(alone.advance(alone.start(), frames("S IY")))
    assert not np.abs(after.context.cell).any()


def test_finals_of_a_stream_are_rescored_and_partials_are_not(model_folder, small_lm_folder, speech, tmp_path):
    folder = write_model(tmp_path / "lstm", "sea")
    plain = Recognizer.load(model_folder, lm=small_lm_folder, engine="onnx")
    rescored = Recognizer.load(
        model_folder,
        lm=small_lm_folder,
        engine="onnx",
        rescoring=Rescoring(folder, weight=1.0, beam=12.0, width=12.0),
    )
    pieces = np.array_split(speech, 20)
    before, after = (list(one.stream(pieces)) for one in (plain, rescored))
    assert [r.text for r in before if not r.final] == [r.text for r in after if not r.final]
    committed = [r.committed for r in after if not r.final][-1]
    kept = [r for r in after if not r.final][-1].text.split()[:committed]
    assert after[-1].text.split()[:committed] == kept
    assert rescored.transcribe(speech).text == " ".join(r.text for r in after if r.final)


def test_wrong_use_is_told(model_folder, small_lm_folder, tmp_path):
    with pytest.raises(ModelError, match="knows 0 of the 5 words"):
        other = write_model(tmp_path / "other", words=("</s>", "<unk>", "hund", "katze"))
        Recognizer.load(model_folder, lm=small_lm_folder, rescoring=other)
    with pytest.raises(UsageError, match="rescoring cannot apply"):
        Recognizer.load(model_folder, decoder="greedy", rescoring=other)
    with pytest.raises(ModelError, match="no LSTM language model"):
        Recognizer.load(model_folder, lm=small_lm_folder, rescoring=tmp_path)
    with pytest.raises(UsageError, match="0 to 1"):
        Rescoring(other, weight=2.0)
