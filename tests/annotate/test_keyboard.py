"""Keys of a terminal: sequences, pastes, keys that are held, and characters of several bytes."""

import os
import pty
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from dal.annotate.keyboard import Keyboard, _keys_of


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (b"1s?", ["1", "s", "?"]),
        (b"\r\n\x7f\x08", ["enter", "enter", "backspace", "backspace"]),
        (b"\x1b[A\x1b[6~\x1bOB", ["up", "pagedown", "down"]),
        (b"\x1b[1;5A\x1b[15~", []),  # Ctrl-Up and F5 mean nothing
        ("é日".encode(), ["é", "日"]),
        (b"\x03\x04\x1a\x1c", ["end", "end", "suspend", "end"]),
        (b"a\xff\xfe\xfd\xfc\xfbb", ["a", "b"]),  # no UTF-8
        (b"\x1bd", []),  # Alt and a key
        (b"\x00\x01\x02", []),
    ],
)
def test_bytes_become_keys(given: bytes, names: list[str]) -> None:
    assert [key.name for key in _keys_of(given)[0]] == names


@pytest.mark.parametrize("given", [b"\x1b", b"\x1b[", b"\x1b[200~1111", "日".encode()[:2], b"\x1b[20"])
def test_beginning_of_a_key_waits_for_the_rest(given: bytes) -> None:
    assert _keys_of(b"1" + given) == ([("1", "")], given)


def test_paste_is_one_key() -> None:
    keys, left = _keys_of(b"\x1b[200~1\r2\x1b[201~3")
    assert ([tuple(key) for key in keys], left) == ([("paste", "1\n2"), ("3", "")], b"")


@pytest.fixture
def keyboard() -> Iterator[tuple[Keyboard, Callable[[str], object]]]:
    master, slave = pty.openpty()
    with Keyboard(slave, slave) as keyboard:
        yield keyboard, lambda text: os.write(master, text.encode())
    os.close(master)
    os.close(slave)


def test_escape_alone_is_a_key_after_a_moment(keyboard: tuple[Keyboard, Callable[[str], object]]) -> None:
    keys, press = keyboard
    press("\x1b")
    assert keys.read(2.0).name == "escape"
    assert keys.read(0.01).name == ""


def test_key_that_is_held_is_one_key(keyboard: tuple[Keyboard, Callable[[str], object]]) -> None:
    keys, press = keyboard
    found: list[str] = []

    def hold() -> None:
        press("1")
        time.sleep(0.4)  # before it repeats
        for _ in range(12):
            press("1")
            time.sleep(0.03)
        time.sleep(0.5)
        press("2")

    held = threading.Thread(target=hold)
    held.start()
    while "2" not in found:
        name = keys.read(5.0).name
        assert name
        found.append(name)
    held.join()
    assert found == ["1", "2"]


def test_key_that_is_pressed_twice_is_two_keys(keyboard: tuple[Keyboard, Callable[[str], object]]) -> None:
    keys, press = keyboard
    press("1")
    assert keys.read(2.0).name == "1"
    time.sleep(0.3)
    press("1")
    assert keys.read(2.0).name == "1"
    press("1")
    press("2")
    assert [keys.read(2.0).name, keys.read(2.0).name] == ["1", "2"]


def test_keys_that_may_be_held_repeat(keyboard: tuple[Keyboard, Callable[[str], object]]) -> None:
    keys, press = keyboard
    press("aaaa")
    assert [keys.read(2.0, may_repeat=lambda name: True).name for _ in range(4)] == ["a"] * 4


def test_paste_that_arrives_slowly_is_no_keys(keyboard: tuple[Keyboard, Callable[[str], object]]) -> None:
    keys, press = keyboard
    press("\x1b[200~11")
    assert keys.read(0.3).name == ""
    press("22\x1b[201~3")
    assert [tuple(keys.read(2.0)), keys.read(2.0).name] == [("paste", "1122"), "3"]


def test_discarded_keys_are_gone(keyboard: tuple[Keyboard, Callable[[str], object]]) -> None:
    keys, press = keyboard
    press("123")
    time.sleep(0.1)
    keys.discard()
    assert keys.read(0.05).name == ""
