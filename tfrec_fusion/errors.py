"""The errors that a sentence explains: the rule, the value seen, the way out.

    TfrecError
      ├── ConfigError (a ValueError)                      settings or tables that cannot be used
      │     └── AtWork                                    another process is at work in the same folder
      ├── RequestError (a ValueError)                     refused before anything was sent
      ├── PretrainedNotFoundError (a FileNotFoundError)   no such encoder, or no network
      ├── EndpointError (a RuntimeError)                  a language model that does not answer
      │     ├── NotAnswered                               one question, after all retries
      │     └── BudgetSpent                               one that was not sent
      ├── ServingError (a RuntimeError)                   not answered, or with an error; its classes say why
      └── StepFailed (a RuntimeError)                     a component failed; the log has the stack

In this order they are defined in `config`, `files`, `export.request`, `layers.pretrained`,
`enrichment.endpoint`, `serving.client.errors` and `pipeline.runner.summary`, beside their rules. Every other
exception is a defect, or the machine's (a full disk, Ctrl-C).
"""

from __future__ import annotations

__all__ = ["TfrecError"]


class TfrecError(Exception):
    """Base of the errors whose message is meant for whoever gave the input."""
