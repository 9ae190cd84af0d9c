"""Protocols of the simulated scanners."""

from __future__ import annotations

import numpy as np
import pytest

from fvv.config import SimulateConfig
from fvv.simulator.scanner import SITES, draw_protocol


def test_protocols_lie_on_clinical_grids():
    for seed in range(120):
        protocol = draw_protocol(np.random.default_rng(seed), SITES[seed % len(SITES)], SimulateConfig())
        assert all(112 <= n <= 320 for n in protocol.matrix)
        assert all(96 <= a <= n for a, n in zip(protocol.acquired, protocol.matrix, strict=True))
        assert 20 <= protocol.n_slices <= 36
        assert 3.0 <= protocol.spacing_mm <= 6.0
        assert protocol.thickness_mm <= protocol.spacing_mm
        assert np.linalg.det(protocol.affine[:3, :3]) / 1000 == pytest.approx(
            protocol.voxel_volume_ml * (1 if protocol.left_to_right else -1)
        )


def test_thin_slices_are_2_to_3_mm_and_change_nothing_that_is_drawn_later():
    thin = SimulateConfig(thin_slice_share=1.0)
    for seed in range(20):
        streams = [np.random.default_rng(seed) for _ in range(2)]
        usual, protocol = (
            draw_protocol(rng, SITES[0], config) for rng, config in zip(streams, (SimulateConfig(), thin), strict=True)
        )
        assert 2.0 <= protocol.spacing_mm <= 3.0
        assert 36 < protocol.n_slices <= 80
        assert (protocol.te_ms, protocol.fov_mm) == (usual.te_ms, usual.fov_mm)
        assert streams[0].random() == streams[1].random()


def test_isotropic_protocols_have_cubic_voxels_over_the_whole_head_and_change_nothing_later():
    isotropic = SimulateConfig(isotropic_share=1.0)
    for seed in range(20):
        streams = [np.random.default_rng(seed) for _ in range(2)]
        usual, protocol = (
            draw_protocol(rng, SITES[seed % 3], config)
            for rng, config in zip(streams, (SimulateConfig(), isotropic), strict=True)
        )
        edges = np.linalg.norm(protocol.affine[:3, :3], axis=0)
        assert edges == pytest.approx([protocol.spacing_mm] * 3)
        assert 2.0 <= protocol.spacing_mm <= 3.5
        assert protocol.acquired == protocol.matrix
        assert protocol.n_slices * protocol.spacing_mm >= 148
        assert protocol.fov_mm == pytest.approx(usual.fov_mm, abs=3.5)
        assert streams[0].random() == streams[1].random()
