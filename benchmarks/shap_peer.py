"""SHAP's values of the items of histories, in an environment of its own that has `shap`.

Speaks with `benchmarks.explanations` over its standard input and output, a JSON document a line: it is told
the number of items of a history, asks for the scores of histories of which some items are left out (`masks`),
and answers with a value an item (`values`).
"""

import json
import sys

import numpy as np
import shap


def tell(document: dict) -> None:
    """Writes a line."""
    print(json.dumps(document), flush=True)


def main() -> None:
    """Answers until there is no further line."""
    tell({"version": shap.__version__})
    for line in sys.stdin:
        task = json.loads(line)

        def scores(masks: np.ndarray) -> np.ndarray:
            tell({"masks": np.asarray(masks).astype(int).tolist()})
            return np.array(json.loads(sys.stdin.readline())["scores"])

        explainer = shap.KernelExplainer(scores, np.zeros((1, task["items"])))
        ones = np.ones((1, task["items"]))
        values = explainer.shap_values(ones, nsamples=task["samples"], silent=True, l1_reg=0.0)
        tell({"values": np.ravel(values).tolist()})


if __name__ == "__main__":
    main()
