"""Inode numbers: the same for the same file whatever happens, and never one for two."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from dfsfs.unc import UncPath
from dfsfs.vfs.names.inodenumbers import FIRST_NUMBER, NUMBER_MASK, SEEDS, InodeNumbers

ROOT, LINK, SHARE = (UncPath.parse(text) for text in ("//dfs/ns", "//dfs/ns/link", "//fs/share"))


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.booleans()), max_size=40))
@settings(max_examples=200, deadline=None)
def test_a_number_that_is_held_is_given_to_nobody_else_and_comes_back(steps: list[tuple[int, int, bool]]) -> None:
    """Files of few ids come and go; an id is given to new files, while old ones are still held or turn up late."""
    held: dict[int, tuple[int, int]] = {}
    numbers = InodeNumbers(held.__contains__)
    current: dict[tuple[int, int], int] = {}
    for file_id, created, is_held in steps:
        file = file_id, created
        if file in current and held.get(current[file]) == file:
            if not is_held:
                del held[current[file]]
            continue
        number = numbers.make_for_file(ROOT, SHARE, *file)
        assert number not in held and FIRST_NUMBER <= number <= NUMBER_MASK
        assert numbers.get(ROOT, SHARE, *file) == number
        held[number] = file
        current[file] = number


def test_an_older_file_of_the_same_id_that_turns_up_late_does_not_change_the_number() -> None:
    """A listing from before the removal of a file is read after its id was given to a file made here."""
    held: set[int] = set()
    numbers = InodeNumbers(held.__contains__)
    number = numbers.make_for_file(ROOT, SHARE, 7, created=2)
    held.add(number)
    late = numbers.make_for_file(ROOT, SHARE, 7, created=1)
    assert late != number
    held.clear()  # the kernel forgets both
    assert numbers.make_for_file(ROOT, SHARE, 7, created=2) == number
    assert numbers.make_for_file(ROOT, SHARE, 7, created=1) == late


def test_a_file_has_the_same_number_after_a_remount_and_another_one_through_each_link() -> None:
    one, two = InodeNumbers(lambda number: False), InodeNumbers(lambda number: False)
    assert one.make_for_file(ROOT, SHARE, 7, 1) == two.make_for_file(ROOT, SHARE, 7, 1)
    assert (
        len({two.make_for_file(root, SHARE, 7, 1) for root in (ROOT, LINK)} | {two.make_for_file(ROOT, LINK, 7, 1)})
        == 3
    )


def test_what_has_only_a_name_has_a_number_of_its_own() -> None:
    taken: set[int] = set()
    numbers = InodeNumbers(taken.__contains__)
    first = numbers.make_for_name(1, "name")
    assert first == numbers.make_for_name(1, "name") != numbers.make_for_name(1, "Name")
    taken.add(first)
    assert numbers.make_for_name(1, "name") != first


def test_what_is_kept_for_each_spelling_of_a_link_is_bounded() -> None:
    numbers = InodeNumbers(lambda number: False)
    share = UncPath(("fs1", "data"))
    roots = [UncPath(("ns1", "dfs", f"link{number}")) for number in range(3 * SEEDS)]
    found = [numbers.make_for_file(root, share, 7, 1) for root in roots]
    assert len(numbers._seeds) <= SEEDS
    assert found == [numbers.make_for_file(root, share, 7, 1) for root in roots]
    assert len(set(found)) == len(found)
