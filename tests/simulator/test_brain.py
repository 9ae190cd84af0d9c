"""Tissue of the brain with and without a stroke."""

from __future__ import annotations

import numpy as np

from fvv.simulator.brain import TEXTURE, BrainTissue, apply_stroke, posterior_fossa_texture
from fvv.simulator.lesions import Lesion
from fvv.simulator.space import lattice_positions
from simulations import APPEARANCE


def test_cerebellum_and_brainstem_alone_differ_by_the_spread():
    texture = posterior_fossa_texture(np.random.default_rng(1), 0.1)
    z = lattice_positions()[2][0, 0]
    assert np.abs(texture[:, :, z > 10]).max() < 0.01
    middle = [
        posterior_fossa_texture(np.random.default_rng(seed), 0.1)[50, 34, 32] * TEXTURE for seed in range(12)
    ]  # x 0, y -70, z -40: cerebellum
    assert 0.06 < np.std(middle) < 0.18


def test_stroke_lowers_adc_at_once_and_lengthens_t2_with_time():
    x, y, z = lattice_positions()
    lesion = Lesion("one", (15.0 - np.sqrt((x - 40) ** 2 + y**2 + z**2)).astype(np.float32), APPEARANCE)
    points = np.stack([np.linspace(0.0, 40.0, 81), np.zeros(81), np.zeros(81)]).astype(np.float32)
    ones = np.ones(81, dtype=np.float32)
    tissue = BrainTissue(0.5 * ones, 0.4 * ones, 0.1 * ones, ones, ones, ones)
    strokes = {
        hours: apply_stroke(tissue, points, lesion, onset_h=hours, rng=np.random.default_rng(4))
        for hours in (0.8, 8.0, 48.0)
    }
    for stroke in strokes.values():
        inside = stroke.share[stroke.touched] > 0.99
        assert inside.any()
        assert (stroke.after.adc[inside] < 0.75).all()
        np.testing.assert_allclose(stroke.after.grey + stroke.after.white + stroke.after.csf, 1.0, atol=1e-5)
        assert (stroke.after.csf <= 0.1 + 1e-6).all()
        assert stroke.share[0] < 0.01
    early, middle, late = (strokes[hours].after.t2 for hours in (0.8, 8.0, 48.0))
    np.testing.assert_allclose(early, 1.0, atol=1e-6)
    core = strokes[0.8].share[strokes[0.8].touched] > 0.99
    assert (middle[core] > early[core]).all()
    assert (late[core] > middle[core]).all()
    assert late[core].std() > 0.02
