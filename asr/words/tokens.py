"""The output symbols of the acoustic model: ARPAbet phones and characters, the blank first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from asr.errors import DataError

BLANK, BLANK_SYMBOL = 0, "<blank>"  # of CTC: its id in every table, and its symbol
WORD_BORDER = "|"
PHONES = (
    BLANK_SYMBOL,
    *("AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH".split()),
)
CHARACTERS = (BLANK_SYMBOL, WORD_BORDER, "'", *"abcdefghijklmnopqrstuvwxyz")


class TokenTable:
    """Symbols and their ids; id 0 is the CTC blank."""

    def __init__(self, symbols: Sequence[str]) -> None:
        self.symbols = tuple(symbols)
        self.ids = {symbol: index for index, symbol in enumerate(self.symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, symbols: Iterable[str]) -> list[int]:
        """Ids of the symbols; raises DataError naming the first one that is not in the table."""
        try:
            return [self.ids[symbol] for symbol in symbols]
        except KeyError as error:
            raise DataError(f"{error.args[0]!r} is not a token of this model") from None

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Symbols of the ids, blanks and repeats included: CTC's collapsing is not done here."""
        return [self.symbols[index] for index in ids]

    def write(self, path: Path) -> None:
        """Write a line "symbol id" per symbol, as Kaldi and k2 do."""
        path.write_text("".join(f"{symbol} {index}\n" for index, symbol in enumerate(self.symbols)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> TokenTable:
        """Read what `write` wrote.

        Raises:
            DataError: the file is missing, or its lines are not "symbol id" with the ids 0, 1, 2, ... each once.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read as a token table: {error}") from None
        symbols: dict[int, str] = {}
        for number, line in enumerate(lines, start=1):
            symbol, _, index = line.strip().rpartition(" ")
            if not symbol or not index.isdecimal() or int(index) in symbols or symbol in symbols.values():
                raise DataError(f'{path}, line {number}: expected "symbol id", each once, got {line!r}')
            symbols[int(index)] = symbol
        if not symbols or sorted(symbols) != list(range(len(symbols))):
            raise DataError(f"{path}: the ids of {len(symbols)} symbols must be 0 to {len(symbols) - 1} without gaps")
        return cls([symbols[index] for index in range(len(symbols))])
