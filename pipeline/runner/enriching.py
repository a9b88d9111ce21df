"""`tfrec enrich`: asks a language model outside of a run, into the folder that runs read."""

from __future__ import annotations

from pipeline.config.pipeline_config import PipelineConfig, tables_of
from pipeline.config.terminal import safe
from tfrec_fusion.config import ConfigError, EnrichmentConfig
from tfrec_fusion.datasets.tables import GeneratedText
from tfrec_fusion.enrichment import asking
from tfrec_fusion.features.rows import read_generated


def run(config: PipelineConfig, show: int) -> int:
    """Asks what has no answer yet, and writes the texts as a numbered version.

    Args:
        config: with `enrich`.
        show: how many texts are printed.

    Returns:
        The exit code.

    Raises:
        ConfigError, EndpointError: as `asking.enrich`.
    """
    settings, folder = _settings(config), config.answers_folder
    result = asking.enrich(tables_of(config), config.split, settings, folder, _say)
    for kind in ("item", "user"):
        for key, text in list(result.texts[kind].items())[:show]:
            print(f"  {kind} {safe(key)}: {safe(text)}")
    version, new = asking.new_version(result, settings, folder)
    print(f"{version}{'' if new else ' (as before)'}")
    return 0


def estimate(config: PipelineConfig) -> int:
    """Says how much there is to ask, and shows the first question; asks nothing.

    Raises:
        ConfigError: for tables that cannot be used.
    """
    settings = _settings(config)
    line, questions = asking.preview(tables_of(config), config.split, settings, config.answers_folder)
    _say(line)
    for message in questions[0] if questions else ():
        print(f"\n[{message['role']}]\n{safe(message['content'], breaks=chr(10))}")
    return 0


def user_summary(config: PipelineConfig, user: str) -> str:
    """What the newest version says of a user's taste; "" where it says nothing, or `enrich.users` is off."""
    settings, found = _settings(config), {}
    version = asking.newest(config.answers_folder)
    if settings.users and version is not None and (version / asking.USERS).is_file():
        table = GeneratedText(str(version / asking.USERS), "user_id", settings.column)
        found = read_generated(table, config.data.user_ids)
    return found.get(user, "")


def _settings(config: PipelineConfig) -> EnrichmentConfig:
    if config.enrich is None:
        raise ConfigError(
            "A language model needs the key `enrich` in the configuration. Received: none. For example:"
            " enrich:"
            " {template: products, endpoint: {base_url: 'http://127.0.0.1:8080/v1', model: NAME}}"
            " (docs/howto/language-models.md)."
        )
    return config.enrich


def _say(line: str) -> None:
    print(safe(line), flush=True)
