"""The comparison of dislikes hides what it asks for."""

import pandas as pd

from benchmarks.dislikes import questions


def test_the_last_liked_film_and_a_disliked_one_before_it_are_hidden():
    rows = [
        ("a", "1", 5, 10), ("a", "2", 1, 20), ("a", "3", 2, 30), ("a", "4", 4, 40), ("a", "5", 1, 50),
        ("b", "6", 2, 10), ("b", "7", 3, 20),
        ("c", "8", 1, 10),
        ("d", "9", 5, 10),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["userId", "movieId", "rating", "timestamp"]).astype(str)
    asked = questions(frame.sample(frac=1, random_state=0), below=3)
    assert asked.users.tolist() == ["a", "b", "d"]  # c liked nothing
    assert asked.liked.tolist() == ["4", "7", "9"]
    # Of a single dislike nothing would be left to learn from; what came after the question is not known.
    assert asked.disliked.tolist() == ["3", "", ""]
    assert asked.known["movieId"].tolist() == ["1", "2", "6"]
