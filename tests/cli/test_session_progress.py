"""Steps of a session's run on disk: read again as they were written, and never taken on trust."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vots_hqtrack.cli.track_session import Progress, remove_session
from vots_hqtrack.errors import InputError
from vots_hqtrack.video.result_folder import PASSES_NAME, SESSION_NAME


def _with_project(folder):
    (folder / SESSION_NAME).mkdir()
    (folder / SESSION_NAME / "project.json").write_text("{}")
    return folder


def test_steps_are_read_again_but_for_the_line_that_was_cut(tmp_path):
    with Progress(_with_project(tmp_path)) as progress:
        progress.note_given(7)
        for number, index in ((0, 7), (0, 8), (1, 7)):
            progress.note_tracked(number, index, 0.5)
    path = tmp_path / PASSES_NAME
    whole = path.read_text()
    path.write_text(whole + '{"pass": 1, "fra')
    with Progress(tmp_path) as again:
        assert (again.given, dict(again.seconds)) == ({7}, {7: 1.0, 8: 0.5})
        assert [again.length(number) for number in (0, 1, 2)] == [2, 1, 0]
        assert again.num_done == 3
    assert path.read_text() == whole


def test_without_its_project_a_run_begins_again(tmp_path):
    (tmp_path / PASSES_NAME).write_text('{"given": 7}\n')
    with Progress(tmp_path) as progress:
        assert not progress.given
    remove_session(tmp_path)
    assert not list(tmp_path.iterdir())


LINES = st.lists(
    st.text(max_size=9)
    | st.recursive(
        st.none() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.sampled_from(["given", "pass", "frame", "seconds"]), inner)
        ),
        max_leaves=6,
    ).map(json.dumps),
    min_size=1,
    max_size=3,
)


@settings(max_examples=40, deadline=None)
@given(lines=LINES)
@example(lines=['{"given": Infinity}'])
@example(lines=["[" * 100_000])
def test_damaged_steps_are_named_in_one_line(tmp_path_factory, lines):
    folder = _with_project(tmp_path_factory.mktemp("run"))
    content = "".join(line + "\n" for line in lines).encode("utf-8", "surrogatepass")
    (folder / PASSES_NAME).write_bytes(content)
    message = PASSES_NAME  # some are valid
    try:
        Progress(folder).__exit__(None, None, None)
    except InputError as error:
        message = str(error)
    assert PASSES_NAME in message
    assert len(message.splitlines()) == 1


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    (_with_project(tmp_path) / PASSES_NAME).symlink_to(tmp_path / "mine.txt")
    with pytest.raises(InputError, match="not a regular file"):
        Progress(tmp_path)
    remove_session(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert (tmp_path / SESSION_NAME / "project.json").exists()
