"""The house keeps its order: imports point downwards, no circles, few loose modules, no overfull folder."""

import pytest

from tests import house

LIGHT = ("errors", "version", "resources", "registry", "config")  # what `zoo list` needs


def test_every_part_has_a_level() -> None:
    assert house.without_level() == []


def test_imports_point_downwards() -> None:
    assert house.upwards() == []


def test_no_file_imports_itself_through_others() -> None:
    assert house.circles() == []


def test_a_stranger_finds_their_way() -> None:
    assert len(house.loose()) <= 13
    assert max(house.folders().values()) <= 15
    assert max(house.lengths().values()) <= 500


@pytest.mark.parametrize("module", house.MODULES)
def test_heavy_libraries_stay_where_they_belong(module: str) -> None:
    level, own = house.levels(), house.part(module)
    roots = {name.split(".")[0] for name in house.imports(house.MODULES[module])}
    if own in LIGHT:
        assert "torch" not in roots
    if level[own] <= level["generators"] and module not in ("zoo.data.module", "zoo.runtime.quiet"):
        assert not roots & {"lightning", "pytorch_lightning"}
    assert "pytorch3d" not in roots, "import PyTorch3D through zoo.renderers.p3d"
