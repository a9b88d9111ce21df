"""Experiments that say which version is better: estimates from logs, live experiments, interleaving and
exploration; NumPy and SciPy.

`Experiment` assigns arms and needs the standard library alone.
"""

from typing import TYPE_CHECKING

from tfrec_fusion.lazy import lazy_names

__all__ = [
    "Arm",
    "Comparison",
    "Experiment",
    "ExperimentError",
    "Exploration",
    "Explored",
    "Interleaved",
    "NoSupport",
    "OffPolicyEstimate",
    "Outcomes",
    "Preference",
    "Reading",
    "Readout",
    "SampleRatio",
    "adjust",
    "always_valid",
    "arms_of",
    "arms_text",
    "check_sample_ratio",
    "clip_weights",
    "compare",
    "cross_fitted_means",
    "doubly_robust",
    "effective_sample_size",
    "explore",
    "ips",
    "minimum_effect",
    "power",
    "preference",
    "read_outcomes",
    "read_table",
    "readout",
    "sample_size",
    "snips",
    "team_draft",
]

if TYPE_CHECKING:
    from tfrec_fusion.experiments.assignment import Arm, Experiment, arms_of, arms_text
    from tfrec_fusion.experiments.checks import ExperimentError
    from tfrec_fusion.experiments.comparing import Comparison, adjust, compare
    from tfrec_fusion.experiments.exploring import Exploration, Explored, explore
    from tfrec_fusion.experiments.interleaving import Interleaved, team_draft
    from tfrec_fusion.experiments.off_policy import (
        NoSupport,
        OffPolicyEstimate,
        clip_weights,
        cross_fitted_means,
        doubly_robust,
        effective_sample_size,
        ips,
        snips,
    )
    from tfrec_fusion.experiments.outcome_files import read_table
    from tfrec_fusion.experiments.outcomes import Outcomes, Reading, read_outcomes
    from tfrec_fusion.experiments.planning import minimum_effect, power, sample_size
    from tfrec_fusion.experiments.preferences import Preference, preference
    from tfrec_fusion.experiments.results import Readout, readout
    from tfrec_fusion.experiments.sample_ratio import SampleRatio, check_sample_ratio
    from tfrec_fusion.experiments.sequential import always_valid
else:
    __getattr__, __dir__ = lazy_names(__name__)
