"""Follows the instructions of a pickle without Python's own unpickler.

A pickle can name any function to be called. Here nothing is imported and no attribute is looked up:
a name is looked for in a list that the caller closes, and gives one of the objects of this module.
Calls, new objects and state act on these and on plain values only. Instructions that weights never
need are refused.

Memory and time stay within a small multiple of the pickle's length, whatever lengths, numbers of
remembered objects or nested containers it claims: what a call may look at is counted (``Budget``),
and what may be a key of a dict is told by ``check_key``, because the hash of a small pickle's
nested tuples can take for ever.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable
from typing import IO, Any

from facegan.errors import CheckpointError

# How much of a name out of a file a message repeats.
_LONGEST_IN_MESSAGE = 120
_LONGEST_NAME = 500
_CHANGES = "The file wants to change what builds its tensors; it is refused."
_LONGEST_KEY = 32
_MOST_BITS_OF_KEY = 64


class Fixed:
    """What a pickle is given to build with and cannot change."""

    __slots__ = ()


class Function(Fixed):
    """A name that may be called."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]):
        self.function = function


class Name(Fixed):
    """A name that stands for nothing; called, it gives a record of the call."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str):
        self.module, self.name = module, name


class Record(Fixed):
    """What a pickle wanted to build: its name, the arguments, and the state, none of them used."""

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str, arguments: tuple[Any, ...] = (), state: Any = None):
        self.name, self.arguments, self.state = name, arguments, state

    def build(self, state: Any) -> None:
        """Takes the state that the pickle gives to the object."""
        self.state = state


class Dict(dict[Any, Any]):
    """A dict of a class of its own; attributes, as a state dict's version, are dropped."""

    __slots__ = ()

    @classmethod
    def of(cls, items: Any = ()) -> Dict:
        """Makes one from pairs or another dict, as ``OrderedDict`` is called."""
        made = cls()
        for key, value in items.items() if isinstance(items, dict) else items:
            made[check_key(key)] = value
        return made

    def build(self, state: Any) -> None:
        """Drops the state."""


class Budget:
    """How many items and bytes the calls of a pickle may look at, all together.

    A pickle can hand the same long list to a call again and again, at a few bytes each time. An
    honest one hands over nothing much more often than it is stored.
    """

    def __init__(self, file_bytes: int):
        self._left = 2 * file_bytes + 10_000

    def spend(self, amount: int) -> None:
        """Raises CheckpointError when more is asked for than the file can need."""
        self._left -= amount
        if self._left < 0:
            raise CheckpointError("It uses the same parts over and over, as weights never do.")


def refused_name(module: str, name: str) -> CheckpointError:
    """The error for a name that is not on a list."""
    full = f"{module}.{name}"
    if len(full) > _LONGEST_IN_MESSAGE:
        full = f"{full[:_LONGEST_IN_MESSAGE]}..."
    return CheckpointError(
        f"The file wants to call {full}, which weights do not need; it is refused. Save a plain "
        "state dict from a program that you trust."
    )


def check_key(key: Any) -> Any:
    """Returns what may be a key or a member of a set: a plain value, or a short tuple of such."""
    parts = key if type(key) is tuple else (key,)
    if len(parts) <= _LONGEST_KEY and all(map(_is_plain_key, parts)):
        return key
    raise CheckpointError("A key of a dict is neither a text nor a number.")


def _is_plain_key(key: Any) -> bool:
    if isinstance(key, int):
        return key.bit_length() <= _MOST_BITS_OF_KEY
    return key is None or isinstance(key, str | float | Fixed)


def make_set(items: Iterable[Any] = ()) -> set[Any]:
    """Makes a set, as ``builtins.set`` is called."""
    return {check_key(item) for item in items}


def call(target: Any, arguments: tuple[Any, ...]) -> Any:
    """Calls a name of a pickle.

    Raises:
        CheckpointError: It is none that can be called.
    """
    if isinstance(target, Function):
        return target.function(*arguments)
    if isinstance(target, Name):
        return Record(f"{target.module}.{target.name}", arguments)
    raise CheckpointError("The file wants to call what is no function; it is refused.")


def load_pickle(
    stream: IO[bytes] | Any,
    find_name: Callable[[str, str], Any],
    budget: Budget,
    find_storage: Callable[[Any], Any] | None = None,
) -> Any:
    """Loads the pickle at a stream's position, and leaves the stream behind it.

    Args:
        stream: An open file, ``BytesIO`` or map, whose reading never makes room for more than there
            is to read.
        find_name: Gives what stands for a module and a name, or raises ``refused_name``.
        budget: Of the file.
        find_storage: Gives what stands for a persistent id; without it these are refused.

    Raises:
        CheckpointError: The pickle asks for more than its names allow. Damaged instructions also
            raise ValueError, IndexError, KeyError, TypeError and the like.
    """
    return _Machine(find_name, budget, find_storage).run(stream)


# Instructions that put their argument on the stack.
_LITERALS = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT UNICODE BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8".split()
)
# Instructions that put something new on the stack.
_MAKERS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
_NOTHING = frozenset(("PROTO", "FRAME", "STOP"))


