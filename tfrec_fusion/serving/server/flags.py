"""TF Serving's command-line flags, and a few of our own (marked so in `--help`)."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfrec_fusion.experiments.assignment import Experiment, read_experiments
from tfrec_fusion.experiments.checks import ExperimentError
from tfrec_fusion.experiments.exploring import Exploration, read_exploration
from tfrec_fusion.impressions.log import ImpressionLogConfig
from tfrec_fusion.serving.protocol import serving_protos
from tfrec_fusion.serving.protocol.status import invalid_argument
from tfrec_fusion.serving.protocol.version import EMULATED
from tfrec_fusion.serving.server import monitoring
from tfrec_fusion.serving.server.batching import BatchingOptions
from tfrec_fusion.serving.server.config_file import parse_text_proto
from tfrec_fusion.serving.server.limits import Limits
from tfrec_fusion.serving.server.request_log import RequestLogConfig

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Flags:
    """The flags that have an effect here, under their own names and with TF Serving's defaults."""

    port: int = 8500
    rest_api_port: int = 0
    rest_api_num_threads: int = 0
    rest_api_timeout_in_ms: int = 30_000
    rest_api_enable_cors_support: bool = False
    model_name: str = "default"
    model_base_path: str = ""
    model_config_file: str = ""
    model_config_file_poll_wait_seconds: int = 0
    file_system_poll_wait_seconds: float = 1.0
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000
    allow_version_labels_for_unavailable_models: bool = False
    force_allow_any_version_labels_for_unavailable_models: bool = False
    enable_model_warmup: bool = True
    num_request_iterations_for_warmup: int = 0
    saved_model_tags: str = "serve"
    enable_signature_method_name_check: bool = False
    enable_batching: bool = False
    batching_parameters_file: str = ""
    enable_per_model_batching_parameters: bool = False
    monitoring_config_file: str = ""
    ssl_config_file: str = ""
    grpc_max_threads: int = 0
    grpc_socket_path: str = ""
    grpc_channel_arguments: str = ""
    reload_base_paths: str = ""
    enable_serialization_as_tensor_content: bool = False
    enable_grpc_healthcheck_service: bool = False
    host: str = "127.0.0.1"
    rest_api_enable_ssl: bool = False
    request_log_file: str = ""
    request_log_sampling_rate: float = 0.01
    request_log_user_fields: str = "user_id"
    request_log_drop_fields: str = ""
    request_log_key_file: str = ""
    impressions_folder: str = ""
    impressions_key_file: str = ""
    impressions_max_bytes: int = ImpressionLogConfig.max_bytes
    experiments_file: str = ""
    exploration_file: str = ""
    retries_given: bool = False
    limits: Limits = Limits()

    def batching(self) -> BatchingOptions | None:
        """Batching's parameters, or None without `--enable_batching`."""
        if self.batching_parameters_file and not self.enable_batching:
            raise invalid_argument(
                "server_options.batching_parameters_file is set without setting "
                "server_options.enable_batching to true."
            )
        if not self.enable_batching:
            return None
        proto = serving_protos.BatchingParameters()
        if self.batching_parameters_file:
            parse_text_proto(self.batching_parameters_file, proto)
        return BatchingOptions.from_proto(proto)

    def channel_arguments(self) -> tuple[tuple[str, int | str], ...]:
        """gRPC's channel arguments; values that are integers as integers."""
        arguments: list[tuple[str, int | str]] = []
        for argument in filter(None, self.grpc_channel_arguments.split(",")):
            key, separator, value = argument.partition("=")
            if not separator:
                raise invalid_argument(
                    f"--grpc_channel_arguments takes KEY=VALUE, separated by commas. Received: {argument!r}"
                )
            arguments.append((key, int(value) if re.fullmatch(r"-?[0-9]+", value) else value))
        return tuple(arguments)

    def metrics_path(self) -> str | None:
        """Path of the Prometheus page, or None where monitoring is off."""
        if not self.monitoring_config_file:
            return None
        proto = serving_protos.MonitoringConfig()
        parse_text_proto(self.monitoring_config_file, proto)
        return (proto.prometheus_config.path or monitoring.PATH) if proto.prometheus_config.enable else None

    def ssl_config(self) -> Any:
        """The SSLConfig message, or None without `--ssl_config_file`."""
        if not self.ssl_config_file:
            return None
        proto = serving_protos.SSLConfig()
        parse_text_proto(self.ssl_config_file, proto)
        return proto

    def request_log(self) -> RequestLogConfig | None:
        """How requests are logged, or None."""
        if not self.request_log_file:
            return None
        try:
            return RequestLogConfig(
                self.request_log_file,
                self.request_log_sampling_rate,
                tuple(filter(None, self.request_log_user_fields.split(","))),
                tuple(filter(None, self.request_log_drop_fields.split(","))),
                key_file=self.request_log_key_file or f"{self.request_log_file}.key",
            )
        except ValueError as error:
            raise invalid_argument(str(error)) from None

    def experiments(self) -> tuple[Experiment, ...]:
        """Whose arms users have."""
        try:
            return read_experiments(self.experiments_file) if self.experiments_file else ()
        except ExperimentError as error:
            raise invalid_argument(str(error)) from None

    def exploration(self) -> Exploration | None:
        """How answers are explored, or None."""
        try:
            return read_exploration(self.exploration_file) if self.exploration_file else None
        except ExperimentError as error:
            raise invalid_argument(str(error)) from None

    def impressions(self) -> ImpressionLogConfig | None:
        """How impressions are logged, or None."""
        if not self.impressions_folder:
            return None
        try:
            return ImpressionLogConfig(
                self.impressions_folder, self.impressions_key_file, self.impressions_max_bytes
            )
        except ValueError as error:
            raise invalid_argument(str(error)) from None


