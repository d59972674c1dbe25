"""`python -m tests.fuzz TARGET --seconds N`: coverage-guided fuzzing of a parser from the corpus in the tree. A finding ends
it, with the input in a file. `--keep` adds what reached new code to the corpus."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris
import click

with atheris.instrument_imports(include=["jiffy.image", "jiffy.server.oci_config", "tarfile"]):
    from tests.fuzz.targets import TARGETS, attempt

CORPUS = Path(__file__).parent / "corpus"


@click.command()
@click.argument("target", type=click.Choice(list(TARGETS)))
@click.option("--seconds", default=60, show_default=True)
@click.option("--keep", is_flag=True, help="Add what reached new code to the corpus.")
@click.option("--scratch", type=click.Path(path_type=Path, file_okay=False, exists=True), required=True)
def main(target: str, seconds: int, keep: bool, scratch: Path) -> None:
    corpus = CORPUS / target
    folders = [str(corpus)] if keep else [str(scratch), str(corpus)]
    limits = [f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=20000", "-verbosity=0"]
    options = [*limits, f"-artifact_prefix={scratch}/finding-", "-close_fd_mask=0", "-print_final_stats=0"]
    atheris.Setup([sys.argv[0], *options, *folders], lambda data: attempt(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
