"""Names of files below a root: which are refused, and how any of them is printed."""

import re

from facegan.preparation.items import Rejected

# Left behind by macOS and Windows; names that begin with a dot are litter too.
_LITTER = frozenset({"__macosx", "thumbs.db", "desktop.ini"})

PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
VIDEO_ENDINGS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")


def is_litter(part: str) -> bool:
    """Whether a file or folder of this name is hidden or was left behind by a system."""
    return part.startswith(".") or part.lower() in _LITTER


def show_name(name: str) -> str:
    """A name that can be printed and written to JSON, whatever bytes it is made of."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return name.encode("utf-8", "backslashreplace").decode()


def plain_name(name: str) -> str:
    """The name without empty parts and parts that are a single dot."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def find_name_problem(name: str) -> tuple[str, str] | None:
    """Reason and sentence when a name cannot be that of a file below a root."""
    if not name or "\0" in name:
        return "bad_name", "Its name is empty or holds a zero byte."
    if name.startswith("/"):
        return "outside_tree", "Its name is an absolute path."
    if ".." in name.split("/"):
        return "outside_tree", "Its name leads upwards with '..'."
    return None


def find_member_name_problem(name: str) -> tuple[str, str] | None:
    """As ``find_name_problem``, for members of zips, which other systems may have named."""
    problem = find_name_problem(name)
    if problem is None and "\\" in name:
        if ".." in name.replace("\\", "/").split("/"):
            return "outside_tree", "Its name leads upwards with '..'."
        return "bad_name", "Its name holds backslashes; pack the zip again with forward slashes."
    if problem is None and re.match(r"[A-Za-z]:", name):
        return "outside_tree", "Its name begins with the letter of a drive."
    return problem


def check_name(name: str) -> str:
    """The plain form of a name that somebody asks for.

    Raises:
        Rejected: It leads out of the root, or no file can be called so.
    """
    problem = find_name_problem(name)
    if problem is None and not name.isascii():
        try:
            name.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            problem = "bad_name", "Its name is not valid Unicode."
    if problem is not None:
        raise Rejected(problem[0], f"{show_name(name)!r} is refused: {problem[1]}")
    return plain_name(name)
