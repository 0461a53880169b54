"""The closed form of Eq. 7 against messages that were passed."""

import numpy as np
import pytest

from hf_dsel.ops import affinity_propagation as engine
from hf_dsel.ops.affinity_propagation import affinity_propagation
from hf_dsel.ops.representation import representation


def points(n, seed=0, copy=True):
    x = np.random.default_rng(seed).standard_normal((n, 6)).astype(np.float32)
    if copy:
        x[n // 2] = x[0]
    return x


@pytest.mark.parametrize("preference", [0.0, 0.7, 3])
def test_from_0_on_it_is_the_distance_to_the_nearest_neighbour(preference):
    x = points(150)
    passed = affinity_propagation(x, preference=preference, iterations=100, stop_after=None, device="cpu")
    found = representation(x, preference=preference)
    np.testing.assert_allclose(found, passed.representation, atol=2e-3)  # sums of 150 float32 messages
    gaps = np.linalg.norm(x[:, None].astype(np.float64) - x, axis=2) + np.diag([np.inf] * len(x))
    np.testing.assert_allclose(found, preference + gaps.min(1), atol=1e-6)
    assert np.abs(passed.availability().numpy()).max() == 0 and len(passed.exemplars) >= len(x) - 2


@pytest.mark.parametrize("preference", ["median", -2.0])
def test_below_0_messages_are_passed(preference):
    x = points(120, copy=False)  # which of two copies wins an election hangs on the last bit of a sum
    passed = affinity_propagation(x, preference=preference, device="cpu").representation
    np.testing.assert_allclose(representation(x, preference=preference), passed)
    near = representation(x, preference=preference, neighbours=500)
    np.testing.assert_allclose(near, passed, rtol=1e-3, atol=1e-2 * np.abs(passed).max())
    calls = []
    representation(x, preference=preference, iterations=7, progress=lambda *at: calls.append(at))
    assert [at[0] for at in calls] == list(range(1, 8))


def test_takes_the_way_that_fits(monkeypatch):
    x = points(400, copy=False)
    kept = engine.message_bytes(400, 6, similarity="kept", device="cpu")
    made_again = engine.message_bytes(400, 6, similarity="recomputed", device="cpu")
    whole = representation(x, preference=-2.0)

    def limit(most):
        check = engine.check_room
        monkeypatch.setattr(engine, "check_room", lambda n, needed, _, *rest: check(n, needed, most, *rest))

    limit((kept + made_again) // 2)
    np.testing.assert_allclose(representation(x, preference=-2.0), whole, atol=1e-2)
    monkeypatch.undo()
    limit(made_again - 1)
    with pytest.raises(MemoryError, match="neighbours=64"):
        representation(x, preference=-2.0)


def test_errors():
    with pytest.raises(ValueError, match="at least 2 rows"):
        representation(np.ones((1, 3)))
    for preference in ("mean", float("nan"), True):
        with pytest.raises(ValueError, match="preference"):
            representation(points(4), preference=preference)
