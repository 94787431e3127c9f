import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import DataError
from asr.words.tokens import BLANK_SYMBOL, CHARACTERS, PHONES, WORD_BORDER, TokenTable


def test_the_two_token_sets():
    assert len(PHONES) == 40 and PHONES[0] == BLANK_SYMBOL and list(PHONES[1:]) == sorted(PHONES[1:])
    assert (
        len(CHARACTERS) == 29
        and CHARACTERS[:3] == (BLANK_SYMBOL, WORD_BORDER, "'")
        and CHARACTERS[3:] == tuple("abcdefghijklmnopqrstuvwxyz")
    )


@given(st.lists(st.integers(0, len(PHONES) - 1)))
def test_ids_survive_decoding_and_encoding(ids):
    table = TokenTable(PHONES)
    assert table.encode(table.decode(ids)) == ids


def test_an_unknown_symbol_is_named():
    with pytest.raises(DataError, match="'QQ'"):
        TokenTable(PHONES).encode(["AA", "QQ"])


@pytest.mark.parametrize("symbols", [PHONES, CHARACTERS])
def test_a_table_survives_its_file(tmp_path, symbols):
    path = tmp_path / "tokens.txt"
    TokenTable(symbols).write(path)
    assert TokenTable.read(path).symbols == symbols
    assert path.read_text().splitlines()[0] == f"{BLANK_SYMBOL} 0"


@pytest.mark.parametrize("content", ["", "a\n", "a 0\nb 2\n", "a 0\na 1\n", "a 0\nb 0\n", "a zero\n", "a -1\n", "\n"])
def test_a_bad_table_is_refused(tmp_path, content):
    path = tmp_path / "tokens.txt"
    path.write_text(content)
    with pytest.raises(DataError, match="tokens.txt"):
        TokenTable.read(path)


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(DataError, match="nowhere.txt"):
        TokenTable.read(tmp_path / "nowhere.txt")
