"""The tiny models, as the tests and the pods of any user read them."""

from pathlib import Path


def test_everybody_may_read_the_models(models: Path) -> None:
    found = [models, *models.rglob("*")]
    assert any(path.name == "model.safetensors" for path in found)
    for path in found:
        readable = 0o555 if path.is_dir() else 0o444
        assert path.stat().st_mode & readable == readable, path
