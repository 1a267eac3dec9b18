import json

import pytest

from facegan.preparation.file_names import (
    check_name,
    find_member_name_problem,
    find_name_problem,
    is_litter,
    plain_name,
    show_name,
)
from facegan.preparation.items import Rejected

NOT_UTF8 = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
LONE_SURROGATE = "a\ud800.jpg"


@pytest.mark.parametrize(
    "name",
    ["a.jpg", "a/b c/d.jpg", "Zoë/皇.jpg", "a..b", "...", "..a/b..", NOT_UTF8, "./a//b/", "C:/x"],
)
def test_names_below_the_root_are_taken(name):
    assert find_name_problem(name) is None
    assert check_name(name) == plain_name(name)


@pytest.mark.parametrize("name", ["a\\b", "..\\a", "C:\\a", "\\\\host\\a", "C:/x", "c:x"])
def test_members_are_held_to_the_rules_of_other_systems(name):
    assert find_name_problem(name) is None
    assert find_member_name_problem(name) is not None


@pytest.mark.parametrize(
    "name, reason",
    [
        ("", "bad_name"),
        ("a\0b", "bad_name"),
        (LONE_SURROGATE, "bad_name"),
        ("/", "outside_tree"),
        ("/etc/passwd", "outside_tree"),
        ("..", "outside_tree"),
        ("../a", "outside_tree"),
        ("a/../b", "outside_tree"),
        ("a/..", "outside_tree"),
    ],
)
def test_other_names_are_refused(name, reason):
    with pytest.raises(Rejected) as caught:
        check_name(name)
    assert caught.value.reason == reason
    if name != LONE_SURROGATE:
        assert find_member_name_problem(name)[0] == reason


def test_names_that_lead_upwards_with_backslashes_are_outside():
    assert find_member_name_problem("a\\..\\..\\b")[0] == "outside_tree"
    assert find_member_name_problem("a\\b")[0] == "bad_name"
    assert find_member_name_problem("D:\\b")[0] == "bad_name"
    assert find_member_name_problem("D:b")[0] == "outside_tree"


def test_plain_names_have_no_empty_parts():
    assert plain_name("./a//b/./c/") == "a/b/c"
    assert plain_name("/") == ""


@pytest.mark.parametrize("part", [".DS_Store", "._a.jpg", "__MACOSX", "Thumbs.db", "thumbs.db"])
def test_litter_is_known(part):
    assert is_litter(part)


@pytest.mark.parametrize("part", ["a.jpg", "_a", "Thumbs.db.jpg", "MACOSX"])
def test_other_names_are_no_litter(part):
    assert not is_litter(part)


@pytest.mark.parametrize(
    "name, shown",
    [("Zoë", "Zoë"), (NOT_UTF8, "caf\\xe9.jpg"), (LONE_SURROGATE, "a\\ud800.jpg")],
)
def test_any_name_can_be_shown(name, shown):
    assert show_name(name) == shown
    json.dumps(show_name(name), ensure_ascii=False).encode("utf-8")
