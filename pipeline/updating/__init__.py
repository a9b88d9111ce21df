"""Updates: a pushed model learns on from what came since, without the whole pipeline."""
