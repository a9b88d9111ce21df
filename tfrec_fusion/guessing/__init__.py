"""Roles of tables and columns, guessed from names, values, and how tables join."""

from typing import TYPE_CHECKING

from tfrec_fusion.lazy import lazy_names

__all__ = ["Guess", "Hints", "guess"]

if TYPE_CHECKING:
    from tfrec_fusion.guessing.folder import Guess, guess
    from tfrec_fusion.guessing.id_columns import Hints
else:
    __getattr__, __dir__ = lazy_names(__name__)
