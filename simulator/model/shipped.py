"""Models that come with tpsim."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from simulator.errors import InputError, Problem


def models_directory() -> Path:
    """Where the shipped models are: inside the package, or beside it in a checkout."""
    packaged = Path(str(resources.files("simulator"))) / "shipped_models"
    return packaged if packaged.is_dir() else packaged.parent.parent / "models"


def find_model(path: str | Path) -> Path:
    """The model file of that path, or the shipped one of that name; raises InputError where there is neither."""
    path = Path(path)
    is_folder = path.is_dir()
    if path.exists() and not is_folder:
        return path
    shipped = _shipped(path)
    if shipped is not None:
        return shipped
    absent = "no such file (tpsim models lists the shipped ones)"
    message = "is a folder, expected a model file" if is_folder else absent
    raise InputError([Problem(str(path), 0, 0, "", message)])


def _shipped(path: Path) -> Path | None:
    """The shipped model of that name, which may have `models/` before it and `.yaml` behind it."""
    if path.is_absolute() or not path.name:
        return None
    named = path if path.suffix else path.with_name(f"{path.name}.yaml")
    relative = Path(*named.parts[1:]) if named.parts[0] == "models" else named
    shipped = models_directory() / relative
    return shipped if shipped.is_file() else None


def shipped_models() -> list[tuple[str, str]]:
    """Name and one-line description of every shipped model."""
    from simulator.model.files import load

    directory = models_directory()
    found = []
    for path in sorted(directory.rglob("*.yaml")):
        if path.parent.name == "hardware" or path == directory / "llms.yaml":
            continue
        description = load(path).description.strip().split("\n")[0]
        found.append((str(path.relative_to(directory).with_suffix("")), description))
    return found
