"""Several models as one."""

import pytest
import torch

from benchmarks.recipes import Ensemble
from charlstm.evaluation.protocols import stateful
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.shape import ModelShape
from charlstm.model.windows import windowed
from charlstm.text.encoded import EncodedText

SHAPE = ModelShape(9, 4, 6, 2, 5)


@pytest.fixture(scope="module")
def models() -> list[CharLSTM]:
    torch.manual_seed(0)
    return [CharLSTM(SHAPE, kind).double().eval() for kind in ("fused", "gates", "fused")]


def test_it_says_the_mean_of_the_probabilities(models: list[CharLSTM]) -> None:
    ids_BT = torch.randint(0, 9, (3, 20))
    mean_BTV = torch.stack([model(ids_BT)[0].softmax(-1) for model in models]).mean(0)
    ensemble = Ensemble(models)
    whole_BTV, _ = ensemble(ids_BT)
    torch.testing.assert_close(whole_BTV.softmax(-1), mean_BTV)
    first_BTV, state = ensemble(ids_BT[:, :7])
    second_BTV, _ = ensemble(ids_BT[:, 7:], state)
    torch.testing.assert_close(torch.cat([first_BTV, second_BTV], dim=1), whole_BTV)


def test_it_is_evaluated_like_a_model(models: list[CharLSTM]) -> None:
    ids = torch.randint(0, 9, (300,), dtype=torch.uint8).numpy()
    for text in (EncodedText(ids), EncodedText(ids, separator=ids[100:101])):
        for protocol in (stateful, lambda model, text: windowed(model, text, 20)):
            single = [protocol(model, text).nats for model in models]
            assert protocol(Ensemble(models[:1]), text).nats == pytest.approx(single[0])
            assert protocol(Ensemble(models), text).nats < sum(single) / 3  # Jensen's inequality
