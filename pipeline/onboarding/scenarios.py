"""Scenarios as folders: generated tables and the configuration that reads them."""

from __future__ import annotations

import pathlib

from pipeline.config.pipeline_config import CONFIGS
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.scenarios import SCENARIOS, write
from tfrec_fusion.files import write_text

FOLDER = CONFIGS / "scenarios"


def write_scenario(name: str, folder: str, seed: int = 0) -> int:
    """Writes a scenario's tables and `NAME.yaml`, and says what to type next.

    Args:
        name: of `SCENARIOS`.
        folder: receives the files; made where it is not there.
        seed: of the tables that are drawn.

    Returns:
        The exit code.

    Raises:
        ConfigError: for a scenario that there is not, or a folder that holds its configuration already.
    """
    if name not in SCENARIOS:
        raise ConfigError(f"There is no scenario {name!r}. Name one of: {', '.join(SCENARIOS)}.")
    path = pathlib.Path(folder) / f"{name}.yaml"
    if path.exists():
        raise ConfigError(
            f"`--out` must be a folder without {path.name}, which may hold changes. Received:"
            f" {str(path.parent)!r}. Name another one, or delete the file."
        )
    files = write(name, folder, seed)
    write_text(str(path), (FOLDER / path.name).read_text(encoding="utf-8"))
    print(f"{SCENARIOS[name].about}: {', '.join(file.name for file in files.values())} and {path}")
    print(f"next: tfrec run {path}")
    return 0
