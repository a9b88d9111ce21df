"""Clients of Google Cloud, and what their errors mean. Imports of Google's libraries are inside functions:
they take seconds.

Requests go over REST. `CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM` (and others of that kind) and
`STORAGE_EMULATOR_HOST` send them elsewhere, as they do for Google's own tools.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

from tfrec_fusion.config import ConfigError

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
OVERRIDE = "CLOUDSDK_API_ENDPOINT_OVERRIDES_"
SECONDS = 120.0  # to wait for an answer; Google's clients wait for ever by themselves
LOGIN = (
    "Log in with `gcloud auth application-default login`, or let GOOGLE_APPLICATION_CREDENTIALS name a"
    " service account's key file."
)


def credentials() -> Any:
    """Application default credentials.

    Raises:
        ConfigError: if there are none.
    """
    import google.auth
    import google.auth.exceptions

    try:
        credentials_found, _ = google.auth.default(scopes=[SCOPE])
    except (google.auth.exceptions.DefaultCredentialsError, OSError) as error:
        raise ConfigError(
            f"Google Cloud needs credentials. Received: {_first_line(error)} {LOGIN}"
        ) from error
    return credentials_found


def vertex_client(service: str, region: str) -> Any:
    """A client of one of Vertex AI's services in a region.

    Args:
        service: `Pipeline`, `Job`, `Model` or `Endpoint`.
        region: for example `europe-west4`.
    """
    from google.cloud import aiplatform_v1

    address = os.environ.get(f"{OVERRIDE}AIPLATFORM", f"{region}-aiplatform.googleapis.com").rstrip("/")
    client = getattr(aiplatform_v1, f"{service}ServiceClient")
    return client(transport="rest", credentials=credentials(), client_options={"api_endpoint": address})


def storage_client(project: str) -> Any:
    """A client of Cloud Storage."""
    from google.cloud import storage  # type: ignore[attr-defined]

    return storage.Client(project=project, credentials=credentials())


class Api:
    """Google's REST interfaces that have no client of their own among our packages.

    Args:
        seconds: to wait for an answer.
    """

    def __init__(self, seconds: float = 30.0):
        from google.auth.transport.requests import AuthorizedSession

        self.session, self.seconds = AuthorizedSession(credentials()), seconds

    def call(self, url: str, body: dict | None = None, headers: dict | None = None) -> Any:
        """GETs, or POSTs a body; returns the answer's JSON.

        Args:
            url: its host may be sent elsewhere by `CLOUDSDK_API_ENDPOINT_OVERRIDES_…`.

        Raises:
            google.api_core.exceptions.GoogleAPICallError: for an answer that is an error; see `explained`.
        """
        from google.api_core import exceptions

        scheme, _, rest = url.partition("://")
        host, _, path = rest.partition("/")
        service = "ARTIFACTREGISTRY" if host.endswith(".pkg.dev") else host.split(".")[0].upper()
        base = os.environ.get(f"{OVERRIDE}{service}", f"{scheme}://{host}").rstrip("/")
        method = "GET" if body is None else "POST"
        answer = self.session.request(
            method, f"{base}/{path}", json=body, headers=headers, timeout=self.seconds
        )
        if answer.status_code >= 400:
            raise exceptions.from_http_response(answer)
        return answer.json()


@contextlib.contextmanager
def explained(what: str, project: str, hint: str = "") -> Iterator[None]:
    """Turns Google's errors into what to do about them.

    Args:
        what: what was being done, as in "reading bucket b".
        project: for the advice.
        hint: added where something was refused or not found.

    Raises:
        ConfigError: instead of the error.
    """
    import concurrent.futures

    import google.auth.exceptions
    import requests
    from google.api_core import exceptions

    try:
        yield
    except concurrent.futures.TimeoutError as error:
        # Of an operation that was begun: it goes on there.
        raise ConfigError(
            f"{what} did not come to an end. Received: {_first_line(error)}. It may yet succeed: look at "
            f"https://console.cloud.google.com/vertex-ai?project={project}, "
            f"then run the same again. {hint}".rstrip()
        ) from error
    except google.auth.exceptions.RefreshError as error:
        raise ConfigError(
            f"The credentials have expired or were withdrawn ({what}). Received: {_first_line(error)}."
            f" {LOGIN}"
        ) from error
    except exceptions.Unauthorized as error:
        raise ConfigError(
            f"Google Cloud does not accept the credentials ({what}). Received: {_first_line(error)}. {LOGIN}"
        ) from error
    except exceptions.Forbidden as error:
        raise ConfigError(
            f"{what} was refused. Received: {_first_line(error)}. {_way_out(error, project, hint)}"
        ) from error
    except exceptions.NotFound as error:
        raise ConfigError(f"{what}: not found. Received: {_first_line(error)}. {hint}".rstrip()) from error
    except exceptions.TooManyRequests as error:
        raise ConfigError(
            f"{what}: a quota is used up. Received: {_first_line(error)}. Ask for more at"
            f" https://console.cloud.google.com/iam-admin/quotas?project={project}, or choose a smaller or"
            " another machine."
        ) from error
    except exceptions.BadRequest as error:
        raise ConfigError(
            f"{what} was refused as invalid. Received: {_first_line(error)}. {hint}".rstrip()
        ) from error
    except (
        exceptions.ServerError,
        exceptions.RetryError,
        google.auth.exceptions.TransportError,
        requests.exceptions.ConnectionError,
        requests.exceptions.Timeout,
    ) as error:
        raise ConfigError(
            f"Google Cloud could not be reached ({what}). Received: {_first_line(error)}. Nothing is lost:"
            " run the same command again."
        ) from error


def _way_out(error: Exception, project: str, hint: str) -> str:
    text = str(error)
    if "SERVICE_DISABLED" in text or "has not been used in project" in text or "it is disabled" in text:
        return (
            "Switch the services on: `gcloud services enable aiplatform.googleapis.com"
            f" storage.googleapis.com --project {project}`."
        )
    return hint or "Ask for the role that is named there."


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return re.sub(r"^\d{3} (?:[A-Z]+ \S+: )?", "", lines[0]).rstrip(".")
