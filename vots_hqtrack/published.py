"""Publishing of trackers: folders with options, weights and a model card, and the hub's copies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.entry import public
from vots_hqtrack.errors import ConfigError
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.types import check_path


class PublishedTracker(ABC):
    """Base of trackers that can be published and found: see `HQTracker`.

    Attributes:
        config: Options of the tracker.
        files: Files that its weights were read from, by name.
    """

    config: TrackerConfig
    files: Mapping[str, Path]

    @classmethod
    @abstractmethod
    def from_config(
        cls, config: TrackerConfig, *, device: str = "auto", weights: str | Path | None = None
    ) -> Self:
        """Build a tracker from a configuration."""

    @classmethod
    @public
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        device: str = "auto",
        settings: Iterable[str] = (),
    ) -> Self:
        """Build a tracker that somebody published: a folder, or a repository of the hub.

        Args:
            source: Folder that :meth:`save_pretrained` wrote, or an id such as ``owner/name`` on
                the Hugging Face hub (extra ``hub``).
            revision: Branch, tag or commit of the repository.
            cache_dir: Folder of downloads instead of the hub's own cache.
            token: Access token of the hub; None takes that of the user who is logged in.
            local_files_only: Take what was downloaded before, without a connection.
            device: As for :meth:`from_preset`.
            settings: ``section.option=value`` strings, applied in order.

        Raises:
            ConfigError: The source or an option is not usable.
            WeightsError: The hub has no such tracker, or a file is missing or damaged.
        """
        from vots_hqtrack.checkpoints.pretrained import find_pretrained

        config, folder = find_pretrained(
            source,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
        )
        return cls.from_config(apply_settings(config, settings), device=device, weights=folder)

    @public
    def save_pretrained(
        self,
        folder: str | Path,
        *,
        push_to_hub: bool = False,
        repo_id: str | None = None,
        token: str | bool | None = None,
        private: bool | None = None,
    ) -> str | None:
        """Write options, weights and a model card into a folder, and publish it if wanted.

        Args:
            folder: It is made; a tracker that is there is replaced. A ``README.md`` that you wrote
                or changed stays.
            push_to_hub: Upload the folder to the Hugging Face hub (extra ``hub``).
            repo_id: Repository there, such as ``owner/name``; None takes the folder's name.
            token: Access token of the hub; None takes that of the user who is logged in.
            private: Make a new repository private; None leaves it to the owner's settings.

        Returns:
            Address of the commit on the hub, or None.

        Raises:
            ConfigError: The weights were not read from files, or the hub's options are not usable.
            InputError: The folder has other files under the names to be written.
            OutputError: The files cannot be written.
            WeightsError: A weights file has gone, or the hub refuses.
        """
        from vots_hqtrack.checkpoints import pretrained

        path = check_path(folder).expanduser()
        name = path.resolve().name if repo_id is None else repo_id
        if push_to_hub:
            pretrained.check_upload(name)
        elif (repo_id, token, private) != (None, None, None):
            raise ConfigError("repo_id, token and private are for push_to_hub=True, got False")
        pretrained.save_pretrained(self.config, self.files, path)
        if not push_to_hub:
            return None
        return pretrained.push_folder(path, name, token=token, private=private)
