"""Guards of a tracker's public methods: owner and user of a state, forks, the end of memory.

:func:`public` is a decorator, so that a method holds its work only.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import ParamSpec, TypeVar

from vots_hqtrack.errors import HQTrackError, InputError, explain_memory
from vots_hqtrack.memory import TrackState

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")

tracker_numbers = itertools.count(1)
"""Numbers by which states know their tracker."""
_users: dict[int, int] = {}
"""Thread that uses a state, by the state's ``id``."""
_guard = threading.Lock()
_process: list[int] = []
"""Process that computed first."""


def public(method: Callable[_Args, _Result]) -> Callable[_Args, _Result]:
    """Guard a public method of a tracker; ``state`` and each of ``states`` is checked and held."""
    signature = inspect.signature(method)
    name = next((name for name in ("state", "states") if name in signature.parameters), None)

    @functools.wraps(method)
    def guarded(*args: _Args.args, **kwargs: _Args.kwargs) -> _Result:
        require_own_process()
        with contextlib.ExitStack() as stack:
            if name is not None:
                given = signature.bind(*args, **kwargs).arguments
                states = [given[name]] if name == "state" else given[name]
                if not isinstance(states, Sequence):
                    raise InputError(f"wanted a list of states, got {type(states).__name__}")
                for state in states:
                    stack.enter_context(hold_state(state, given["self"].number))
            stack.enter_context(explain_memory())
            return method(*args, **kwargs)

    return guarded


def require_own_process() -> None:
    """Refuse to compute in a fork of a process that has a tracker.

    PyTorch and OpenCV compute with threads, which a fork does not have and would wait for.

    Raises:
        HQTrackError: This process is such a fork.
    """
    if not _process:
        _process.append(os.getpid())
    if _process[0] != os.getpid():
        raise HQTrackError(
            f"this process was forked from process {_process[0]}, which has a tracker already; "
            "a fork lacks the threads that compute: start processes by "
            "multiprocessing.get_context('spawn'), or build trackers only after the fork"
        )


@contextlib.contextmanager
def hold_state(state: object, number: int) -> Iterator[None]:
    """Hold a state during a call; the same thread may hold it several times.

    Args:
        state: Wanted: a ``TrackState`` of the tracker, or one without an owner, which gets one.
        number: The tracker's number.

    Raises:
        InputError: It is no state, has another owner, or another thread holds it.
    """
    if not isinstance(state, TrackState):
        got = type(state).__name__
        raise InputError(f"a state must be the one that initialize returned, got {got}")
    here = threading.get_ident()
    with _guard:
        holder = _users.get(id(state))
        _users.setdefault(id(state), here)
    if holder not in (None, here):
        raise InputError(
            "this state is in use by another thread: the frames of a video are tracked in turn"
        )
    try:
        if state.owner not in (None, number):
            raise InputError(
                "this state belongs to another tracker, and its memory to that one's network: "
                "start the video with initialize of the tracker that shall track it"
            )
        state.owner = number
        yield
    finally:
        if holder is None:
            del _users[id(state)]
