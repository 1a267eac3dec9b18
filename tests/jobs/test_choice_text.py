import pytest

from facegan.errors import ConfigError
from facegan.jobs.choice_text import find_layers, parse_decimals, parse_numbers, split_layers


def test_numbers_and_ranges_keep_their_order():
    assert parse_numbers("17", "seeds") == (17,)
    assert parse_numbers("9, 3,20-23 ,3", "seeds") == (9, 3, 20, 21, 22, 23, 3)
    assert parse_numbers("4-4,0007", "seeds") == (4, 7)


@pytest.mark.parametrize("text", ["", "a", "-3", "1,,2", "1,", "5-3", "1.5", "1-2-3", "٣", "1 2"])
def test_other_texts_are_no_numbers(text):
    with pytest.raises(ConfigError, match="seeds must be whole numbers from 0 on.*; got '"):
        parse_numbers(text, "seeds")


def test_numbers_are_not_too_many():
    assert len(parse_numbers("0-999998,7", "seeds")) == 1_000_000
    for text in ("0-1000000", "0-999999,7", "0-9999999999"):
        with pytest.raises(ConfigError, match="at most 1000000 numbers"):
            parse_numbers(text, "seeds")


def test_decimals_may_be_negative():
    assert parse_decimals("-0.5,0, 1", "truncations") == (-0.5, 0.0, 1.0)
    for text in ("", "a", "1,", "nan", "inf"):
        with pytest.raises(ConfigError, match="truncations must be numbers, as -0.5,0,1; got"):
            parse_decimals(text, "truncations")


def test_words_are_the_layers_of_resolutions():
    # At 1024 px: 4 and 8 px, 16 and 32, 64 to 1024.
    assert find_layers("coarse", 18) == tuple(range(4))
    assert find_layers("middle", 18) == tuple(range(4, 8))
    assert find_layers("fine", 18) == tuple(range(8, 18))
    assert find_layers("middle,1", 6) == (1, 4, 5)
    assert find_layers("7, 0-3,2", 8) == (0, 1, 2, 3, 7)
    assert split_layers("fine,2-3") == ["fine", (2, 3)]


def test_layers_beyond_the_bundle_s_are_refused():
    with pytest.raises(ConfigError, match="'0-8' names layer 8, but this bundle's layers are 0-7"):
        find_layers("0-8", 8)
    with pytest.raises(ConfigError, match="'coarse,fine' names layer 8, but this bundle's layers"):
        find_layers("coarse,fine", 8)
    with pytest.raises(ConfigError, match="layers must be coarse, middle, fine, or whole numbers"):
        split_layers("corse")
