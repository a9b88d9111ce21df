"""The small inputs of `../shared/cases` against the right results that their READMEs state: all are tried.

The other modules of this folder read the cases' own files. Cases that ask for a trained model or a server
have no files beside a script; `ELSEWHERE` names the tests that hold their right results.
"""

import ast
import pathlib

from tests.cases.reading import CASES, ROOT, needs_cases

pytestmark = needs_cases

ELSEWHERE = {
    "report-05-added-tokens": ("layers.test_encoder_folders", "test_added_tokens_are_obeyed"),
    "report-07-pooling-of-the-encoder": (
        "layers.test_encoder_folders",
        "test_what_cannot_be_done_is_refused_by_name",
    ),
    "report-09-fewer-items-than-k": (
        "test_requests",
        "test_an_answer_holds_what_is_left_and_numbers_alone",
    ),
    "table-21-requests-with-unknown-values": (
        "pipeline.test_requests_by_command",
        "test_an_unknown_category_is_an_error_with_the_near_ones",
    ),
    "table-22-no-times-become-1970": (
        "pipeline.test_figure_words",
        "test_without_times_there_is_no_period",
    ),
    "table-23-not-pushed-no-way-out": ("pipeline.test_unpushed", "test_commands_say_why_and_what_to_try"),
}


def test_every_case_is_tried():
    here = "".join(file.read_text() for file in pathlib.Path(__file__).parent.glob("test_*.py"))
    for folder in sorted(CASES.iterdir()):
        if not folder.is_dir():
            continue
        if folder.name in ELSEWHERE:
            module, name = ELSEWHERE[folder.name]
            file = ROOT / "tests" / (module.replace(".", "/") + ".py")
            functions = {node.name for node in ast.walk(ast.parse(file.read_text())) if hasattr(node, "name")}
            assert name in functions, f"{folder.name}: {module} has no {name}"
        else:
            number = "-".join(folder.name.split("-")[:2])
            assert f'"{number}"' in here, f"no test reads {folder.name}"
