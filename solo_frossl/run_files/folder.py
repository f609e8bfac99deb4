"""Run folders: one a run, never overwritten."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    Args:
        path: the run's folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration; ``--config`` on it starts the same run again."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One row an epoch."""
        return self.path / "metrics.csv"

    @property
    def spectrum(self) -> Path:
        """Eigenvalues by step."""
        return self.path / "spectrum.bin"

    @property
    def curves(self) -> Path:
        """The picture of the metrics."""
        return self.path / "curves.png"

    @property
    def status(self) -> Path:
        """Whether it is running, and how it ended."""
        return self.path / "status.json"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def previous(self) -> Path:
        """The checkpoint before the newest, used when the newest cannot be read."""
        return self.path / "checkpoints" / "previous.ckpt"

    @property
    def best(self) -> Path:
        """The checkpoint of the epoch with the best online top-1."""
        return self.path / "checkpoints" / "best.ckpt"


def new_run(runs_dir: str | Path, name: str) -> RunFolder:
    """Make the folder ``runs_dir/name``, or ``name-2``, ``name-3``, ... when that name was used before.

    Raises:
        ValueError: the name would leave ``runs_dir``.
    """
    runs_dir = Path(runs_dir)
    if not name or Path(name).name != name or name in (".", ".."):
        raise ValueError(f"name is {name!r}: it must be a plain folder name, without slashes")
    number = 1
    while True:
        path = runs_dir / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            number += 1
            continue
        return RunFolder(path)


def find_run(runs_dir: str | Path, name: str | None = None) -> RunFolder:
    """The run to resume: the folder ``name`` if that is a path to one, else the newest of that name, or of all.

    Newest is by the time its configuration was written.

    Raises:
        FileNotFoundError: there is no such run.
    """
    runs_dir = Path(runs_dir)
    if name is not None and (Path(name) / "config.yaml").is_file():
        return RunFolder(Path(name))
    runs = [p.parent for p in runs_dir.glob("*/config.yaml")]
    if name is not None:
        name = name.rstrip("/")
        numbered = {name, *(f"{name}-{n}" for n in range(2, len(runs) + 2))}
        runs = [p for p in runs if p.name in numbered]
    if not runs:
        which = f"no run named {name!r}" if name else "no run"
        raise FileNotFoundError(f"{which} in {runs_dir.resolve()}")
    return RunFolder(max(runs, key=lambda p: ((p / "config.yaml").stat().st_mtime_ns, p.name)))
