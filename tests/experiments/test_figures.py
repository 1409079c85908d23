"""Figures: what is drawn, and that it survives print."""

import numpy as np
import pytest

from experiments import figures
from fedalign.core.errors import ConfigError
from tests.experiments.synthetic_study import cell, grid, study

ATTACKS = (
    "none", "sign_flip5", "ipm10", "min_max", "fang", "la", "mb", "faker_balance", "faker_norm",
    "faker_flip", "faker_2d", "faker_distance_whitebox", "neg", "ipmfit", "rejected",
)  # fmt: skip


def small(**more):
    return grid({"krum": {"none": 90, "neg": 60}, "flame": {"none": 95, "neg": 94}},
                seeds=(0, 1), spaces={"krum": "update"}, spread=2.0, **more)  # fmt: skip


def shown(figure):
    return [axes for axes in figure.axes if axes.get_visible()]


def test_curves_draw_the_mean_over_seeds_of_each_cell():
    """Seeds 60 and 62: the line of neg lies at 61 with a band of 1."""
    made = small()
    figure = figures.curves(made, made.cells)
    krum, flame = shown(figure)
    assert [axes.get_title() for axes in (krum, flame)] == ["krum (U)", "flame"]
    np.testing.assert_allclose(krum.lines[1].get_ydata(), 61.0)
    np.testing.assert_array_equal(krum.lines[1].get_xdata(), [1, 2, 3, 4, 5])
    band = krum.collections[1].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == (pytest.approx(60.0), pytest.approx(62.0))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["none", "neg"]


def test_the_legend_names_what_is_drawn_a_single_line_too():
    """TPR is not measured without an attack, so "none" has no line."""
    cells = [
        cell({"attack": a, "defense": "krum", "rho": r}) for a in ("none", "neg") for r in "14"
    ]
    figure = figures.sweep(study(cells), cells, "rho", "defense", "attack", "tpr")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["neg"]
    (axes,) = shown(figure)
    assert axes.get_ylabel() == "detection TPR in %" and axes.get_xlabel() == "rho"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "4"]


def test_a_tradeoff_has_a_point_per_adapter_and_the_step_of_the_best_so_far():
    """Bytes 400 and 40,000 with rewards 4 and 5 are on the step, 4,000 with 3.5 is below it."""
    sizes = {"lora": (40_000.0, 5.0), "tied_lora": (4_000.0, 3.5), "prompt_tuning": (400.0, 4.0)}
    cells = [
        cell({"peft": name}, seed, payload_bytes=sent, gold_reward=gold + seed / 10)
        for name, (sent, gold) in sizes.items() for seed in (-1, 1)
    ]  # fmt: skip
    figure = figures.tradeoff(study(cells), cells)
    (axes,) = shown(figure)
    drawn = {line.get_label(): line.get_xydata() for line in axes.lines}
    for name, point in sizes.items():
        np.testing.assert_allclose(drawn[name], [point])
    step = axes.lines[-1].get_xydata()
    np.testing.assert_allclose(step, [[400, 4], [4_000, 4], [40_000, 5]])
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(sizes)


def test_curves_mark_where_the_attack_begins():
    late, always = small(config={"attack_start": 3}), small()
    assert len(shown(figures.curves(late, late.cells))[0].lines) == 3
    assert len(shown(figures.curves(always, always.cells))[0].lines) == 2


def test_curves_skip_rounds_without_evaluation_and_cells_without_runs():
    cells = [
        cell({"attack": "none", "defense": "krum"}, 0, [0.1, np.nan, 0.3]),
        cell({"attack": "neg", "defense": "krum"}, 0, status="failed"),
    ]
    (axes,) = shown(figures.curves(study(cells), cells))
    assert len(axes.lines) == 1
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [1, 3])


def test_every_line_of_the_default_study_looks_different_without_colour():
    """Line style, marker and filling together identify a line on a grey printer."""
    styles = [figures._style(attack, ATTACKS) for attack in ATTACKS]
    looks = {(s["linestyle"], s.get("marker"), s.get("fillstyle")) for s in styles}
    assert len(looks) == len(ATTACKS)
    assert {s["color"] for s in styles} <= {"black", *figures.OKABE_ITO}


def test_twenty_lines_of_one_kind_differ_in_colour_or_marker():
    lines = [f"attack_{i}" for i in range(20)]
    looks = {(s["color"], s["marker"]) for s in (figures._style(line, lines) for line in lines)}
    assert len(looks) == 20


