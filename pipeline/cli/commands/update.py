"""`tfrec update`."""

from __future__ import annotations

from pipeline.cli.command import Section, command
from pipeline.cli.options import Chosen, configured, learning_on, quiet_tensorflow


@command(
    Section.LOOP,
    """
    tfrec update shop.yaml
    tfrec update shop.yaml --replay 0.5 --epochs 5
    """,
)
@configured
@learning_on
def update(chosen: Chosen, replay: float, epochs: int) -> int:
    """Let the pushed models learn what came since, and push them where they are not worse."""
    quiet_tensorflow()
    config = chosen.load()
    from pipeline.updating.updates import run_update

    report = run_update(config, replay=replay, epochs=epochs, say=lambda line: print(line, flush=True))
    for kind, one in (("retrieval", report), ("ranking", report["ranking"])):
        if one is not None and one["users"]:
            print(
                f"{kind}: {one['figure']} of {one['users']:,} users on the newest window:"
                f" {one['before']:.4f} before, {one['after']:.4f} after ({one['low']:+.4f} to"
                f" {one['high']:+.4f})"
            )
    for reason in report["reasons"]:
        print(f"not pushed; {reason}")
    for folder in report["versions"].values():
        print(f"pushed to {folder}")
    print(f"{report['seconds']:.0f} s")
    return 0 if report["pushed"] else 2
