"""The geometry task: images, derivations, files and the reward function."""

import hashlib
import io
import random

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from uec.rewards.reward_function import load_reward
from uec.tasks.geometry import shapes
from uec.tasks.geometry.data import (
    COLD_START,
    KINDS,
    LEVELS,
    QUESTIONS,
    RL,
    Mix,
    derive,
    draw,
    encode_png,
    problems,
    write_parquet,
    write_solution,
)
from uec.tasks.geometry.reward import score

L_SHAPE = r"w=6 h=8 w*h=48 cut w=2 h=5 w*h=10 diff=38 \boxed{38}"
EMPTY = {shapes.WHITE, shapes.GREY}


def grade(response: str, answer: str = "38", solution: str = L_SHAPE) -> tuple[float, float]:
    parts = score(response, answer, solution=solution, kind="lshape", level=3)
    assert set(parts) == {"accuracy", "answer"}
    return parts["accuracy"], parts["answer"]


def cells(image: Image.Image) -> set[tuple[int, int]]:
    """Return the cells whose middle is coloured, as (column, row)."""
    side = image.width // shapes.CELL
    middle = shapes.CELL // 2
    grid = [(x, y) for x in range(side) for y in range(side)]
    return {(x, y) for x, y in grid if image.getpixel((x * shapes.CELL + middle, y * shapes.CELL + middle)) in shapes.COLOURS}


def inked(image: Image.Image) -> set[tuple[int, int]]:
    """Return the pixels of the shape and its outline."""
    grid = [(x, y) for x in range(image.width) for y in range(image.height)]
    return {point for point in grid if image.getpixel(point) not in EMPTY}


def box(points: set[tuple[int, int]]) -> tuple[int, int]:
    """Return width and height of the box around the points."""
    columns, rows = [x for x, _ in points], [y for _, y in points]
    return max(columns) - min(columns) + 1, max(rows) - min(rows) + 1


def perimeter(filled: set[tuple[int, int]]) -> int:
    """Return the number of sides of cells that border on a cell without colour."""
    beside = [(1, 0), (-1, 0), (0, 1), (0, -1)]
    return sum((x + dx, y + dy) not in filled for x, y in filled for dx, dy in beside)


@pytest.mark.parametrize(
    ("kind", "sides", "solution"),
    [
        ("rect_area", (6, 8), r"w=6 h=8 w*h=48 \boxed{48}"),
        ("rect_perim", (6, 8), r"w=6 h=8 w+h=14 \boxed{28}"),
        ("tri_area", (4, 5), r"w=4 h=5 w*h=20 half=10 \boxed{10}"),
        ("poly_perim", (3, 5), r"w=3 h=5 w+h=8 \boxed{16}"),
        ("hyp2", (3, 4), r"w=3 h=4 w*w=9 h*h=16 sum=25 \boxed{25}"),
        ("lshape", (6, 8, 2, 5), L_SHAPE),
        ("shaded", (5, 4, 2, 1), r"w=5 h=4 w*h=20 hole w=2 h=1 w*h=2 diff=18 \boxed{18}"),
    ],
)
def test_each_kind_is_worked_out_as_by_hand(kind: str, sides: tuple[int, ...], solution: str) -> None:
    assert write_solution(*derive(kind, *sides)) == solution


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="no kind 'circle'.*rect_area"):
        derive("circle", 1, 1)
    with pytest.raises(ValueError, match="no kind 'circle'"):
        draw(random.Random(0), "circle", 1)


def test_a_shape_lies_where_it_was_put() -> None:
    image = shapes.blank(6)
    shapes.rectangle(image, 1, 2, 3, 2, shapes.COLOURS[0])
    assert cells(image) == {(1, 2), (2, 2), (3, 2), (1, 3), (2, 3), (3, 3)}
    assert image.size == (84, 84) and image.getpixel((14, 28)) == shapes.INK and image.getpixel((13, 28)) in EMPTY


