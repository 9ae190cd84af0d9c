"""A header or an order of axes that makes no head of what is one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from builders import ellipsoid, prepared_case
from fvv.arrays import BoolArray
from fvv.data import Case, Finding, Severity, Volume
from fvv.imaging.preprocess import preprocess_case
from fvv.imaging.quality import assess_quality
from fvv.imaging.quality.shape import _moments, closed_axes, extents_mm, size_and_axes
from fvv.imaging.quality.view import NativeView, native_view
from imaging.quality.test_quality import BOUNDS, CLEAN, ROBUST, case_of

Simulated = Callable[[int], Any]
ORDERS = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))


def view_of(simulated: Simulated, number: int) -> NativeView:
    """Axes right, anterior, superior."""
    made = simulated(number)
    turned = (lambda a: a[::-1]) if made.affine[0, 0] < 0 else (lambda a: a)
    affine = np.diag([*np.sqrt((made.affine[:3, :3] ** 2).sum(axis=0)), 1.0])
    case = Case("p", Volume(turned(made.b0).astype(float), affine), Volume(turned(made.b1000).astype(float), affine))
    return native_view(case, preprocess_case(case, ROBUST), brain_volume_bounds_ml=BOUNDS)


def with_brain(view: NativeView, brain: BoolArray) -> NativeView:
    return replace(view, brain=np.ascontiguousarray(brain))


def shape_findings(view: NativeView) -> list[Finding]:
    return list(size_and_axes(view))


def codes(found: list[Finding]) -> set[str]:
    assert all(finding.severity is Severity.NOT_ASSESSABLE for finding in found)
    return {finding.code for finding in found}


@pytest.mark.parametrize("number", CLEAN)
def test_a_head_where_it_should_be(simulated: Simulated, number: int) -> None:
    assert shape_findings(view_of(simulated, number)) == []


@pytest.mark.parametrize("number", CLEAN[::5])
def test_all_orders_but_the_affines_own_are_told(simulated: Simulated, number: int) -> None:
    """Left-right mirrored alone, a head looks like another head."""
    view = view_of(simulated, number)
    for axes, (x, y, z) in ORDERS:
        stored = view.brain.transpose(axes)[::x, ::y, ::z]
        right = axes == (0, 1, 2) and (y, z) == (1, 1)
        assert bool(shape_findings(with_brain(view, stored))) is not right, (axes, x, y, z)


def test_the_likely_order_is_named(simulated: Simulated) -> None:
    view = view_of(simulated, 6)
    (found,) = shape_findings(with_brain(view, view.brain.transpose(2, 1, 0)))
    assert found.code == "brain-size"
    assert "in the order (z, y, x)" in found.message


@pytest.mark.parametrize(("first", "last"), [(8, 16), (0, 8), (12, None)])
def test_of_a_slab_only_turning_in_plane_is_told(simulated: Simulated, first: int, last: int | None) -> None:
    view = view_of(simulated, 6)
    slab = view.brain[..., first:last]
    padded = np.pad(slab, [(0, 0), (0, 0), (2, 2)])
    for brain in (slab, padded):
        assert not closed_axes(brain)[2]
        assert shape_findings(with_brain(view, brain)) == []
    if first == 0:  # The cerebellum is wider than long itself.
        return
    turned = replace(with_brain(view, slab.swapaxes(0, 1)), spacing_mm=(view.spacing_mm[0],) * 2 + view.spacing_mm[2:])
    assert codes(shape_findings(turned)) == {"head-axes"}


@pytest.mark.parametrize("edges_mm", [(1.0, 1.0, 1.0), (0.001, 0.001, 0.005), (0.1, 0.1, 0.5), (0.25, 0.25, 1.3)])
def test_a_header_that_lost_the_voxel_size(simulated: Simulated, edges_mm: tuple[float, float, float]) -> None:
    affine = np.diag([*edges_mm, 1.0])
    case = case_of(simulated, 6)
    case = replace(case, b0=Volume(case.b0.array, affine), b1000=Volume(case.b1000.array, affine))
    found = assess_quality(native_view(case, preprocess_case(case, ROBUST), brain_volume_bounds_ml=BOUNDS))
    (size,) = [finding for finding in found if finding.code == "brain-size"]
    assert size.severity is Severity.NOT_ASSESSABLE
    assert ("converter" in size.message) is (edges_mm[0] == 1)
    assert any(finding.code == "brain-volume" and "expected 400 to" in finding.message for finding in found)


def test_extents_are_those_of_nearly_all_voxels() -> None:
    brain = np.zeros((40, 40, 4), dtype=bool)
    brain[10:30, 5:35, :] = True
    brain[39, 39, 0] = True
    assert extents_mm(brain, (2.0, 1.0, 5.0)) == (40.0, 30.0, 20.0)


@pytest.mark.parametrize("finer", [1, 2, 3, 4])
def test_a_symmetric_body_lies_right_on_any_grid(finer: int) -> None:
    """Of points chosen at a fixed step there was one side of the slices more than of the other."""
    shape = (64 * finer, 64 * finer, 10)
    brain = ellipsoid(shape, tuple((n - 1) / 2 for n in shape), (17.5 * finer, 21 * finer, 4.9))
    view = NativeView(
        *[np.zeros(shape)] * 2, brain=brain, core=brain, not_finite=~brain, spacing_mm=(4 / finer, 4 / finer, 10.0),
        prepared=prepared_case(np.random.default_rng(0)), brain_volume_bounds_ml=BOUNDS,
    )  # fmt: skip
    assert shape_findings(view) == []
    skewness, lowness = _moments(view)
    assert abs(skewness) < 0.02
    assert abs(lowness) < 0.02
