from kaito_ray.cli.curve import draw

BLANK = "\u2800"


def filled(line: str) -> list[bool]:
    return [cell != BLANK for cell in line.partition("│")[2]]


def test_a_falling_curve_goes_from_the_upper_left_to_the_lower_right() -> None:
    lines = draw([(0, 4.0), (10, 0.0)], steps=10, width=22, height=4)
    assert lines[0].startswith("4│")
    assert lines[-1].startswith("0│")
    assert filled(lines[0])[0]
    assert filled(lines[-1])[-1]
    assert not filled(lines[0])[-1]
    assert all(any(filled(line)) for line in lines), "without a gap"


def test_a_run_that_has_just_begun_fills_the_left_of_its_axis() -> None:
    (line,) = draw([(0, 1.0), (5, 1.0)], steps=50, width=12, height=1)
    assert filled(line) == [True, True, *[False] * 8]


def test_no_points_and_no_scale_are_a_blank_axis() -> None:
    assert not any(any(filled(line)) for line in draw([], steps=0, width=20, height=3))
    assert any(filled(draw([(1, 0.0)], steps=2, width=20, height=3)[-1]))
