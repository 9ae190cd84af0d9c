"""Validation scores: known answers."""

import numpy as np
import pytest

from fvv.data import Channel
from fvv.training.figures import confusion_figure, larger_examples, patient_examples
from fvv.training.validation import (
    SliceClass,
    absent_structures,
    dice_coefficient,
    epoch_score,
    final_masks,
    judge_patient,
    kappa_against_cutoff,
    labelled_volumes,
    out_of_patience,
    selection_key,
    slice_classes,
    summarise,
)

BRAIN, STROKE, VISIBLE = (channel.value for channel in Channel)


def masks(stroke_rows: int = 10, visible_rows: int = 0) -> np.ndarray:
    """(3, 2, 32, 32): a brain on both slices, a lesion of 10 columns on the first, part of its rows visible."""
    truth = np.zeros((3, 2, 32, 32), dtype=bool)
    truth[BRAIN, :, 2:30, 2:30] = True
    truth[STROKE, 0, 5 : 5 + stroke_rows, 5:15] = True
    truth[VISIBLE, 0, 5 : 5 + visible_rows, 5:15] = True
    return truth


def judged(marked: np.ndarray, truth: np.ndarray, mismatch: bool | None = None):
    return judge_patient(marked, truth, loss=1.0, voxel_volume_ml=0.01, mismatch=mismatch)


@pytest.mark.parametrize(
    ("stroke_rows", "visible_rows", "expected"),
    [
        (0, 0, SliceClass.NONE),
        (1, 0, SliceClass.NONE),
        (2, 0, SliceClass.NOT_VISIBLE),
        (10, 1, SliceClass.NOT_VISIBLE),
        (10, 2, SliceClass.MIXED),
        (10, 8, SliceClass.MIXED),
        (10, 9, SliceClass.VISIBLE),
    ],
)
def test_slice_classes(stroke_rows, visible_rows, expected):
    assert slice_classes(masks(stroke_rows, visible_rows)).tolist() == [expected, SliceClass.NONE]


def test_dice_of_half_the_truth_and_of_nothing():
    truth = masks(10)[STROKE]
    assert dice_coefficient(masks(5)[STROKE], truth) == pytest.approx(2 / 3)
    assert dice_coefficient(np.zeros_like(truth), truth) == 0.0
    assert dice_coefficient(np.zeros_like(truth), np.zeros_like(truth)) == 1.0


def test_the_score_of_a_patient_without_lesion_falls_slowly_with_what_is_predicted():
    # 0.5 mL are 50 voxels here; only stroke is predicted, the FLAIR-visible half stays 1.
    smoothed = [judged(masks(rows), masks(0)).smoothed for rows in (0, 5, 10)]
    assert smoothed == [(1.0, 1.0), (0.5, 1.0), (pytest.approx(1 / 3), 1.0)]
    assert epoch_score([judged(masks(10, 8), masks(10, 8))]) == 1.0


def test_predicting_nothing_never_scores_best():
    silent = np.zeros_like(masks())
    brain_alone = masks(0)
    for truth, parts in ((masks(0), [Channel.STROKE, Channel.FLAIR_VISIBLE]), (masks(10), [Channel.FLAIR_VISIBLE])):
        patient = judged(truth, truth)
        assert list(absent_structures([patient.reference_ml])) == parts
        assert epoch_score([patient]) == 1.0
        assert epoch_score([judged(silent, truth)]) < epoch_score([judged(brain_alone, truth)])
        assert epoch_score([judged(silent, truth)]) < 0.5
    assert epoch_score([judged(silent, masks(0))]) == 0.0


def test_a_patient_without_lesion_beside_one_with_both_structures_counts_without_the_brain():
    absent = judged(np.zeros_like(masks()), masks(0))
    assert epoch_score([absent, judged(masks(10, 8), masks(10, 8))]) == 1.0


