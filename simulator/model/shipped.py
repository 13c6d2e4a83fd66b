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
    if path.is_file():
        return path
    name = path.name if path.suffix else f"{path.name}.yaml"
    relative = Path(*path.with_name(name).parts[1:]) if path.parts[:1] == ("models",) else path.with_name(name)
    shipped = models_directory() / relative
    if not path.is_absolute() and shipped.is_file():
        return shipped
    message = (
        "is a folder, expected a model file" if path.is_dir() else "no such file (tpsim models lists the shipped ones)"
    )
    raise InputError([Problem(str(path), 0, 0, "", message)])


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