@pytest.mark.parametrize(("corner", "cut"), [(0, {(0, 0), (0, 1)}), (1, {(2, 0), (2, 1)}), (2, {(2, 3), (2, 2)}), (3, {(0, 3), (0, 2)})])
def test_an_l_shape_lacks_its_cells_at_that_corner(corner: int, cut: set[tuple[int, int]]) -> None:
    image = shapes.blank(6)
    shapes.l_shape(image, 0, 0, 3, 4, 1, 2, corner, shapes.COLOURS[1])
    assert {(x, y) for x in range(3) for y in range(4)} - cells(image) == cut


def test_a_triangle_fills_the_half_of_its_box_away_from_the_missing_corner() -> None:
    corners, inside = [(14, 14), (69, 14), (69, 69), (14, 69)], [(17, 17), (66, 17), (66, 66), (17, 66)]
    for missing in range(shapes.CORNERS):
        image = shapes.blank(6)
        shapes.triangle(image, 1, 1, 4, 4, missing, shapes.COLOURS[2])
        assert [image.getpixel(point) == shapes.INK for point in corners] == [corner != missing for corner in range(shapes.CORNERS)]
        assert image.getpixel(inside[missing]) in EMPTY
        assert image.getpixel(inside[(missing + 2) % 4]) == shapes.COLOURS[2]


def test_a_polyomino_of_given_rows_has_their_cells() -> None:
    image = shapes.blank(6)
    shapes.polyomino(image, 2, 1, ((0, 1), (1, 3)), shapes.COLOURS[3])
    assert cells(image) == {(2, 1), (3, 1), (3, 2), (4, 2), (5, 2)}
    assert perimeter(cells(image)) == 2 * (4 + 2)


