"""Published trackers: a folder, or a repository of the Hugging Face hub, with all that one needs.

``config.json`` has the configuration, and the hash, terms and origin of each weights file beside
it; ``model.safetensors`` is VMOS with its own encoder; the refiner's weights are files of their
own, under their names. ``README.md`` is the model card. Only the hub needs the extra ``hub``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import vots_hqtrack
from vots_hqtrack.checkpoints.manifest import (
    MODEL_CONFIG,
    MODEL_FORMAT,
    WeightsEntry,
    locate,
    published_config,
    published_weights,
    sha256_of,
)
from vots_hqtrack.checkpoints.model_card import write_card
from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.environment import downloads_from_environment
from vots_hqtrack.errors import ConfigError, HQTrackError, InputError, OutputError, WeightsError
from vots_hqtrack.extras import missing_extra
from vots_hqtrack.io import atomic_path
from vots_hqtrack.presets import PRESETS
from vots_hqtrack.settings import build_config

MODEL_NAME, CARD_NAME = "model.safetensors", "README.md"
_HUB_ID = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?", re.ASCII)


class Pretrained(NamedTuple):
    """A published tracker on this machine.

    Attributes:
        config: Options of tracking.
        folder: Folder with its files.
    """

    config: TrackerConfig
    folder: Path


def find_pretrained(
    source: str | Path,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> Pretrained:
    """Find a published tracker; from the hub it is downloaded once, into the hub's own cache.

    Args:
        source: A folder, or an id of the hub such as ``owner/name``; a folder comes first.
        revision: Branch, tag or commit of the repository; None takes its main branch.
        cache_dir: Folder of downloads instead of the hub's own cache.
        token: Access token of the hub; None takes the one of the user who is logged in.
        local_files_only: Take what is in the cache, without a connection.

    Raises:
        ConfigError: The source is neither a folder nor an id, or its configuration is not usable.
        WeightsError: The hub has no such repository or cannot be reached, or a file is missing.
    """
    if not isinstance(source, (str, os.PathLike)) or not str(source):
        raise ConfigError(f"wanted a folder, or an id of the hub, got {source!r}")
    # These, unlike the methods of Path, find nothing where a name is too long or has no home.
    folder = Path(os.path.expanduser(source))
    if os.path.isdir(folder):
        if revision is not None:
            raise ConfigError(f"{folder} is a folder, which has no revision; got {revision!r}")
        return read_pretrained(folder)
    if revision is not None and not (isinstance(revision, str) and revision):
        raise ConfigError(f"wanted a branch, tag or commit as revision, got {revision!r}")
    text = str(source)
    if os.path.exists(folder) or not isinstance(source, str) or not _HUB_ID.fullmatch(text):
        found = "a file" if os.path.exists(folder) else "nothing"
        raise ConfigError(
            "wanted the folder of a published tracker, or an id of the hub such as owner/name; "
            f"found {found} at {text!r}"
        )
    if text in PRESETS:
        raise ConfigError(
            f"{text} is a preset, no published tracker: from_preset({text!r}), or --preset {text}"
        )
    with _hub_errors(text, revision) as hub:
        options: dict[str, Any] = {
            "cache_dir": cache_dir,
            "token": token,
            "local_files_only": local_files_only or downloads_from_environment().is_offline,
            "endpoint": downloads_from_environment().hub,
            "library_name": "vots-hqtrack",
            "library_version": vots_hqtrack.__version__,
        }
        # Its configuration says whether it is a tracker, before gigabytes of something else come.
        first = Path(
            hub.snapshot_download(text, revision=revision, allow_patterns=[MODEL_CONFIG], **options)
        )
        names = [entry.file_name for entry in published_weights(first, text).values()]
        found = hub.snapshot_download(
            text, revision=first.name, allow_patterns=[MODEL_CONFIG, *names], **options
        )
    return read_pretrained(Path(found))


def read_pretrained(folder: Path) -> Pretrained:
    """Read a published tracker's configuration; its weights are checked when they are loaded.

    Raises:
        ConfigError: ``config.json`` has options that this version does not know.
        WeightsError: It is missing, or not that of a published tracker, or a file is missing.
    """
    content = published_config(folder)
    path, tables = folder / MODEL_CONFIG, dict(content["tracker"])
    names = {key: tables.pop(key, None) for key in ("preset", "weights")}
    try:
        for key, value in names.items():
            if not isinstance(value, str) or not value:
                raise ConfigError(f"{key} must be a name, got {value!r}")
        config = dataclasses.replace(build_config(TrackerConfig, tables), **names)
    except ConfigError as error:
        raise ConfigError(
            f"{path}, which version {content.get('version')} wrote: {error}"
        ) from error
    entries = published_weights(folder)
    for name in config.weights_needed():
        if name not in entries:
            raise WeightsError(f"{path} has no entry for the weights {name!r} that it needs")
        locate(name, folder)
    return Pretrained(config, folder)


def save_pretrained(config: TrackerConfig, files: Mapping[str, Path], folder: Path) -> None:
    """Write a tracker as a folder that :func:`find_pretrained` reads.

    A model card is written, too, unless there is one that somebody else wrote or changed.

    Args:
        config: Options of tracking.
        files: Weights files by name: all that the configuration names.
        folder: It is made, or holds a published tracker, which is replaced.

    Raises:
        ConfigError: The tracker was not read from files.
        InputError: The folder has files of another program under the names to be written.
        OutputError: The files cannot be written.
        WeightsError: A weights file is missing.
    """
    if missing := [name for name in config.weights_needed() if name not in files]:
        raise ConfigError(
            f"the weights {', '.join(missing)} of this tracker were not read from a file, so there "
            "is nothing to copy; build it with from_preset, from_config or from_pretrained"
        )
    entries = {name: _describe(name, files[name], config) for name in config.weights_needed()}
    names = [entry.file_name for entry in entries.values()]
    if len({*names}) < len(names):
        raise ConfigError(f"weights of this tracker have one file name: {', '.join(names)}")
    _require_ours(folder, [MODEL_CONFIG, *names])
    card, keeps_card = (
        write_card(config, entries).encode(errors="replace"),
        _has_card_of_others(folder),
    )
    content = {
        "library_name": "vots-hqtrack",
        "format": MODEL_FORMAT,
        "version": vots_hqtrack.__version__,
        "tracker": dataclasses.asdict(config),
        "weights": {name: _without_name(entry) for name, entry in entries.items()},
        "card_sha256": hashlib.sha256(card).hexdigest(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            # Renamed in the opposite order: the configuration, which names the others, at last.
            temporary = stack.enter_context(atomic_path(folder / MODEL_CONFIG, durable=True))
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            for name, entry in entries.items():
                target = folder / entry.file_name
                temporary = stack.enter_context(atomic_path(target, durable=True))
                shutil.copyfile(files[name], temporary)
                if sha256_of(temporary) != entry.sha256:
                    raise WeightsError(f"{files[name]} changed while it was copied; try again")
            if not keeps_card:
                temporary = stack.enter_context(atomic_path(folder / CARD_NAME, durable=True))
                temporary.write_bytes(card)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error


def check_upload(repo_id: str) -> None:
    """Check that an upload can be tried, before anything is written.

    Raises:
        ConfigError: Connections are forbidden, the extra is not installed, or the hub has no such
            ids.
    """
    if downloads_from_environment().is_offline:
        raise ConfigError(
            "offline mode is on (VOTS_HQTRACK_OFFLINE or HF_HUB_OFFLINE), so that "
            f"{repo_id!r} is not uploaded"
        )
    with _hub_errors(repo_id, None):
        importlib.import_module("huggingface_hub.utils").validate_repo_id(repo_id)


def push_folder(
    folder: Path,
    repo_id: str,
    *,
    token: str | bool | None = None,
    private: bool | None = None,
    message: str = "Upload a tracker of vots-hqtrack",
) -> str:
    """Upload a published tracker to the hub; the repository is made if it is not there.

    Returns:
        Address of the commit.

    Raises:
        ConfigError: As :func:`check_upload`.
        WeightsError: The hub refuses, or cannot be reached.
    """
    check_upload(repo_id)
    names = [entry.file_name for entry in published_weights(folder).values()]
    with _hub_errors(repo_id, None) as hub:
        api = hub.HfApi(downloads_from_environment().hub, token=token, library_name="vots-hqtrack")
        made = api.create_repo(repo_id, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=made.repo_id,
            folder_path=folder,
            allow_patterns=[MODEL_CONFIG, CARD_NAME, *names],
            commit_message=message,
        )
    return str(done.commit_url)


def _describe(name: str, path: Path, config: TrackerConfig) -> WeightsEntry:
    """Describe a weights file: as its manifest does, or as its own header."""
    sha256 = sha256_of(path)
    file_name = MODEL_NAME if name == config.weights else f"{name}.safetensors"
    for folder in (path.parent, None):
        with contextlib.suppress(WeightsError):
            known = locate(name, folder).entry
            if known.sha256 == sha256:
                return dataclasses.replace(known, file_name=file_name)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            header: dict[str, str] = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"cannot read the weights file {path}: {error}") from error
    return WeightsEntry(
        name=name,
        file_name=file_name,
        sha256=sha256,
        origin=header.get("origin", "").strip() or f"the file {path.name} of the publisher",
        licence=header.get("licence", "").strip() or "not stated",
        description=f"Weights {name} of the preset {config.preset}.",
    )


def _without_name(entry: WeightsEntry) -> dict[str, str]:
    facts: dict[str, str] = dataclasses.asdict(entry)
    del facts["name"]
    return facts


def _require_ours(folder: Path, names: list[str]) -> None:
    """Refuse to replace files that are not of an earlier published tracker."""
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise InputError(f"wanted a folder to write, found a file at {folder}")
    there = [name for name in names if os.path.lexists(folder / name)]
    if not there:
        return
    try:
        ours = {MODEL_CONFIG, *(entry.file_name for entry in published_weights(folder).values())}
    except HQTrackError:
        ours = set()
    if others := [name for name in there if name not in ours]:
        raise InputError(
            f"{folder / others[0]} is there already, and not of a published tracker; give another "
            "folder, or move it"
        )


def _has_card_of_others(folder: Path) -> bool:
    """Whether a model card is there that was not written here, or was changed since."""
    card = folder / CARD_NAME
    if not os.path.lexists(card):
        return False
    try:
        return bool(published_config(folder).get("card_sha256") != sha256_of(card))
    except WeightsError:
        return True


@contextlib.contextmanager
def _hub_errors(name: str, revision: str | None) -> Iterator[Any]:
    """Import the hub's library, and raise its errors as one line of ours.

    Yields:
        The module ``huggingface_hub``.
    """
    try:
        import httpx2
        import huggingface_hub as hub
        from huggingface_hub import errors
    except ImportError as error:
        raise missing_extra(f"the model {name} of the hub", "hub", error) from error
    address = downloads_from_environment().hub
    try:
        yield hub
    except HQTrackError:
        raise
    except errors.GatedRepoError as error:
        raise WeightsError(
            f"the model {name} of {address} is given to those who accepted its terms: do so on its "
            "page, then log in with: hf auth login"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise WeightsError(f"the model {name} of {address} has no revision {revision!r}") from error
    except errors.RepositoryNotFoundError as error:
        raise WeightsError(
            f"{address} has no model {name}, or does not show it to you, and there is no folder of "
            "that name; for a private one log in with: hf auth login"
        ) from error
    except errors.HFValidationError as error:
        raise ConfigError(
            f"wanted an id of the hub such as owner/name: {_reason(error)}"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        cause = f"{address} was not reached: {_reason(error)}"
        why = cause if error.__cause__ is not None else "connections are forbidden"
        raise WeightsError(
            f"the model {name} is not in the cache of downloads, and {why}"
        ) from error
    except (
        *(OSError, ValueError, RuntimeError, httpx2.HTTPError),
        errors.XetDownloadError,
    ) as error:
        raise WeightsError(f"{address} did not serve {name}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """Return the first line of the error that began it all."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0]
