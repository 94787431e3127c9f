"""Writing a trained LSTM language model as the folder that recognition loads, without torch."""

from __future__ import annotations

from pathlib import Path

from asr.lm.lstm import write_lstm_language_model
from asr.models.language import LanguageModelNetwork
from asr.training.language_model import LanguageTrainingOptions, trained_parameters
from asr.training.language_text import EncodedText


def export_language_model(
    network: LanguageModelNetwork, text: EncodedText, folder: Path, options: LanguageTrainingOptions
) -> None:
    """Write words and weights, matrices in 8 bits, and `config.json`."""
    weights = {name: value.detach().float().cpu().numpy() for name, value in network.state_dict().items()}
    about = {
        "size": network.config.size,
        "layers": network.config.layers,
        "parameters": trained_parameters(network),
        "million_words_seen": options.million_words,
    }
    write_lstm_language_model(folder, text.words, network.config.bands, weights, about)
