"""The page that `tfrec serve --ui`, `tfrec ui` and `tfrec demo` serve."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from pipeline.config.pipeline_config import PipelineConfig, tables_of
from pipeline.data.pictures import item_pictures
from tfrec_fusion.config import ConfigError
from tfrec_fusion.serving.page.server import DEFAULT_PORT, PageServer


@contextlib.contextmanager
def serve_page(
    url: str, models: Iterable[str], port: int | None, config: PipelineConfig | None
) -> Iterator[str]:
    """Serves the page until the block ends, and says its address.

    Args:
        url: of the model server.
        models: their names.
        port: of the page; 0 takes a free one, None the configuration's.
        config: of the run that is served, for `serving.ui_port` and `serving.pictures`; None where it is not
            known.

    Yields:
        The page's address.

    Raises:
        ConfigError: the port is taken, or the pictures cannot be read.
    """
    column = config.serving.pictures if config else None
    pictures = item_pictures(tables_of(config), column) if config and column else None
    if port is None:
        port = config.serving.ui_port if config else DEFAULT_PORT
    try:
        page = PageServer(url, models, port=port, pictures=pictures)
    except OSError as error:
        raise ConfigError(
            f"`--ui_port` must be a free port. Received: {port} ({error}). Name another; 0 takes a free one."
        ) from error
    with page:
        page.prepare_explanations()
        print(f"Try it at {page.url} (on this machine only)", flush=True)
        yield page.url
