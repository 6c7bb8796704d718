"""The paper's experiments: lists them, runs one, or rebuilds the page and figures.

python -m experiments
python -m experiments NAME [options]
python -m experiments search NAME [--pilot]
python -m experiments paper --minutes 9
python -m experiments report
"""

import sys
from collections.abc import Sequence

from experiments.lab import catalogue, page, search


def main(argv: Sequence[str] | None = None) -> int:
    """Does what the command line says."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if not argv or argv[0] in ("-h", "--help", "list"):
        print(listing())
        return 0
    name, *rest = argv
    if name == "search":
        return search.main(rest)
    if name == "paper":
        from experiments import paper

        return paper.main(rest)
    if name == "report":
        return _report(rest)
    if name not in catalogue.NAMES:
        print(
            f"python -m experiments: there is no experiment {name!r}; choose from "
            f"{', '.join(catalogue.NAMES)}, or say report",
            file=sys.stderr,
        )
        return 2
    return catalogue.load(name).run(rest)


def listing() -> str:
    """The experiments with their time and memory."""
    experiments = [catalogue.load(name) for name in catalogue.NAMES]
    width = max(len(experiment.command) for experiment in experiments)
    lines = ["Time on two quiet CPU cores, and memory:", ""]
    lines += [
        f"  {e.command:<{width}}  {e.minutes:>3g} min {e.memory_gb:>4.1f} GB  {e.title}"
        for e in experiments
    ]
    lines += [
        "",
        "With --quick each takes about a minute; --help lists the options.",
        "python -m experiments report: experiments/README.md and every figure anew.",
    ]
    return "\n".join(lines)


def _report(argv: Sequence[str]) -> int:
    if argv:
        print(
            f"python -m experiments report: expected nothing more, got {argv[0]!r}",
            file=sys.stderr,
        )
        return 2
    experiments = [catalogue.load(name) for name in catalogue.NAMES]
    for experiment in experiments:
        record = experiment.record()
        if record is not None:
            experiment.figure(record, experiment.picture)
            print(f"drew {experiment.picture}")
    page.PATH.write_text(page.render(experiments))
    print(f"wrote {page.PATH}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