class _Machine:
    def __init__(
        self,
        find_name: Callable[[str, str], Any],
        budget: Budget,
        find_storage: Callable[[Any], Any] | None,
    ):
        self._find_name, self._budget, self._find_storage = find_name, budget, find_storage
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # what lies under each mark
        self._memo: dict[int, Any] = {}  # no list: a pickle may begin with any number
        self._steps = {
            name.removeprefix("_do_").upper(): getattr(self, name)
            for name in dir(self)
            if name.startswith("_do_")
        }
        for other, same in _SAME.items():
            self._steps[other] = self._steps[same]

    def run(self, stream: Any) -> Any:
        for instruction, argument, _ in pickletools.genops(stream):
            name = instruction.name
            if name in _LITERALS:
                self._stack.append(argument)
            elif name in _MAKERS:
                self._stack.append(_MAKERS[name]())
            elif name in self._steps:
                self._steps[name](argument)
            elif name not in _NOTHING:
                raise CheckpointError(
                    f"The file has an instruction {name}, which weights do not need; it is refused."
                )
        if self._below or len(self._stack) != 1:
            raise CheckpointError("Its pickle is damaged.")
        return self._stack[0]

    def _do_string(self, text: str) -> None:
        # Python 2's str, which pickletools gives as Latin-1: a text, or else bytes.
        data = text.encode("latin-1")
        try:
            self._stack.append(data.decode())
        except UnicodeDecodeError:
            self._stack.append(data)

    def _do_mark(self, _: Any) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _do_pop(self, _: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._since_mark()

    def _do_pop_mark(self, _: Any) -> None:
        self._since_mark()

    def _do_dup(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _do_put(self, key: Any) -> None:
        self._memo[int(key)] = self._stack[-1]

    def _do_memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _do_get(self, key: Any) -> None:
        self._stack.append(self._memo[int(key)])

    def _do_tuple(self, _: Any) -> None:
        items = self._since_mark()
        self._stack.append(tuple(items))

    def _do_tuple1(self, _: Any) -> None:
        self._tuple_of_last(1)

    def _do_tuple2(self, _: Any) -> None:
        self._tuple_of_last(2)

    def _do_tuple3(self, _: Any) -> None:
        self._tuple_of_last(3)

    def _tuple_of_last(self, count: int) -> None:
        items = tuple(self._stack.pop() for _ in range(count))
        self._stack.append(items[::-1])

    def _do_list(self, _: Any) -> None:
        items = self._since_mark()
        self._stack.append(items)

    def _do_dict(self, _: Any) -> None:
        items = self._since_mark()
        made: dict[Any, Any] = {}
        self._stack.append(made)
        self._set_items(items)

    def _do_frozenset(self, _: Any) -> None:
        items = self._since_mark()
        self._stack.append(make_set(items))

    def _do_append(self, _: Any) -> None:
        self._extend([self._stack.pop()])

    def _do_appends(self, _: Any) -> None:
        self._extend(self._since_mark())

    def _extend(self, items: list[Any]) -> None:
        last = self._last(list)
        if last is not None:
            last.extend(items)

    def _do_additems(self, _: Any) -> None:
        items = self._since_mark()
        last = self._last(set)
        if last is not None:
            last.update(map(check_key, items))

    def _do_setitem(self, _: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set_items([key, value])

    def _do_setitems(self, _: Any) -> None:
        self._set_items(self._since_mark())

    def _set_items(self, items: list[Any]) -> None:
        into = self._last(dict)
        if into is not None:
            for key, value in zip(items[::2], items[1::2], strict=True):
                into[check_key(key)] = value

    def _last(self, kind: type) -> Any:
        """The container to fill; None for a record, of which items are dropped like all else."""
        last = self._stack[-1]
        if isinstance(last, Record):
            return None
        if not isinstance(last, kind):
            raise CheckpointError(
                "The file wants to change what builds its tensors; it is refused."
            )
        return last

    def _do_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._push_name(module, name)

    def _do_stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise CheckpointError("The file makes up names to call; it is refused.")
        self._push_name(module, name)

    def _push_name(self, module: str, name: str) -> None:
        # Records repeat a name for each call.
        if len(module) + len(name) > _LONGEST_NAME:
            raise refused_name(module, name)
        self._stack.append(self._find_name(module, name))

    def _do_reduce(self, _: Any) -> None:
        arguments, target = self._stack.pop(), self._stack.pop()
        if not isinstance(arguments, tuple):
            raise CheckpointError("Its pickle is damaged.")
        for argument in arguments:
            if isinstance(argument, str | bytes | bytearray | list | tuple | dict | set):
                self._budget.spend(len(argument))
        self._budget.spend(len(arguments))
        self._stack.append(call(target, arguments))

    def _do_build(self, _: Any) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if not isinstance(target, Record | Dict):
            raise CheckpointError(
                "The file wants to change what builds its tensors; it is refused."
            )
        target.build(state)

    def _do_binpersid(self, _: Any) -> None:
        if self._find_storage is None:
            raise CheckpointError("The file has numbers outside of itself; it is refused.")
        self._stack.append(self._find_storage(self._stack.pop()))


# Instructions that do the same in another encoding.
_SAME = {
    "BINSTRING": "STRING",
    "SHORT_BINSTRING": "STRING",
    "BINPUT": "PUT",
    "LONG_BINPUT": "PUT",
    "BINGET": "GET",
    "LONG_BINGET": "GET",
    "NEWOBJ": "REDUCE",
}
