"""The shop of films that the end-to-end tests run: users who like one theme walk through its films."""

import pathlib

import numpy as np
import pandas as pd

THEMES = {
    "Space": ["rocket", "planet", "galaxy", "astronaut", "alien", "star"],
    "Love": ["wedding", "kiss", "romance", "bride", "heart", "letter"],
    "War": ["soldier", "battle", "general", "trench", "tank", "victory"],
}
YAML = """
name: films
root: {root}
data:
  interactions: {{path: interactions.csv, user: user, item: film, time: when, label: stars}}
  items: {{path: films.parquet, id: film, title: title, text: [title, plot],
    categories: [theme], numbers: [year]}}
  users: {{path: users.csv, id: user, categories: [likes]}}
split: {{method: temporal, validation: 0.15, test: 0.15, light_user: 5, rare_item: 5}}
text: {{max_length: 24}}
retrieval:
  tower: {{dim: 16}}
  training: {{epochs: 12, batch_size: 16, learning_rate: 0.01}}
ranking:
  tower: {{dim: 8, user_id: true}}
  training: {{epochs: 8, batch_size: 64, learning_rate: 0.01}}
evaluation: {{k: [5, 10]}}
serving: {{queries: [a film about astronauts], keep_versions: 20}}
"""


def write_films(folder: pathlib.Path) -> pathlib.Path:
    """Writes the tables, whose films' texts tell their theme, and returns the configuration's path."""
    rng = np.random.default_rng(0)
    films = [
        (
            f"f{number}",
            f"The {word} of {theme}",
            f"A {word} and another {words[(position + 1) % 6]}",
            theme,
            1990.0 + number,
        )
        for number, (theme, position, word, words) in enumerate(
            (theme, position, word, words)
            for theme, words in THEMES.items()
            for position, word in enumerate(words * 2)
        )
    ]
    pd.DataFrame(films, columns=["film", "title", "plot", "theme", "year"]).to_parquet(
        folder / "films.parquet"
    )
    by_theme = {theme: [film[0] for film in films if film[3] == theme] for theme in THEMES}
    rows, users = [], []
    for user in range(60):
        theme = list(THEMES)[user % 3]
        users.append((f"u{user}", theme if user % 4 else None))
        start = rng.integers(100)
        for step in range(10):
            film = by_theme[theme][(start + step) % len(by_theme[theme])]
            rows.append(
                (
                    f"u{user}",
                    film,
                    f"2024-01-{1 + step:02d}T{user % 24:02d}:00:00",
                    3 + int(user % 2) + step % 2,
                )
            )
    pd.DataFrame(rows, columns=["user", "film", "when", "stars"]).to_csv(
        folder / "interactions.csv", index=False
    )
    pd.DataFrame(users, columns=["user", "likes"]).to_csv(folder / "users.csv", index=False)
    path = folder / "films.yaml"
    path.write_text(YAML.format(root=folder / "runs"))
    return path
