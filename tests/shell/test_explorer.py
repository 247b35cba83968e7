"""That the search of all orders leaves none out, tries none twice, and leads to the same world again; and the model."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import permutations

import pytest

from tests.shell.explorer import Action, Explorer, Redundant
from tests.shell.meeting import Meeting
from tests.shell.model import FIRST_NEW, Failure, File, Model, outcomes
from tests.shell.operations import BY_NAME
from tests.shell.runner import explore, play
from tests.shell.scene import model
from tests.shell.steps import list_steps, open_steps, rename_steps, stat_steps, unlink_steps, write_steps


def schedules(chains: list[list[Action]], limit: int = 10_000) -> list[list[Action]]:
    """All orders that are tried of some chains of actions, of which each has its own order."""
    explorer, found = Explorer(limit), []
    while explorer.more():
        left, taken = [list(chain) for chain in chains], []
        try:
            while enabled := [chain[0] for chain in left if chain]:
                action = explorer.choose(enabled)
                taken.append(action)
                for chain in left:
                    if chain and chain[0] is action:
                        del chain[0]
        except Redundant:
            continue
        found.append(taken)
    assert explorer.exhausted
    return found


def chain(kind: str, name: str, length: int, *, looks: bool = False) -> list[Action]:
    return [Action(kind, f"{name}{index}", looks) for index in range(length)]


def test_all_orders_of_what_depends_on_each_other_are_tried_once() -> None:
    found = schedules([chain("reach", "a", 3), chain("reach", "b", 2), chain("reach", "c", 1)])
    assert len(found) == 60  # 6! / 3! 2! 1!
    assert len({tuple(order) for order in found}) == 60


def test_of_what_is_independent_one_order_is_tried() -> None:
    assert len(schedules([chain("apply", "a", 2, looks=True), chain("apply", "b", 3, looks=True)])) == 1
    assert len(schedules([chain("apply", "a", 1), chain("reach", "b", 4)])) == 1


def test_an_order_that_is_left_out_is_equal_to_one_that_is_tried() -> None:
    """Each order of five actions becomes one of those that are tried by exchanging neighbours that are independent."""
    chains = [chain("apply", "a", 2), [*chain("reach", "b", 1), *chain("apply", "b", 2, looks=True)]]
    tried = {tuple(order) for order in schedules(chains)}
    actions = [action for each in chains for action in each]
    for order in permutations(actions):
        if all([action for action in order if action in each] == each for each in chains):
            assert tried & _equal_to(order, chains), order


def _equal_to(order: tuple[Action, ...], chains: list[list[Action]]) -> set[tuple[Action, ...]]:
    found, waiting = {order}, [order]
    while waiting:
        at = waiting.pop()
        for index in range(len(at) - 1):
            one, two = at[index], at[index + 1]
            if one.is_independent_of(two) and not any(one in each and two in each for each in chains):
                other = (*at[:index], two, one, *at[index + 2 :])
                if other not in found:
                    found.add(other)
                    waiting.append(other)
    return found


def test_a_schedule_leads_to_the_same_world_again() -> None:
    meeting = Meeting((BY_NAME["stat f"], BY_NAME["rename f to n"]))
    report = explore(meeting, 50)
    assert report.tried > 10
    for verdict in report.wrong[:3]:
        again = play([verdict.schedule], meeting)
        assert (again.problems, again.schedule) == (verdict.problems, verdict.schedule)


def test_a_wrong_answer_is_found_and_told() -> None:
    """The test of all orders fails if the model is another one: here one in which nothing is ever removed."""
    remove = BY_NAME["unlink f"]
    never = replace(remove, model=list_steps(""))
    report = explore(Meeting((BY_NAME["stat n"], never)), 5)
    assert report.wrong and len(report.wrong) == report.tried
    text = report.text()
    assert "WRONG: stat f: ENOENT" in text and "BEGINS  unlink f" in text and "reaches #" in text


# -- the model --------------------------------------------------------------------------------------------------------


def found(results: list[object], *steps: object) -> None:
    seen = {outcome.results for outcome in outcomes(model(("a:f", "b:f")), steps)}  # type: ignore[arg-type]
    assert seen == set(results)


def test_two_appends_leave_both_behind() -> None:
    states = outcomes(model(("a:f", "b:f")), [write_steps("a:f", b"1", None), write_steps("b:f", b"2", None)])
    assert {outcome.state.files[1].data for outcome in states} == {b"old!12", b"old!21"}


def test_who_comes_second_finds_it_done() -> None:
    found([(None, Failure(2)), (Failure(2), None)], unlink_steps("f"), unlink_steps("f"))
    found([("opened", Failure(17)), (Failure(17), "opened")], *[open_steps("n", os.O_CREAT | os.O_EXCL, "x")] * 2)


def test_a_file_may_lose_its_name_between_the_walk_and_the_look() -> None:
    regular = model(()).files[1].kind
    before, after = (1, regular, 4, 2), (1, regular, 4, 1)
    found([(before, None), (after, None), (Failure(2), None)], stat_steps("f"), unlink_steps("f"))


def test_what_had_ended_comes_first() -> None:
    start = model(())
    (outcome,) = outcomes(start, [rename_steps("f", "n"), stat_steps("f")], [(0, 1)])
    assert outcome.results == (None, Failure(2))
    assert start.has("f"), "the model that is begun with is left as it was"


def test_new_files_have_no_number_that_is_known() -> None:
    start = Model()
    assert start.add("n", File(0o100000)) == FIRST_NEW
    assert start.tree() == {"n": (0, b"", 1)}


@pytest.mark.parametrize("name", ["rename f to v", "rename v to f"])
def test_the_place_of_a_file_is_taken(name: str) -> None:
    (outcome,) = outcomes(model(()), [BY_NAME[name].model])
    tree = outcome.state.tree()
    assert ("f" in tree) != ("v" in tree) and tree["g"][2] == (2 if name == "rename f to v" else 1)