_HELP = {
    "port": "TCP port of gRPC; 0 for none.",
    "rest_api_port": "TCP port of HTTP/REST; 0 for none.",
    "rest_api_num_threads": "Threads for REST requests; 0 for 4 a core.",
    "rest_api_timeout_in_ms": "How long a REST request may take.",
    "rest_api_enable_cors_support": "Send CORS headers.",
    "model_name": "Name of the one model.",
    "model_base_path": "The folder that holds its version folders.",
    "model_config_file": "A ModelServerConfig text proto, instead of the two flags above.",
    "model_config_file_poll_wait_seconds": "How often that file is read again; 0 for never.",
    "file_system_poll_wait_seconds": "How often base paths are looked at; 0 for once.",
    "max_num_load_retries": "How often a version that failed to load is tried again.",
    "load_retry_interval_micros": "The pause between these tries.",
    "allow_version_labels_for_unavailable_models": (
        "Let an unused label name a version that is not loaded yet."
    ),
    "force_allow_any_version_labels_for_unavailable_models": "Let any label do so, whatever it named before.",
    "enable_model_warmup": "Run the warm-up requests that a model carries.",
    "num_request_iterations_for_warmup": "How often each of them is run; 0 for once.",
    "saved_model_tags": "Comma-separated tags of the graph to load.",
    "enable_signature_method_name_check": "Ask a signature only for what its method name says.",
    "enable_batching": "Batch requests of several clients.",
    "batching_parameters_file": "A BatchingParameters text proto.",
    "enable_per_model_batching_parameters": "Batch models that have a batching_params.pbtxt, as it says.",
    "monitoring_config_file": "A MonitoringConfig text proto.",
    "ssl_config_file": "An SSLConfig text proto: TLS for gRPC.",
    "grpc_max_threads": "Threads for gRPC requests; 0 for 4 a core.",
    "grpc_socket_path": "A UNIX socket to serve gRPC at too.",
    "grpc_channel_arguments": "Arguments of the gRPC server: KEY=VALUE, separated by commas.",
    "enable_serialization_as_tensor_content": "Send outputs in tensor_content.",
    "enable_grpc_healthcheck_service": "Serve gRPC's health check.",
    "reload_base_paths": (
        "(not TF Serving's) Folders, separated by commas, that models may be loaded from when their "
        "configuration comes by gRPC. Without it, that works on loopback alone, and from any folder."
    ),
    "host": "(not TF Serving's) Address to bind to; 0.0.0.0 opens the server to the network.",
    "rest_api_enable_ssl": "(not TF Serving's) TLS for REST too, from --ssl_config_file.",
    "request_log_file": "(not TF Serving's) Where a sample of requests is written.",
    "request_log_sampling_rate": "(not TF Serving's) The share of requests that is written.",
    "request_log_user_fields": (
        "(not TF Serving's) Inputs and features that get pseudonyms, separated by commas."
    ),
    "request_log_drop_fields": "(not TF Serving's) Inputs and features that are not written at all.",
    "request_log_key_file": (
        "(not TF Serving's) The key of the pseudonyms, made where it is not there (mode 0600); "
        "beside the log where empty."
    ),
    "impressions_folder": (
        "(not TF Serving's) Where all that is shown is logged, and feedback that comes to /v1/feedback."
    ),
    "impressions_key_file": "(not TF Serving's) As --request_log_key_file, of the impressions.",
    "experiments_file": "(not TF Serving's) JSON of experiments: who gets which arm, and which version.",
    "exploration_file": "(not TF Serving's) JSON of how the answers to `recommend` are explored.",
    "impressions_max_bytes": (
        "(not TF Serving's) What the impressions' files may take; the oldest are removed."
    ),
}

