"""The loop's simulator: clicks by a known model, and what the log says of the first position."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.loop import Clicks, first_item_value


def test_clicks_come_with_the_chances_that_are_told():
    """Two shelves: users like what others of their shelf like; lower positions are seen less."""
    rows = [
        (f"u{u}", f"i{i}", 5.0 if u % 2 == i % 2 else 1.0)
        for u in range(30)
        for i in range(40)
        if (u + i) % 7
    ]
    clicks = Clicks(pd.DataFrame(rows, columns=["user_id", "item_id", "rating"]))
    same, other = (clicks.chances("u0", [item])[0] for item in ("i2", "i3"))
    assert 0 < other < same / 2 < 0.5
    chances = clicks.chances("u0", ["i2"] * 4)
    np.testing.assert_allclose(chances, same / np.sqrt([1, 2, 3, 4]))
    drawn = np.mean([clicks.draw("u0", ["i2", "i3", "i2"]) for _ in range(3000)], 0)
    np.testing.assert_allclose(drawn, clicks.chances("u0", ["i2", "i3", "i2"]), atol=4 * np.sqrt(0.25 / 3000))


def test_the_log_tells_of_the_first_position():
    """Half of the requests show the best item first, with probability 1/2, and one in four of these is
    clicked."""
    rows = []
    for request in range(200):
        best_first = request % 2 == 0
        for position in (1, 2):
            best = best_first == (position == 1)
            click = float(best and position == 1 and request % 8 == 0)
            rows.append((f"r{request}", position, 0.5, 2.0 if best else 1.0, click, f"u{request}"))
    table = pd.DataFrame(rows, columns=["request_id", "position", "propensity", "score", "click", "user"])
    assert float(first_item_value(table).split()[0]) == pytest.approx(0.25)
