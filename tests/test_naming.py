"""Names made of what columns are called: never the same for two columns, and fit for TensorFlow, files and
requests."""

import re

import pytest
import tensorflow as tf
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tfrec_fusion import naming

INTERNAL = [
    "index",
    "id",
    "activity",
    "train_count",
    "item_id",
    "user_index",
    "context_device",
    "history",
    "k",
    "text",
]
HOSTILE = [
    "",
    " ",
    "a b",
    "a_b",
    "a/b",
    "A b",
    "Größe",
    "Gro\u0308ße",
    "店",
    "price (%)",
    "x" * 5000,
    "\x00",
    "a\nb",
    "$5_$10",
]
# The clock says nothing about names, and a busy machine much about the clock.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
columns = st.one_of(
    st.text(max_size=40),
    st.sampled_from(INTERNAL + HOSTILE),
    st.sampled_from(INTERNAL).map(naming.identifier),
    st.text(max_size=8).map(naming.identifier),
)


@PATIENT
@given(columns, columns)
@example("Größe", "Gro\u0308ße")
@example("a b", naming.identifier("a b"))
@example("Size", "size")
def test_two_columns_never_share_a_name(one, other):
    assert (naming.context_input(one) == naming.context_input(other)) == (one == other)
    # TensorFlow's export and file systems may be blind to case.
    for made in (naming.identifier, naming.digest):
        assert (made(one).lower() == made(other).lower()) == (one == other)


@PATIENT
@given(st.lists(columns, max_size=6, unique=True))
@example(["Device", "device", "DEVICE", naming.identifier("Device"), "a b", "A b"])
def test_no_two_inputs_are_one_in_another_case_and_clients_find_them_all(names):
    for inputs in (naming.context_inputs(names), list(naming.request_inputs(names, {"k", "user_id"}))):
        assert len({name.lower() for name in inputs}) == len(names)
    inputs = naming.context_inputs(names)
    for column, name in zip(names, inputs, strict=True):
        if column not in inputs:
            assert naming.find_input(column, inputs) == name


@PATIENT
@given(columns)
def test_names_are_fit_for_scopes_and_signatures(column):
    assert re.fullmatch("[A-Za-z0-9_]{1,64}", naming.identifier(column))
    assert re.fullmatch("context_[A-Za-z0-9_]{1,64}", naming.context_input(column))


@PATIENT
@given(st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_]{0,20}", fullmatch=True))
def test_plain_names_stay_as_they_are(column):
    assert naming.identifier(column.lower()) == column.lower()
    assert naming.context_input(column) == f"context_{column}"
    assert naming.context_inputs([column, "other column"])[0] == f"context_{column}"


@PATIENT
@given(columns)
def test_a_client_finds_the_input_of_a_column(column):
    inputs = ["user_id", "history", "text", "k", naming.context_input(column)]
    expected = column if column in inputs else naming.context_input(column)
    assert naming.find_input(column, inputs) == expected
    assert naming.find_input(naming.context_input(column), inputs) == naming.context_input(column)


def test_a_name_that_means_no_input_comes_back():
    assert naming.find_input("Device Type", ["user_id"]) == "Device Type"


def test_a_feature_keeps_its_name_where_a_request_can_have_it():
    result = naming.request_inputs(["context_device", "K", "Device Type", "Country"], {"k"})
    assert result == {
        "context_device": "context_device",
        "context_K": "K",
        naming.context_input("Device Type"): "Device Type",
        "Country": "Country",
    }
    with pytest.raises(ValueError, match="'k', whose 'context_k' is there already"):
        naming.request_inputs(["context_k", "k"], {"k"})


@pytest.mark.parametrize("column", HOSTILE + INTERNAL)
def test_tensorflow_takes_the_names(column):
    name = naming.context_input(column)
    with tf.Graph().as_default(), tf.name_scope(name):
        assert tf.constant(1).name.startswith(name)
    function = tf.function(lambda **given: {"x": given[name]})
    made = function.get_concrete_function(**{name: tf.TensorSpec([None], tf.string, name)})
    assert [spec.name for spec in tf.nest.flatten(made.structured_input_signature)] == [name]


def test_columns_that_differ_in_case_alone_can_be_exported(tmp_path):
    names = naming.context_inputs(["Device", "device", "DEVICE", "class", "K"])
    function = tf.function(lambda **given: {"all": tf.strings.join([given[name] for name in names], "|")})
    signature = function.get_concrete_function(
        **{name: tf.TensorSpec([None], tf.string, name) for name in names}
    )
    tf.saved_model.save(tf.Module(), str(tmp_path), signatures=signature)
    served = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    assert served(**{name: tf.constant([name]) for name in names})["all"].numpy()[0].decode() == "|".join(
        names
    )