_WITHOUT_EFFECT = (
    "enable_profiler",
    "enforce_session_run_timeout",
    "fail_if_no_model_versions_found",
    "flush_filesystem_caches",
    "mixed_precision",
    "num_load_threads",
    "num_tflite_interpreters_per_pool",
    "num_tflite_pools",
    "num_unload_threads",
    "per_process_gpu_memory_fraction",
    "platform_config_file",
    "prefer_tflite_model",
    "remove_unused_fields_from_bundle_metagraph",
    "skip_initialize_tpu",
    "tensorflow_inter_op_parallelism",
    "tensorflow_intra_op_parallelism",
    "tensorflow_session_config_file",
    "tensorflow_session_parallelism",
    "thread_pool_factory_config_file",
    "use_alts_credentials",
    "use_tflite_model",
    "xla_cpu_compilation_enabled",
    "xla_gpu_compilation_enabled",
)
"""Flags of TF Serving that are taken, so that a command line works unchanged, and do nothing here."""


_ENVIRONMENT = {"MODEL_NAME": "model", "MODEL_BASE_PATH": "/models"}
"""What the Docker image's entry point reads, with its defaults."""


def _boolean(text: str) -> bool:
    lowered = text.lower()
    if lowered in ("true", "1", "t", "yes"):
        return True
    if lowered in ("false", "0", "f", "no"):
        return False
    raise argparse.ArgumentTypeError(f"must be true or false. Received: {text!r}")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"TensorFlow ModelServer: {EMULATED} (embedded)\nTensorFlow Library: {tf.__version__}")
        parser.exit()


def parse_flags(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> Flags:
    """Reads a command line.

    Without a flag that says what to serve, `MODEL_NAME` and `MODEL_BASE_PATH` of the environment do, as in TF
    Serving's Docker image: the model's base path is `$MODEL_BASE_PATH/$MODEL_NAME`, by default
    `/models/model`.

    Raises:
        StatusError: the flags do not say which model to serve, or contradict each other.
        SystemExit: a flag is unknown or of the wrong type, or `--help` or `--version` was asked for.
    """
    parser = argparse.ArgumentParser(
        "tfrec_fusion.serving.server", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    for field in dataclasses.fields(Flags):
        if field.name not in _HELP:
            continue
        help_text = f"{_HELP[field.name]} Default: {field.default!r}."
        if isinstance(field.default, bool):
            parser.add_argument(f"--{field.name}", type=_boolean, nargs="?", const=True, help=help_text)
        else:
            parser.add_argument(f"--{field.name}", type=type(field.default), help=help_text)
    for names, default, text in Limits.flags():
        flag_names = [f"--{name}" for name in names]
        parser.add_argument(
            *flag_names, type=type(default), help=f"(not TF Serving's) {text} Default: {default!r}."
        )
    for name in _WITHOUT_EFFECT:
        parser.add_argument(f"--{name}", nargs="?", const="true", help=argparse.SUPPRESS)
    parser.add_argument("--version", action=_Version, nargs=0, help="Say which versions these are, and end.")
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    if ignored := sorted(given.keys() & set(_WITHOUT_EFFECT)):
        logger.warning("Flags that do nothing here: --%s", ", --".join(ignored))
    values = {name: value for name, value in given.items() if name in _HELP}
    retries_given = bool({"max_num_load_retries", "load_retry_interval_micros"} & given.keys())
    if (
        not values.keys() & {"model_base_path", "model_config_file"}
        and environment.keys() & _ENVIRONMENT.keys()
    ):
        name, folder = (environment.get(key) or default for key, default in _ENVIRONMENT.items())
        values = {"model_name": name, **values, "model_base_path": os.path.join(folder, name)}
    limits = {names[0]: given[names[0]] for names, *_ in Limits.flags() if names[0] in given}
    flags = Flags(**values, retries_given=retries_given, limits=Limits(**limits))
    if not flags.model_base_path and not flags.model_config_file:
        raise invalid_argument(
            "Both server_options.model_base_path and server_options.model_config_file are empty!"
        )
    if flags.port and flags.port == flags.rest_api_port:
        raise invalid_argument(
            "--rest_api_port cannot be same as --port. Please use a different port for HTTP/REST API."
        )
    if flags.rest_api_enable_ssl and not flags.ssl_config_file:
        raise invalid_argument("--rest_api_enable_ssl needs certificates. Give --ssl_config_file.")
    return flags