def test_the_heat_map_writes_each_mean_into_its_cell():
    made = small()
    axes = shown(figures.heatmap(made, made.cells))[0]
    assert [text.get_text() for text in axes.texts] == ["91", "61", "96", "95"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["krum (U)", "flame"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["none", "neg"]
    np.testing.assert_allclose(axes.images[0].get_array(), [[91, 61], [96, 95]])


def test_heat_maps_of_percents_share_one_scale():
    made = small()
    assert shown(figures.heatmap(made, made.cells))[0].images[0].get_clim() == (0.0, 100.0)


def test_letters_stand_out_from_their_cell():
    """Relative luminance of background and letter differ by a contrast of 4.5 or more (WCAG AA)."""
    made = grid({"d": {f"a{i}": 100.0 * i / 60 for i in range(61)}})
    figure = figures.heatmap(made, made.cells)
    axes = shown(figure)[0]
    image = axes.images[0]
    for text, value in zip(axes.texts, image.get_array()[0], strict=True):
        light = luminance(image.cmap(image.norm(value))[:3])
        letter = 1.0 if text.get_color() == "white" else 0.0
        brighter, darker = max(light, letter), min(light, letter)
        assert (brighter + 0.05) / (darker + 0.05) >= 4.5


def luminance(rgb):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_detection_shows_what_passes_and_what_is_refused_unjustly():
    """One of four malicious rows accepted, 4 of 16 benign ones rejected; none has no attackers."""
    made = small(benign_accepted=12)
    accepted, refused = shown(figures.detection(made, made.cells))[:2]
    assert [text.get_text() for text in accepted.texts] == ["—", "25", "—", "25"]
    assert [text.get_text() for text in refused.texts] == ["25"] * 4


def test_a_sweep_puts_numbers_in_order_on_the_axis():
    cells = [
        cell({"rho": r, "defense": "spp", "attack": a}, 0, v)
        for r, v in (("0.5", 0.6), ("0.25", 0.5), ("1", 0.7)) for a in ("none", "neg")
    ]  # fmt: skip
    made = study(cells)
    (axes,) = shown(figures.sweep(made, cells, "rho", "defense", "attack"))
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [0.25, 0.5, 1.0])
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [50.0, 60.0, 70.0])
    assert axes.get_xlabel() == "rho"


def test_shares_have_an_axis_of_their_own_and_long_names_break():
    """.70 and .72 on an axis to 100 would be one line at the bottom."""
    cells = [cell({"h": h}, 0, rm_accuracy_local=v) for h, v in (("0.0", 0.72), ("1.0", 0.70))]
    figure = figures.sweep(study(cells), cells, "h", None, None, "rm_accuracy_local")
    (axes,) = shown(figure)
    assert axes.get_ylim()[0] > 0.6 and axes.get_ylim()[1] < 0.8
    assert axes.get_ylabel() == "accuracy on the order of each\nclient's own values"


def test_numbers_in_titles_and_legends_say_what_they_are():
    cells = [
        cell({"data.h": h, "algorithm.mu": mu}, 0, 0.5) for h in ("0.0", "1.0") for mu in ("1", "2e-3")
    ]  # fmt: skip
    figure = figures.curves(study(cells), cells, "data.h", "algorithm.mu")
    assert [axes.get_title() for axes in shown(figure)] == ["h = 0.0", "h = 1.0"]
    assert figure.legends[0].get_title().get_text() == "mu"
    plain = figures.curves(small(), small().cells)
    assert not plain.legends[0].get_title().get_text()


def test_the_partition_plot_has_a_disc_per_held_class_with_area_by_count():
    figure = figures.partition([[10, 0], [5, 20]])
    discs, totals = shown(figure)
    points = discs.collections[0]
    np.testing.assert_array_equal(points.get_offsets(), [[0, 0], [1, 0], [1, 1]])
    sizes = points.get_sizes()
    assert sizes[0] / sizes[2] == pytest.approx(0.5) and sizes[1] / sizes[2] == pytest.approx(0.25)
    assert [bar.get_height() for bar in totals.patches] == [10, 25]


@pytest.mark.parametrize("counts", [[], [[]], [[1, 2], [3]]])
def test_a_partition_that_is_no_matrix_is_refused(counts):
    with pytest.raises(ConfigError, match="one row of class counts per client"):
        figures.partition(counts)


def test_saved_as_vector_pdf_with_true_type_and_as_png_of_150_dpi(tmp_path):
    made = small()
    figure = figures.heatmap(made, made.cells)
    pdf, png = figures.save(figure, tmp_path / "figures", "heatmap")
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF") and b"/FontFile2" in content and b"/Type3" not in content
    assert png.read_bytes().startswith(b"\x89PNG")
    width = int.from_bytes(png.read_bytes()[16:20], "big")
    assert width == pytest.approx(figure.get_size_inches()[0] * 150, abs=1)
    assert sorted(p.name for p in pdf.parent.iterdir()) == ["heatmap.pdf", "heatmap.png"]


def test_the_same_study_gives_the_same_files(tmp_path):
    made = small()
    first, second = (
        [p.read_bytes() for p in figures.save(figures.curves(made, made.cells), tmp_path / n, "c")]
        for n in ("one", "two")
    )
    assert first == second and b"CreationDate" not in first[0]


def test_drawing_leaves_the_global_settings_alone(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    made = small()
    figures.save(figures.curves(made, made.cells), tmp_path, "c")
    assert dict(matplotlib.rcParams) == before
