"""What a guess says of a folder, and commands that it gives."""

import subprocess

from pipeline.onboarding.offers import shown
from tfrec_fusion.guessing.folder import guess


def left(folder):
    result = guess(folder)
    return result, "\n".join([*result.ledger.notes, *map(shown, result.ledger.left)])


def offers(result):
    return {entry.column: entry.offer for entry in result.ledger.left}


def run(command, folder):
    subprocess.run(["/bin/sh", "-c", command], cwd=folder, check=True, timeout=60)
