"""The coloured light: equal for all classes of a view, so strong that only it makes colours readable."""

from __future__ import annotations

import numpy as np
import pytest

from an8flower.drawing.factors import DEFAULTS, values_of
from an8flower.protocol import PART_IDS

SETTINGS = {"light_hue": (0.0, 360.0), "light_saturation": 0.5}
VIEWS = (1, 3, 14)  # red, green and blue light


def values(view, **settings):
    return values_of(settings or SETTINGS, seed=0, view=view)


def mean_colour(frame, part):
    return frame.image[frame.part_ids == PART_IDS[part]].mean(axis=0)


def luminance(image):
    return ((image / 255.0) ** 2.2 @ [0.2126, 0.7152, 0.0722]).mean()


def test_white_light_has_no_hue(renderer):
    usual = renderer.render(2, 32)
    for hue in (0.0, 77.0, 360.0):
        frame = renderer.render(2, 32, {**DEFAULTS, "light_hue": hue})
        np.testing.assert_array_equal(frame.image, usual.image)


def test_light_colours_plant_pot_and_background_and_keeps_ids_and_brightness(renderer):
    usual = renderer.render(0, 32)
    for hue, channel in ((0.0, 0), (120.0, 1), (240.0, 2)):
        frame = renderer.render(0, 32, {**DEFAULTS, "light_hue": hue, "light_saturation": 0.5})
        np.testing.assert_array_equal(frame.part_ids, usual.part_ids)
        for part in ("background", "pot", "leaves", "petals"):
            before, after = mean_colour(usual, part), mean_colour(frame, part)
            others = [k for k in range(3) if k != channel]
            assert (after[channel] / before[channel] > 1.15 * after[others] / before[others]).all()
        assert luminance(frame.image) == pytest.approx(luminance(usual.image), rel=0.15)
    again = renderer.render(0, 32)
    np.testing.assert_array_equal(again.image, usual.image)


@pytest.mark.parametrize("background", ["plain", "textured"])
def test_light_colours_every_background(renderer, background):
    white, blue = (
        renderer.render(
            0, 32, {**DEFAULTS, "background": background, "light_hue": 240, "light_saturation": saturation}
        )
        for saturation in (0.0, 0.5)
    )
    before, after = mean_colour(white, "background"), mean_colour(blue, "background")
    assert after[2] / before[2] > 1.15 * max(after[:2] / before[:2])
    twins = renderer.render_twins(
        0, 32, {**DEFAULTS, "background": background, "light_hue": 240, "light_saturation": 0.5}
    )
    corner = np.s_[:40, :40]
    np.testing.assert_array_equal(twins.part_only[corner], blue.image[corner])


@pytest.mark.slow
def test_the_pot_tells_the_light_of_a_view_and_nothing_about_the_class(renderer):
    pots = np.array(
        [[mean_colour(renderer.render(k, view, values(view)), "pot") for k in range(6)] for view in VIEWS]
    )
    np.testing.assert_array_equal(pots, np.repeat(pots[:, :1], 6, axis=1))
    for a in range(len(VIEWS)):
        for b in range(a):
            assert np.abs(pots[a, 0] - pots[b, 0]).max() > 10


def nearest(colours):
    """Return the share of colours (lights, classes, 3) whose nearest one of other lights has their class."""
    right = []
    for k in range(len(colours)):
        others = np.delete(colours, k, axis=0)
        distances = np.linalg.norm(others[:, :, None] - colours[k], axis=-1).min(axis=0)
        right += (distances.argmin(axis=0) == np.arange(colours.shape[1])).tolist()
    return np.mean(right)


@pytest.mark.slow
def test_who_knows_the_pot_can_read_the_petals_and_who_does_not_cannot(renderer):
    """This makes the light a suppressor: the pot has no class, and yet the answer needs it."""
    petals, pots = [], []
    for hue in range(0, 360, 45):
        light = {**DEFAULTS, "light_hue": hue, "light_saturation": 0.85}
        frames = [renderer.render(k, 32, light) for k in range(6)]
        petals.append([(mean_colour(frame, "petals") / 255) ** 2.2 for frame in frames])
        pots.append([(mean_colour(frames[0], "pot") / 255) ** 2.2])
    usual = (mean_colour(renderer.render(0, 32), "pot") / 255) ** 2.2
    corrected = np.clip(np.array(petals) / np.array(pots) * usual, 0, 1)
    assert nearest(np.array(petals) ** (1 / 2.2)) < 0.75
    assert nearest(corrected ** (1 / 2.2)) > 0.97


@pytest.mark.slow
def test_petals_of_two_classes_have_one_colour_under_two_lights(renderer):
    def petals(k, hue):
        light = {**DEFAULTS, "light_hue": hue, "light_saturation": 0.85}
        return mean_colour(renderer.render(k, 32, light), "petals")

    hues = range(0, 360, 30)
    yellow, pink = ([petals(k, hue) for hue in hues] for k in (2, 5))
    same_light = [np.linalg.norm(a - b) for a, b in zip(yellow, pink, strict=True)]
    any_light = min(np.linalg.norm(a - b) for a in yellow for b in pink)
    assert any_light < 15 and min(same_light) > 4 * any_light
