"""Effects equal their definitions, counted out; p-values hold for labels that only look alike."""

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from charlstm.interpretation.analysis import APART, EXCERPT_LEN, excerpt_start, extremes, levels
from charlstm.interpretation.labels import Label
from charlstm.interpretation.tracking_cells import (
    MIN_SHIFT,
    SIGNIFICANT,
    effects,
    p_beyond_shifted,
    p_beyond_untrained,
    ranks_of,
    shifted_effects,
    varies,
)
from charlstm.seeds import numpy_generator


def label(values: NDArray[np.bool_] | NDArray[np.int64]) -> Label:
    return Label("a label", "for a test", values)


def cells(num_cells: int, num_chars: int) -> NDArray[np.float16]:
    """With ties, as any text has; on a grid that 2^14 steps keep."""
    return numpy_generator(1, "cells").integers(-40, 41, (num_cells, num_chars)).astype(np.float16) / np.float16(8)


def test_of_yes_or_no_it_is_two_auc_less_one() -> None:
    cells_UN, flags = cells(3, 400), numpy_generator(2, "flags").random(400) < 0.2
    for cell, (found,) in zip(cells_UN, effects(cells_UN, [label(flags)]), strict=True):
        yes, no = cell[flags].astype(float)[:, None], cell[~flags].astype(float)
        assert found == pytest.approx((yes > no).mean() - (yes < no).mean())


def test_of_a_cell_with_two_states_that_follows_a_flag_it_is_one() -> None:
    flags = numpy_generator(2, "flags").random(400) < 0.2
    cell_N = np.where(flags, 0.9, -0.9).astype(np.float16)
    assert effects(cell_N[None], [label(flags)])[0, 0] == pytest.approx(1)
    assert shifted_effects(cell_N, label(flags))[0] == pytest.approx(1)


def test_of_numbers_it_is_spearmans() -> None:
    cells_UN, numbers = cells(3, 400), numpy_generator(2, "numbers").integers(0, 9, 400)
    for cell, (found,) in zip(cells_UN, effects(cells_UN, [label(numbers)]), strict=True):
        expected = np.corrcoef(pd.Series(cell.astype(float)).rank(), pd.Series(numbers).rank())[0, 1]
        assert found == pytest.approx(expected)


def test_a_cell_that_never_moves_goes_with_nothing() -> None:
    still = np.full((1, 300), 0.3, np.float16)
    assert effects(still, [label(np.arange(300) % 7)]).tolist() == [[0.0]]
    assert not ranks_of(still[0]).any()


def test_shifts_go_round() -> None:
    cell, numbers = cells(1, 300)[0], numpy_generator(3, "numbers").integers(0, 9, 300)
    shifted = shifted_effects(cell, label(numbers))
    for shift in (0, 1, 17, 299):
        assert shifted[shift] == pytest.approx(effects(cell[None], [label(np.roll(numbers, shift))])[0, 0])


def test_labels_that_hardly_vary_are_left_out() -> None:
    assert not varies(label(np.arange(1000)))
    assert not varies(label(np.repeat([False, True], 500)))
    assert not varies(label(np.tile(np.repeat([False, True], 50), 4) & True))
    assert varies(label(np.tile(np.repeat([False, True], 50), 6)))
    assert varies(label(np.arange(1000) % 150))


def test_slow_labels_that_only_look_alike_are_not_significant() -> None:
    """Shuffled one by one, such labels would make every second pair significant; shifted, about one in twenty."""
    generator = numpy_generator(4, "slow")
    num_chars, num_pairs = 6_000, 200

    def slow() -> NDArray[np.int64]:
        lengths = generator.integers(20, 181, num_chars // 20)
        return np.repeat(generator.integers(0, 100, len(lengths)), lengths)[:num_chars]

    num_passed, num_shuffled = 0, 0
    for _ in range(num_pairs):
        cell, other = slow().astype(np.float16), label(slow())
        shifted_N = shifted_effects(cell, other)
        num_passed += int(p_beyond_shifted(shifted_N[None])[0] <= SIGNIFICANT)
        num_shuffled += int(abs(shifted_N[0]) > 1.96 / num_chars**0.5)
    assert num_passed <= 20 and num_shuffled > 100


def test_more_labels_are_more_chances() -> None:
    shifted_PN = numpy_generator(5, "effects").standard_normal((20, 4_000)) * 0.01
    shifted_PN[:, 0] = 0.027  # 2.7 standard deviations
    assert p_beyond_shifted(shifted_PN[:1])[0] < 0.02 < 0.08 < p_beyond_shifted(shifted_PN)[0]
    shifted_PN[:, 0] = 1.0
    assert p_beyond_shifted(shifted_PN)[0] == 1 / (4_000 - 2 * MIN_SHIFT + 2)  # as small as it can be


def test_beyond_untrained_models_is_beyond_all_of_them() -> None:
    theirs_MK = numpy_generator(6, "untrained").normal(0.5, 0.05, (19, 4))
    ours, labels = np.array([0.5, 0.9, 0.9, 0.56]), np.arange(4)
    p = p_beyond_untrained(ours, labels, theirs_MK)
    assert p[1] == p[2] == 0.05 and p[0] > 0.5 and 0.05 < p[3] <= 1
    assert p_beyond_untrained(ours[[2]], labels[[2]], theirs_MK).tolist() == [0.05]


def test_levels_are_of_the_median_and_the_far_percentile() -> None:
    cell = np.concatenate([np.linspace(-0.1, 0.1, 1001), [3.0]]).astype(np.float16)
    found = levels(cell, slice(None))
    assert found[500] == 0 and found[0] in (-100, -99) and found[-1] == 100
    assert levels(np.zeros(10, np.float16), slice(0, 3)) == [0, 0, 0]


def test_extremes_are_apart_and_in_order() -> None:
    cell = np.sin(np.arange(5_000) / 40).astype(np.float16)
    for highest, sign in ((True, 1), (False, -1)):
        places = extremes(cell, highest=highest)
        assert len(places) == 4 and (sign * cell[places] > 0.75).all()
        assert min(np.diff(sorted(places))) >= APART


def test_an_excerpt_shows_a_label_that_is_rare() -> None:
    flags = np.zeros(20_000, bool)
    flags[12_300:12_900] = True
    start = excerpt_start(label(flags), np.arange(79, 20_000, 80))
    assert start % 80 == 0 and flags[start : start + EXCERPT_LEN].mean() > 0.2
    assert 0 <= excerpt_start(label(flags), np.array([], np.intp)) <= 19_000