def test_a_lesion_under_half_a_millilitre_chooses_nothing():
    assert absent_structures([judged(masks(4, 4), masks(4, 4)).reference_ml]) == (Channel.STROKE, Channel.FLAIR_VISIBLE)
    assert absent_structures([judged(masks(5, 5), masks(5, 5)).reference_ml]) == ()


def test_a_perfect_patient():
    patient = judged(masks(10, 4), masks(10, 4))
    assert set(patient.dice.values()) == {1.0}
    assert set(patient.accuracy.values()) == {1.0}
    assert patient.fvv_ml == pytest.approx(0.4)


def test_without_readers_the_visible_share_is_the_label_and_without_a_lesion_there_is_none():
    patients = [judged(masks(), masks(10, 1)), judged(masks(), masks(10, 3)), judged(masks(), masks(0))]
    assert labelled_volumes(patients)[1].tolist() == [True, False]


def test_readers_labels_and_the_rule_are_never_mixed():
    patients = [
        judged(masks(10, 9), masks(10, 9), mismatch=True),
        judged(masks(10, 2), masks(10, 2), mismatch=False),
        judged(masks(10, 1), masks(10, 1)),  # by the rule a mismatch, and the reader gave no label
        judged(masks(0), masks(0), mismatch=True),  # nothing to be mismatched
    ]
    volumes, mismatch = labelled_volumes(patients)
    assert volumes.tolist() == pytest.approx([0.9, 0.2])
    assert mismatch.tolist() == [True, False]
    # Of the readers' pair the mismatch has the larger volume; the patient without a label would raise it to 1/2.
    assert summarise(patients)["valid/auc"] == 0.0


def test_accuracy_of_stroke_is_counted_inside_the_brain():
    wrong_outside = masks(10)
    wrong_outside[STROKE, :, :2] = True
    assert judged(wrong_outside, masks(10)).accuracy["stroke"] == 1.0


def test_marks_outside_the_marked_brain_do_not_count():
    marked = masks(10, 10)
    marked[BRAIN, :, 20:] = False
    marked[STROKE, 0, 25:28, 5:15] = True
    final = final_masks(marked)
    assert final[STROKE].sum() == 100
    assert final[VISIBLE].sum() == 100


def test_kappa_is_one_between_volumes_that_separate_the_labels():
    cutoffs, kappas = kappa_against_cutoff(np.array([0.1, 0.2, 3.0, 5.0]), np.array([True, True, False, False]))
    assert kappas.max() == pytest.approx(1.0)
    assert 0.2 < cutoffs[kappas.argmax()] < 3.0
    assert kappas[0] == kappas[-1] == 0.0


def test_summary_of_four_patients():
    patients = [
        judged(masks(10, 0), masks(10, 0), mismatch=True),
        judged(masks(10, 2), masks(10, 2), mismatch=False),
        judged(masks(10, 3), masks(10, 10), mismatch=True),
        judged(masks(5, 5), masks(10, 10), mismatch=False),
    ]
    scores = summarise(patients)
    # Pairs (mismatch, none): 0 < 2, 0 < 5, 3 > 2, 3 < 5 rows visible.
    assert scores["valid/auc"] == pytest.approx(3 / 4)
    assert scores["valid/dice_stroke"] == pytest.approx((3 + 2 / 3) / 4)
    assert scores["valid/dice_stroke_pooled"] == pytest.approx(2 * 350 / (350 + 400))
    assert scores["valid/score"] == pytest.approx(np.mean([patient.smoothed for patient in patients]))
    counts = [int(text.get_text()) for text in confusion_figure(patients).axes[0].texts]
    assert counts[-4:] == [0, 0, 1, 1]  # of the visible ones, by predicted class
    assert sum(counts) == 8


def test_one_label_only_gives_no_auc():
    scores = summarise([judged(masks(), masks(10), mismatch=True)])
    assert np.isnan(scores["valid/auc"])
    assert np.isnan(scores["valid/best_kappa"])


