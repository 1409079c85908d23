"""Populations: exact quotas, one hash per seed, correlations as asked, files that tell their truth."""

import numpy as np
import pytest
from scipy.stats import norm, rankdata

from fedalign.core.errors import ConfigError, DataError
from fedalign.data import personas, population
from fedalign.data.marginals import quotas, transform
from fedalign.data.population_classes import PopulationClasses


@pytest.mark.parametrize("clients", [1, 7, 19, 1000])
def test_quotas_are_exact_for_any_n(clients):
    """Largest remainders: nobody is off by one or more, and the counts add up."""
    found = population.draw(clients, seed=3)
    for name in ("region", "device_class", "role"):
        node = next(n for n in population.ATTRIBUTES if n["name"] == name)
        counts = np.bincount(found.columns[name], minlength=len(node["shares"]))
        assert counts.sum() == clients
        assert (np.abs(counts - clients * np.array(list(node["shares"].values()))) < 1).all()


def test_largest_remainders_by_hand():
    """0.45, 0.35, 0.2 of 7 are 3.15, 2.45, 1.4: floors 3, 2, 1, and the odd one goes to 0.45."""
    assert quotas([0.45, 0.35, 0.2], 7).tolist() == [3, 3, 1]


def test_a_truncated_zipf_by_hand():
    """Exponent 1 up to 2: shares 2/3 and 1/3; the normal quantile of 2/3 is 0.4307."""
    node = {"name": "z", "kind": "zipf", "exponent": 1.0, "most": 2}
    assert transform(node, np.array([-3.0, 0.43, 0.432, 3.0])).tolist() == [1, 1, 2, 2]


def test_the_same_seed_has_the_same_hash_and_another_seed_another():
    first, again, other = (population.draw(500, seed) for seed in (1, 1, 2))
    assert first.digest() == again.digest() != other.digest()


def test_an_attribute_keeps_its_values_when_others_go():
    whole = population.draw(300, 5)
    alone = population.draw(300, 5, [n for n in population.ATTRIBUTES if n["name"] == "topics"], ())
    assert np.array_equal(whole.columns["topics"], alone.columns["topics"])


def test_correlations_of_the_normals_are_as_asked_within_0_03():
    found = population.draw(20_000, 0)
    classes = found.columns["device_class"]
    scale = np.array([1.0, 2.0, 10.0, 50.0])[classes]

    def normals(name):
        values = found.columns[name] / (scale if name == "flops" else 1.0)
        return norm.ppf(rankdata(values) / (len(values) + 1))

    for one, other, rho in population.CORRELATIONS:
        assert np.corrcoef(normals(one), normals(other))[0, 1] == pytest.approx(rho, abs=0.03)


def test_contradicting_correlations_and_unknown_kinds_are_refused():
    a, b, c = ({"name": n, "kind": "normal", "mean": 0.0, "std": 1.0} for n in "abc")
    with pytest.raises(ConfigError, match="contradict"):
        population.draw(10, 0, [a, b, c], [("a", "b", 0.9), ("b", "c", 0.9), ("a", "c", -0.9)])
    for node, says in (
        ({"name": "x", "kind": "gamma"}, "one of the kinds"),
        ({"name": "x", "kind": "normal", "mean": 0.0}, "takes mean, std"),
        ({"name": "x", "kind": "categorical", "shares": {"u": 0.5}}, "add up to 1"),
        ({**a, "by": "b", "scale": {"u": 1.0}}, "categorical attribute"),
    ):
        with pytest.raises(ConfigError, match=says):
            population.draw(10, 0, [node], ())


def test_a_file_comes_back_as_it_was_and_a_damaged_one_says_so(tmp_path):
    found, path = population.draw(50, 9), tmp_path / "p.npz"
    found.save(path)
    again = population.load(path)
    assert again.digest() == found.digest() and list(again.columns) == list(found.columns)
    assert population.load(path, ["topics"]).digest() == found.digest()
    assert [p.name for p in tmp_path.iterdir()] == ["p.npz"]
    with pytest.raises(DataError, match="lacks moods"):
        population.load(path, ["moods"])
    with pytest.raises(DataError, match="fedalign population"):
        population.load(tmp_path / "absent.npz")
    columns = {**found.columns, "n_samples": found.columns["n_samples"] + 1}
    population.Population(columns, found.attributes, (), 9, found.manifest).save(path)
    with pytest.raises(DataError, match="n_samples does not have the SHA-256"):
        population.load(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="damaged"):
        population.load(path)


def test_preferences_follow_the_logistic_and_its_noise():
    """With w = e_1, s_a - s_b = 1 and noise e: p = (1 - e) s + e (1 - s), s = 1 / (1 + 1/e);
    5000 draws lie within three standard deviations."""
    found = population.draw(3, 0)
    columns = {**found.columns, "pref_weights": np.eye(5, dtype=np.float32)[:3]}
    columns["label_noise"] = np.float32([0.0, 0.2, 0.2])
    one = population.Population(columns, found.attributes, (), 0, {})
    a, b = np.eye(5)[:1], np.zeros((1, 5))
    s = 1 / (1 + np.exp(-1.0))
    assert personas.preference(one, 0, a, b) == pytest.approx(s)
    p = float(personas.preference(one, 0, a, b)[0])
    draws = np.random.default_rng(0).random(5000) < p
    assert abs(draws.mean() - s) < 3 * np.sqrt(s * (1 - s) / 5000)
    assert personas.preference(one, 1, a, b) == pytest.approx(0.5)  # it values another quality
    noisy = personas.preference(one, 1, np.eye(5)[1:2], b)
    assert noisy == pytest.approx(0.8 * s + 0.2 * (1 - s))


def test_a_background_names_what_the_columns_say():
    found = population.draw(20, 4)
    text = personas.background(found, 7)
    assert text == personas.background(found, 7)
    assert f"{found.columns['n_samples'][7]} samples" in text
    assert found.values("region")[found.columns["region"][7]] in text


def test_samples_follow_the_columns(tmp_path):
    """Counts exactly; classes in the client's topics, 400 samples within 4 standard deviations;
    wrong labels as often as the noise says."""
    size = {"name": "n_samples", "kind": "normal", "mean": 4000.0, "std": 1.0, "whole": True}
    noise = {"name": "label_noise", "kind": "normal", "mean": 0.0, "std": 1e-9, "low": 0.0}
    others = [n for n in population.ATTRIBUTES if n["name"] not in ("n_samples", "label_noise")]
    recipe = PopulationClasses(attributes=[*others, size, noise], separation=20.0)
    data = recipe.load(clients=5, seed=1)
    held = data.client(3)
    assert len(held) == data.samples(3) and held.inputs.shape[1] == 32
    shares = data.population.columns["topics"][3]
    counts = np.bincount(held.labels.numpy(), minlength=10)
    deviations = np.abs(counts - len(held) * shares) / np.sqrt(
        len(held) * shares * (1 - shares) + 1
    )
    assert deviations.max() < 4
    assert np.array_equal(data.client(3).inputs, held.inputs)  # the same whenever it is asked
    assert not np.array_equal(data.client(2).inputs[:10], held.inputs[:10])


def test_a_population_that_is_too_small_is_refused(tmp_path):
    population.draw(4, 0).save(tmp_path / "four.npz")
    with pytest.raises(DataError, match="needs 5 clients"):
        PopulationClasses(path=str(tmp_path / "four.npz")).load(5, 0)
    assert PopulationClasses(path=str(tmp_path / "four.npz")).load(3, 0).samples(0) >= 16
