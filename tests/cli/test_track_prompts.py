"""Points of the command line and files of prompts: all that is wrong is refused by name."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from square_video import SIZE, make_mask

from vots_hqtrack.cli.boxes import Box
from vots_hqtrack.cli.prompts import Point, Prompt, frame_prompt, parse_point, read_prompts
from vots_hqtrack.errors import InputError
from vots_hqtrack.types import Size
from vots_hqtrack.video.label_maps import write_label_map

GOOD = {
    "format": 1,
    "frames": {
        "7": {"2": {"box": [1, 2, 3, 4.5], "points": [[5, 6]]}},
        "0": {
            "1": {"points": [[10, 20], [30.5, 40]], "labels": [1, 0]},
            "254": {"mask": "first.png"},
        },
    },
}


@pytest.fixture
def read(tmp_path):
    """Read a file of prompts with a content or a text."""

    def run(content):
        path = tmp_path / "prompts.json"
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")
        return read_prompts(path)

    return run


def test_values_of_a_file(read, tmp_path):
    found = read(GOOD)
    assert list(found) == [0, 7]
    assert found[0].objects == {
        1: Prompt((Point(10, 20), Point(30.5, 40, False))),
        254: Prompt(mask_path=tmp_path / "first.png"),
    }
    assert found[7].objects == {2: Prompt((Point(5, 6),), Box(1, 2, 3, 4.5))}
    assert found[7].to_json() == {"2": {"points": [[5, 6]], "labels": [1], "box": [1, 2, 3, 4.5]}}


def _changed(*path, to):
    content = json.loads(json.dumps(GOOD))
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return content


FIRST = ("frames", "0", "1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot read the prompts"),
        ("[" * 100_000, "cannot read the prompts"),
        ('{"format": 1, "frames": {"0": {"1": {"box": [NaN, 1, 2, 3]}}}}', "NaN is not a number"),
        ('{"format": 1, "format": 1, "frames": {}}', "the key 'format' is there twice"),
        ("[1]", "wanted an object {...} that is not empty, got [1]"),
        ({"frames": GOOD["frames"]}, "wanted the keys format, frames, got ['frames']"),
        ({**GOOD, "comment": ""}, "wanted the keys format, frames"),
        (_changed("format", to=2), "format: wanted 1, got 2"),
        (_changed("format", to=True), "format: wanted 1, got True"),
        (_changed("frames", to={}), "frames: wanted an object"),
        (_changed("frames", "-1", to={}), "frames.-1: wanted a frame number from 0"),
        (_changed("frames", "01", to={}), "frames.01: wanted a frame number from 0"),
        (_changed("frames", "٣", to={}), "wanted a frame number from 0"),
        (_changed("frames", "0", to={}), "frames.0: wanted an object {...} that is not empty"),
        (
            _changed("frames", "0", "0", to={"box": [1, 1, 1, 1]}),
            "object ids from 1 to 1000 without 255",
        ),
        (
            _changed("frames", "0", "255", to={"box": [1, 1, 1, 1]}),
            "object ids from 1 to 1000 without 255",
        ),
        (
            _changed("frames", "0", "a", to={"box": [1, 1, 1, 1]}),
            "object ids from 1 to 1000 without 255",
        ),
        (_changed(*FIRST, to={}), "frames.0.1: wanted an object {...} that is not empty"),
        (_changed(*FIRST, to=[1]), "frames.0.1: wanted an object"),
        (_changed(*FIRST, "point", to=[1, 2]), "frames.0.1: wanted the keys points, labels, box"),
        (_changed(*FIRST, "mask", to="a.png"), "wanted a mask alone, or points and a box"),
        (_changed(*FIRST, to={"mask": ""}), "frames.0.1.mask: wanted the path of an image"),
        (_changed(*FIRST, to={"mask": 3}), "frames.0.1.mask: wanted the path of an image"),
        (_changed(*FIRST, "points", to=[[1, 2]]), "one label for each of 1 points"),
        (_changed(*FIRST, "points", to=[[1], [2]]), "frames.0.1.points: wanted points [x, y]"),
        (_changed(*FIRST, "points", to=[["1", 2], [3, 4]]), "wanted points [x, y], got ['1', 2]"),
        (_changed(*FIRST, "points", to=[[True, 2], [3, 4]]), "wanted points [x, y]"),
        (_changed(*FIRST, "points", to=[[10**400, 2], [3, 4]]), "of finite numbers"),
        ('{"format": 1, "frames": {"0": {"1": {"points": [[1e999, 1]]}}}}', "of finite numbers"),
        (_changed(*FIRST, "points", to={}), "frames.0.1.points: wanted a list"),
        (_changed(*FIRST, "labels", to=[1, 2]), "frames.0.1.labels: wanted labels 0 or 1, got 2"),
        (_changed(*FIRST, "labels", to=[1, True]), "wanted labels 0 or 1, got True"),
        (_changed(*FIRST, "labels", to=[1.0, 0]), "wanted labels 0 or 1, got 1.0"),
        (_changed(*FIRST, "labels", to=[0, 0]), "a box or a point inside the object, got neither"),
        (_changed(*FIRST, to={"points": []}), "a box or a point inside the object, got neither"),
        (_changed(*FIRST, "box", to=[1, 2, 3]), "frames.0.1.box: wanted [x, y, width, height]"),
        (_changed(*FIRST, "box", to=[1, 2, 0, 3]), "a width and a height above 0"),
        (
            _changed(*FIRST, "box", to=None),
            "frames.0.1.box: wanted [x, y, width, height], got None",
        ),
    ],
)
def test_exception_content_of_a_file(read, content, message):
    with pytest.raises(InputError) as caught:
        read(content)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_exception_unreadable_file(tmp_path):
    (tmp_path / "latin.json").write_bytes(b'{"format": "\xe9"}')
    for name in ("none.json", "latin.json", "."):
        with pytest.raises(InputError, match="cannot read the prompts"):
            read_prompts(tmp_path / name)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 300) | st.floats() | st.text(max_size=3),
    lambda part: (
        st.lists(part, max_size=4)
        | st.dictionaries(
            st.sampled_from(["0", "1", "9", "points", "labels", "box", "mask", "x"]), part
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(frames=JSON, cut=st.integers(0, 60))
def test_any_content_is_read_or_refused_in_one_line(tmp_path_factory, frames, cut):
    path = tmp_path_factory.getbasetemp() / "any.json"
    text = json.dumps({"format": 1, "frames": frames})
    for data in (text, text[: len(text) - cut]):
        path.write_text(data, encoding="utf-8")
        try:
            found, message = read_prompts(path), ""
        except InputError as error:
            found, message = {}, str(error)
        assert all(prompt.objects for prompt in found.values())
        assert bool(found) != bool(message)
        assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("3,4", (1, Point(3, 4))),
        ("3.5,4e1,+", (1, Point(3.5, 40))),
        (" 3, 4,-@2 ", (2, Point(3, 4, False))),
        ("3,4@254", (254, Point(3, 4))),
    ],
)
def test_values_of_a_point(text, wanted):
    assert parse_point(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        *("", "3", "3,4,5", "3,4,", "3,4@", "3,4@0", "3,4@255", "3,4@-1", "nan,4", "3,inf", "a,b"),
        *("3;4", "3,4,*", "3,4@1@2", "3,4,-,+", "3,4@1,-", "3,4@٣"),
    ],
)
def test_exception_point(text):
    with pytest.raises(InputError, match=r"point"):
        parse_point(text)


def test_points_refine_boxes_by_their_numbers():
    found = frame_prompt(["1,2,3,4", "5,6,7,8"], ["9,9,-@2", "3,3@7"]).objects
    assert found == {
        1: Prompt(box=Box(1, 2, 3, 4)),
        2: Prompt((Point(9, 9, False),), Box(5, 6, 7, 8)),
        7: Prompt((Point(3, 3),)),
    }


def test_exception_object_with_points_outside_only():
    with pytest.raises(InputError, match="object 4: wanted a box or a point inside"):
        frame_prompt(["1,2,3,4"], ["9,9,-@4"])


def test_mask_of_an_object_has_its_id_or_one_object(read, tmp_path):
    from vots_hqtrack.cli.given import check_prompt

    path, size = tmp_path / "first.png", Size(*SIZE)
    found = read({"format": 1, "frames": {"0": {"2": {"mask": "first.png"}}}})[0]
    labels = make_mask(0).astype(np.uint8)
    write_label_map(path, labels * 9)
    np.testing.assert_array_equal(check_prompt(found, size).masks[2], make_mask(0))
    labels[:5] = 2
    write_label_map(path, labels)
    assert check_prompt(found, size).masks[2].sum() == 5 * SIZE[1]
    labels[:5] = 7
    write_label_map(path, labels)
    with pytest.raises(InputError, match=r"must hold object 2, or one object; got objects 1, 7"):
        check_prompt(found, size)
    write_label_map(path, labels * 0)
    with pytest.raises(InputError, match=r"must hold object 2, or one object; got none"):
        check_prompt(found, size)