def test_examples_keep_the_largest_lesion_of_each_kind():
    b1000 = np.zeros((2, 32, 32))
    examples = {}
    for number, rows in enumerate((5, 10, 6)):
        examples = larger_examples(examples, patient_examples(b1000 + number, masks(rows), masks(rows)))
    assert set(examples) == {SliceClass.NOT_VISIBLE}
    assert examples[SliceClass.NOT_VISIBLE].area == 100
    assert examples[SliceClass.NOT_VISIBLE].b1000.max() == 1.0


def row(score, auc=float("nan")):
    return {"valid/score": score, "valid/auc": auc}


def test_auc_ranks_epochs_of_equal_score_alone():
    ranked = [row(0.6), row(0.5, 0.9), row(0.5, 0.8), row(0.5)]
    assert sorted([ranked[number] for number in (3, 1, 0, 2)], key=selection_key, reverse=True) == ranked


def test_patience_ends_after_that_many_epochs_without_a_better_one():
    rows = [row(score) for score in (0.1, 0.5, 0.4, 0.5, 0.3)]
    assert [out_of_patience(rows[:done], 2) for done in range(6)] == [False, False, False, False, True, True]
    assert not out_of_patience(rows, 4)
    assert not out_of_patience(rows, None)


STROKE_ALONE = (Channel.BRAIN, Channel.STROKE)


def known_only(marked: np.ndarray, truth: np.ndarray, known, mismatch: bool | None = None):
    truth = truth.copy()
    truth[[channel.value for channel in Channel if channel not in known]] = False
    return judge_patient(marked, truth, loss=1.0, voxel_volume_ml=0.01, mismatch=mismatch, known=known)


def test_the_score_is_the_mean_over_the_structures_of_the_patients_who_have_each():
    """Whatever is predicted where the FLAIR-visible part is unknown, the score stays."""
    full = judged(masks(10, 5), masks(10, 10))
    stroke = judged(masks(10), masks(10)).smoothed[0]
    for visible in (0, 10):
        unknown = known_only(masks(10, visible), masks(10, 10), STROKE_ALONE)
        assert np.isnan(unknown.smoothed[1])
        assert np.isnan(unknown.dice["flair_visible"])
        assert np.isnan(unknown.dice["not_visible"])
        assert epoch_score([full, unknown]) == pytest.approx(
            np.mean([(full.smoothed[0] + stroke) / 2, full.smoothed[1]])
        )
        assert epoch_score([unknown]) == pytest.approx(stroke)
        scores = summarise([full, unknown])
        assert scores["valid/dice_flair_visible"] == pytest.approx(full.dice["flair_visible"])
        assert scores["valid/slice_kappa"] == summarise([full])["valid/slice_kappa"]


def test_a_structure_that_is_only_unknown_is_not_absent():
    unknown = known_only(masks(10), masks(10, 10), STROKE_ALONE)
    assert absent_structures([unknown.reference_ml, judged(masks(10, 8), masks(10, 8)).reference_ml]) == ()
    assert summarise([unknown])["valid/score"] == 1.0
    assert np.isnan(summarise([unknown])["valid/slice_kappa"])


def test_a_readers_label_alone_counts_for_the_auc():
    brain = (Channel.BRAIN,)
    patients = [
        known_only(masks(10, 1), masks(10), brain, mismatch=True),
        known_only(masks(10, 9), masks(10), brain, mismatch=False),
    ]
    scores = summarise(patients)
    assert scores["valid/auc"] == 1.0
    assert np.isnan(scores["valid/dice_stroke"])
    assert np.isnan(scores["valid/dice_stroke_pooled"])
    assert scores["valid/score"] == 0.0
    assert scores["valid/dice_brain"] == 1.0


def test_without_readers_an_unknown_flair_visible_part_gives_no_label():
    patients = [known_only(masks(10), masks(10, 10), STROKE_ALONE), judged(masks(10, 1), masks(10, 1))]
    assert labelled_volumes(patients)[1].tolist() == [True]