@given(st.integers(0, 2**32), st.sampled_from(KINDS), st.sampled_from(LEVELS))
def test_an_image_shows_what_its_derivation_says(seed: int, kind: str, level: int) -> None:
    problem = draw(random.Random(seed), kind, level)
    filled, points = cells(problem.image), inked(problem.image)
    (_, w), (_, h) = problem.steps[:2]
    assert problem.image.size in {(84, 84), (112, 112)} and problem.image.mode == "RGB"
    assert max(w, h) <= {1: 4, 2: 5, 3: problem.image.width // shapes.CELL}[level]
    assert box(points) == (w * shapes.CELL, h * shapes.CELL)
    if kind in ("rect_area", "lshape", "shaded"):
        assert len(filled) == problem.answer
    if kind in ("rect_perim", "poly_perim"):
        assert perimeter(filled) == problem.answer
    if kind == "poly_perim":
        assert len(filled) < w * h
    if kind == "shaded":
        hole = {(x, y) for x in range(8) for y in range(8) if (x, y) not in filled and _is_between(x, y, filled)}
        assert len(hole) == w * h - problem.answer
    if kind in ("tri_area", "hyp2"):
        half = w * h * shapes.CELL**2 / 2
        assert abs(len(points) - half) <= shapes.CELL * (w + h)  # the outline along the hypotenuse
    if kind == "tri_area":
        assert 2 * problem.answer == w * h
    if kind == "hyp2":
        assert problem.answer == w**2 + h**2


def _is_between(x: int, y: int, filled: set[tuple[int, int]]) -> bool:
    """Return whether there are coloured cells on all four sides."""
    row, column = [a for a, b in filled if b == y], [b for a, b in filled if a == x]
    return bool(row and column) and min(row) < x < max(row) and min(column) < y < max(column)


@given(st.integers(0, 2**32), st.sampled_from(KINDS), st.sampled_from(LEVELS))
def test_every_drawn_solution_is_graded_as_right(seed: int, kind: str, level: int) -> None:
    problem = draw(random.Random(seed), kind, level)
    assert grade(problem.solution, str(problem.answer), problem.solution) == (1, 1)


def test_the_text_alone_never_tells_the_answer() -> None:
    answers: dict[str, set[int]] = {}
    for problem in problems(0, 800, RL, avoid=set()):
        answers.setdefault(problem.question, set()).add(problem.answer)
    assert len(answers) == 4 and min(len(found) for found in answers.values()) >= 12


def test_generation_is_seeded_disjoint_and_in_the_mixes_shares() -> None:
    held_out = problems(7, 200, RL, avoid=set())
    keys = {problem.key for problem in held_out}
    again = problems(7, 200, RL, avoid=set())
    assert [(p.key, p.solution) for p in again] == [(p.key, p.solution) for p in held_out]
    train = problems(8, 1500, RL, avoid=keys)
    assert len(keys) == 200 and len({p.key for p in train}) == 1500 and not keys & {p.key for p in train}
    # 1.5 of 7 and 0.5 of 1.0, within four standard errors of 1500 draws
    assert abs(sum(p.kind == "lshape" for p in train) / 1500 - 1.5 / 7) < 0.043
    assert abs(sum(p.level == 3 for p in train) / 1500 - 0.5) < 0.052
    assert set(COLD_START.kinds) == set(RL.kinds) == set(KINDS) and set(COLD_START.levels) == set(RL.levels) == set(LEVELS)


def test_an_image_is_one_problem_whatever_is_asked_about_it() -> None:
    area, perimeter_question = draw(random.Random(5), "rect_area", 2), draw(random.Random(5), "rect_perim", 2)
    assert area.key == perimeter_question.key != draw(random.Random(6), "rect_area", 2).key
    assert area.question != perimeter_question.question


def test_asking_for_more_images_than_there_are_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uec.tasks.geometry.data.MOST_REDRAWS", 20)
    only = Mix({"rect_area": 1.0}, {1: 1.0})
    with pytest.raises(ValueError, match="no new image after"):
        problems(0, 5000, only, avoid=set())


def test_the_written_rows_hold_what_model_and_grader_need(tmp_path) -> None:
    rows = problems(3, 5, RL, avoid=set())
    for name in ("a", "b"):
        write_parquet(tmp_path / name / "rows.parquet", rows)
    assert (tmp_path / "a/rows.parquet").read_bytes() == (tmp_path / "b/rows.parquet").read_bytes()
    table = pq.read_table(tmp_path / "a/rows.parquet")
    assert table.column_names == ["prompt", "answer", "images", "kind", "level", "solution"]
    for number, (row, problem) in enumerate(zip(table.to_pylist(), rows, strict=True)):
        (entry,) = row.pop("images")
        assert entry["path"] == f"{number:06}.png"
        read = Image.open(io.BytesIO(entry["bytes"]))
        assert read.format == "PNG" and read.mode == "RGB" and read.tobytes() == problem.image.tobytes()
        assert (row.pop("prompt"), row["kind"], row["level"]) == (problem.question, problem.kind, problem.level)
        assert score(problem.solution, row.pop("answer"), **row) == {"accuracy": 1.0, "answer": 1.0}


def test_the_same_image_gives_the_same_png() -> None:
    first, second = (draw(random.Random(1), "shaded", 3).image for _ in range(2))
    assert encode_png(first) == encode_png(second) and len(encode_png(first)) < 700


def test_a_right_derivation_is_rewarded_whatever_its_spaces() -> None:
    assert grade(L_SHAPE) == (1, 1)
    assert grade(L_SHAPE.replace(" ", "\n")) == (1, 1)
    assert grade(L_SHAPE.replace("=", " = ").replace("*", " * ")) == (1, 1)
    assert grade(f"  {L_SHAPE}\n") == (1, 1)
    assert grade(L_SHAPE.replace(r"\boxed{38}", r"\boxed{ 38 }")) == (1, 1)


@pytest.mark.parametrize(
    ("response", "answered"),
    [
        (r"\boxed{38}", 1),  # no derivation
        (r"w=6 h=8 w*h=48 cut w=5 h=2 w*h=10 diff=38 \boxed{38}", 1),  # right by luck
        (r"w=8 h=6 w*h=48 cut w=2 h=5 w*h=10 diff=38 \boxed{38}", 1),
        (r"w=6 h=8 w*h=47 cut w=2 h=5 w*h=10 diff=38 \boxed{38}", 1),  # a wrong product on the way
        (r"w=6 h=8 w*h=48 w=2 h=5 w*h=10 diff=38 \boxed{38}", 1),  # it does not say what is cut
        (r"w=6 h=8 w*h=48 hole w=2 h=5 w*h=10 diff=38 \boxed{38}", 1),
        (r"w=6 h=8 cut w=2 h=5 w*h=10 diff=38 \boxed{38}", 1),  # a step is missing
        (r"h=8 w=6 w*h=48 cut w=2 h=5 w*h=10 diff=38 \boxed{38}", 1),  # another order
        (L_SHAPE.replace(r" \boxed", r" sum=38 \boxed"), 1),  # a step too many
        (f"w=5 {L_SHAPE}", 1),  # another try before it
        (r"\boxed{38} " + L_SHAPE, 1),  # two boxes
        (r"\boxed{37} " + L_SHAPE, 1),
        (L_SHAPE + r" \boxed{37}", 0),
        (L_SHAPE + r" \boxed{", 1),
        (L_SHAPE + " w=6", 1),  # goes on after the box
        ("So: " + L_SHAPE, 1),
        (L_SHAPE.replace("38}", "37}"), 0),  # right up to the box
        (L_SHAPE.replace(r"\boxed{38}", "38"), 0),
        (L_SHAPE.replace("w=6", "w=06"), 1),
        (L_SHAPE.replace("w=6", "w=+6"), 1),
        (L_SHAPE.replace("48", "4 8"), 1),  # spaces do not join digits
        (L_SHAPE.replace("{38}", "{3 8}"), 0),
        (L_SHAPE.replace("{38}", "{038}"), 0),
        (L_SHAPE.replace("{38}", "{38.0}"), 0),
        (L_SHAPE.replace("{38}", "{76/2}"), 0),
        (L_SHAPE.replace("38", "३८"), 0),  # Devanagari digits, which int() would take
        (L_SHAPE.replace("w=", "ｗ="), 1),  # a fullwidth letter
        (L_SHAPE.replace("cut w", "cutw"), 1),
        (L_SHAPE.replace("38", "9" * 10_000), 0),
        ("w=6 " * 10_000 + L_SHAPE, 1),
        (r"\boxed{" * 10_000, 0),
        ("__import__('os').abort()", 0),
        ("38", 0),
        ("", 0),
        ("\x00", 0),
    ],
)
def test_anything_but_the_derivation_is_at_most_a_right_answer(response: str, answered: int) -> None:
    assert grade(response) == (0, answered)


def test_a_solution_that_contradicts_the_answer_rewards_nobody() -> None:
    assert grade(L_SHAPE, answer="39") == (0, 0)


@given(st.text(alphabet="0123456789wh*+=- cutdif\\boxed{}\n٣", max_size=60))
def test_no_text_makes_the_grader_fail(response: str) -> None:
    accuracy, answered = grade(response)
    assert (accuracy, answered) in {(0.0, 0.0), (0.0, 1.0), (1.0, 1.0)}


@given(st.integers(0, len(L_SHAPE) - 1), st.sampled_from("0123456789wh*+=\\{}x"))
def test_one_other_character_is_another_derivation(place: int, character: str) -> None:
    changed = L_SHAPE[:place] + character + L_SHAPE[place + 1 :]
    assert grade(changed)[0] == (changed.split() == L_SHAPE.split())


def test_the_reward_name_geometry_finds_the_grader(make_config) -> None:
    grader = load_reward(make_config("reward.fn=geometry", "reward.weights={accuracy: 1.0, answer: 0.0}").reward)
    assert grader(L_SHAPE, "38", {"solution": L_SHAPE, "kind": "lshape", "level": 3}) == {"accuracy": 1.0, "answer": 1.0}


def test_the_shipped_problems_are_sound_and_no_held_out_image_is_trained_on(project) -> None:
    folder = project / "assets/geometry/data"
    rows = {name: pq.read_table(folder / f"{name}.parquet").to_pylist() for name in ("train", "eval")}
    images = {name: {_digest(row) for row in rows[name]} for name in rows}
    assert len(rows["train"]) == len(images["train"]) == 2048
    assert len(rows["eval"]) == len(images["eval"]) == 512
    assert not images["train"] & images["eval"]
    for row in rows["train"] + rows["eval"]:
        assert row["prompt"] == QUESTIONS[row["kind"]] and row["level"] in LEVELS
        assert score(row["solution"], row["answer"], solution=row["solution"]) == {"accuracy": 1.0, "answer": 1.0}


def _digest(row: dict) -> str:
    return hashlib.sha256(Image.open(io.BytesIO(row["images"][0]["bytes"])).tobytes()).hexdigest()
