"""The paper's method: responses, selection, explanation, interpretation, and what they refuse."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import explainers
from an8flower.ground.registry import UnknownNameError
from an8flower.ground.torchvision_shim import import_torchvision
from explainers.backward.backprop import backpropagate
from explainers.layers import before_scores, layers
from explainers.vebi import Feature, Gram, Selection, SelectionError, interpret, responses, select, solve
from explainers.vebi.figures import (
    explanation_figure,
    interpretation_overview,
    interpretation_sheet,
    selection_figure,
)

N = 24
ROWS = {
    "vebi": "conv",
    "vebi_all": "all",
    "vebi_nearest": "nearest",
    "deconv_gb": "none",
    "upsampled_activations": None,
}


@pytest.fixture
def images(generator: torch.Generator) -> torch.Tensor:
    """Three kinds of image: bright above, bright below, striped."""
    images = 0.3 * torch.rand(N, 3, 28, 28, generator=generator)
    images[0::3, :, :14] += 0.6
    images[1::3, :, 14:] += 0.6
    images[2::3, :, ::2] += 0.6
    return images


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.arange(N) % 3


@pytest.fixture
def loader(images, labels):
    return [(images[:10], labels[:10]), (images[10:], labels[10:])]


def with_hooks(model, images):
    """Outputs of conv1, relu1, conv2, relu2, pool of the modular network."""
    kept = {}
    for name in ("conv1", "relu1", "conv2", "relu2", "pool"):
        handle = model.get_submodule(name).register_forward_hook(
            lambda m, i, o, name=name: kept.setdefault(name, o.detach().clone())
        )
        kept.setdefault("handles", []).append(handle)
    model(images)
    for handle in kept.pop("handles"):
        handle.remove()
    return kept


# ---- responses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("norm", "power"), [("squared_l2", 2), ("l2", 1)])
def test_responses_are_norms_as_shares_of_their_layers(modular, written, images, norm, power):
    x = responses(written, images, norm=norm)
    columns = responses.features(written, images)
    assert x.shape == (N, len(columns)) and x.dtype == torch.float32 and not x.requires_grad
    kept = with_hooks(modular, images)
    names = {"conv1": "conv1", "relu1": "relu1", "conv2": "conv2", "relu2": "relu2", "pool1": "pool"}
    assert columns == tuple(Feature(n, q) for n, m in names.items() for q in range(kept[m].shape[1]))
    for n in (0, 7):
        for k, feature in enumerate(columns):
            maps = kept[names[feature.layer]][n].double()
            norms = [float(channel.square().sum() ** 0.5) ** power for channel in maps]
            assert x[n, k] == pytest.approx(norms[feature.channel] / sum(norms), rel=1e-4, abs=1e-7)


def test_a_layer_of_zeros_gives_zeros(modular, images):
    with torch.no_grad():
        modular.conv2.weight.zero_()
        modular.conv2.bias.fill_(-1)
    x, columns = responses(modular, images), responses.features(modular, images)
    dead = torch.tensor([feature.layer in ("relu2", "pool1") for feature in columns])
    assert x.isfinite().all() and not x[:, dead].any() and x[:, ~dead].any()


def test_layers_of_the_class_scores_are_left_out_unless_asked_for(modular, images):
    every = responses(modular, images, scores=None)
    assert every.shape[1] == responses(modular, images).shape[1] + 3
    assert responses(modular, images, scores="relu2").shape[1] == 4 + 4 + 6
    with pytest.raises(UnknownNameError, match="unknown layer 'fc7'"):
        responses(modular, images, scores="fc7")
    with pytest.raises(ValueError, match="norm must be one of squared_l2, l2; got 'l1'"):
        responses(modular, images, norm="l1")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "first", "last", "count"),
    [
        ("resnet18", "conv1 relu1 pool1 conv2 relu2", "pool2", 40),
        ("vgg16", "conv1 relu1 conv2 relu2 pool1", "relu15", 37),
        ("squeezenet1_1", "conv1 relu1 pool1 conv2 relu2", "relu25", 56),
    ],
)
def test_layers_of_torchvisions_nets(name, first, last, count, generator):
    model = getattr(import_torchvision().models, name)(weights=None).eval()
    every = layers(model, torch.rand(1, 3, 96, 96, generator=generator))
    assert [layer.name for layer in every[:5]] == first.split() and len(every) == count
    assert [layer.number for layer in every] == list(range(1, count + 1))
    assert before_scores(every, 1000)[-1].name == last
    assert before_scores(every, 999) == before_scores(every, 1000, None) == every


@pytest.mark.slow
def test_maps_are_let_go_as_soon_as_they_are_measured(images):
    """At most a few layers' maps are alive at any time, however deep the model."""
    import gc

    alive = []

    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(30))
            self.fc = nn.Linear(3, 2)

        def forward(self, x):
            for conv in self.convs:
                x = functional.relu(conv(x))
            gc.collect()
            alive.append(sum(type(o) is torch.Tensor and o.shape == (N, 3, 28, 28) for o in gc.get_objects()))
            return self.fc(x.mean((2, 3)))

    model = Deep().eval()
    with torch.no_grad():
        model(images)
    responses(model, images)
    assert alive[1] <= alive[0] + 3


# ---- selection -----------------------------------------------------------------------------------


def test_selection_is_the_mu_lasso_on_all_training_images(modular, images, labels, loader):
    found = select(modular, loader, mu=2.0)
    x = responses(modular, images).double().numpy()
    one_hot = np.eye(3)[labels]
    solved = solve(Gram().partial_fit(x.T, one_hot.T), mu=2.0)
    columns = responses.features(modular, images)
    expected = {
        (j, columns[i].layer, columns[i].channel): solved.weights[i, j]
        for i, j in np.argwhere(solved.weights != 0)
    }
    mine = {(one.target, found.layer(one).name, one.channel): one for one in found.features}
    assert mine.keys() == expected.keys() and found.images == N and found.gap <= 1e-8
    for key, one in mine.items():
        assert one.weight == pytest.approx(expected[key], abs=1e-6)
        column = columns.index(Feature(key[1], one.channel))
        mean = x[labels == one.target, column].mean()
        assert one.relevance == pytest.approx(one.weight * mean, abs=1e-6)
    for target in range(3):
        relevance = [one.relevance for one in found.of(target)]
        assert relevance == sorted(relevance, reverse=True) and relevance
    table = found.table()
    assert list(table["class"]) == [one.target for one in found.features]
    assert table.groupby("class")["rank"].min().eq(1).all()


def test_only_conv_takes_features_from_convolutions_alone(modular, loader):
    found = select(modular, loader, only_conv=True)
    assert {found.layer(one).kind for one in found.features} == {"conv"}


def test_mu_of_zero_selects_nothing_and_explains_nothing(modular, loader, images, labels):
    method = explainers.get("vebi", mu=0.0).fit(modular, loader)
    assert method.method.selection.features == ()
    assert not method(modular, images, labels).any()


def test_saved_and_loaded(modular, loader, tmp_path):
    found = select(modular, loader)
    found.save(tmp_path / "deep/selection.json")
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["selection.json", "selection.npz"]
    again = Selection.load(tmp_path / "deep/selection.json")
    assert again == found
    assert [a.receptive_field for a in again.layers] == [b.receptive_field for b in found.layers]


@pytest.mark.parametrize("damage", ["missing", "json", "npz", "schema", "pickle", "field"])
def test_a_damaged_selection_is_refused(modular, loader, tmp_path, damage):
    path = tmp_path / "selection.json"
    select(modular, loader).save(path)
    about = json.loads(path.read_text())
    if damage == "missing":
        path.with_suffix(".npz").unlink()
    elif damage == "json":
        path.write_text("{")
    elif damage == "npz":
        path.with_suffix(".npz").write_bytes(b"other")
    elif damage == "schema":
        path.write_text(json.dumps(about | {"schema_version": 99}))
    elif damage == "field":
        path.write_text(json.dumps({k: v for k, v in about.items() if k != "mu"}))
    else:
        import hashlib

        np.savez(path.with_suffix(".npz"), target=np.array([{}], dtype=object))
        content = path.with_suffix(".npz").read_bytes()
        path.write_text(json.dumps(about | {"features_sha256": hashlib.sha256(content).hexdigest()}))
    with pytest.raises(SelectionError, match=r"selection\.json is not a valid selection: .*fit it again"):
        Selection.load(path)


def test_selection_is_fitted_once_for_all_that_share_it(modular, images, labels):
    class Counted:
        digest = "the images of this test"
        passes = 0

        def __iter__(self):
            Counted.passes += 1
            return iter([(images, labels)])

    fitted = [explainers.get(name).fit(modular, Counted()).method.selection for name in ROWS]
    assert Counted.passes == 1 and all(one is fitted[0] for one in fitted)
    explainers.get("vebi", mu=1.0).fit(modular, Counted())
    with torch.no_grad():
        modular.conv1.weight[0, 0, 0, 0] += 1  # other weights, another selection
    explainers.get("vebi").fit(modular, Counted())
    assert Counted.passes == 3


class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(functional.dropout(self.conv(x).mean((2, 3)), 0.5, training=True))


def flat():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, 4), nn.ReLU(), nn.Linear(4, 3))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (flat(), "no layer with a map larger than 1x1"),
        (Dropping(), "different logits each time, in eval mode: does it have an active dropout"),
        (
            nn.Sequential(nn.Conv2d(3, 3, 3)),
            r"must return logits \(N, C\); it returned \(8, 3, 26, 26\)",
        ),
        (nn.Sequential(nn.Conv2d(3, 3, 28), nn.Flatten()), "no layer"),
    ],
    ids=["no map", "dropout", "shape", "scores alone"],
)
def test_models_that_cannot_be_explained_are_refused(model, message, loader):
    with pytest.raises(SelectionError, match=message):
        select(model.eval(), loader)


def test_bad_weights_and_images_are_named(modular, loader, images, labels):
    for value in (-1.0, float("nan")):
        with pytest.raises(SelectionError, match="mu must be 0 or more"):
            select(modular, loader, mu=value)
    with pytest.raises(SelectionError, match="no training image of class 1; every class needs one"):
        select(modular, [(images[labels != 1], labels[labels != 1])])
    with pytest.raises(SelectionError, match="there are 2 training images for 3 classes"):
        select(modular, [(images[:2], labels[:2])])
    with pytest.raises(SelectionError, match="the loader has no images"):
        select(modular, [])
    with pytest.raises(SelectionError, match="labels range from 1 to 3, but the model has 3 classes"):
        select(modular, [(images, labels + 1)])
    with pytest.raises(SelectionError, match=r"labels must be \(24,\) integers; got \(24, 3\)"):
        select(modular, [(images, functional.one_hot(labels))])
    with torch.no_grad():
        modular.conv2.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(SelectionError, match=r"'conv2.weight' has NaN or infinite values"):
        select(modular, loader)


def test_train_mode_dropout_is_off_and_comes_back(images, labels):
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Dropout(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    ).train()
    assert select(model, [(images, labels)]).features and model.training


# ---- explanation ---------------------------------------------------------------------------------


def one_by_one(model, selection, image, target, resample):
    """The method image by image and feature by feature, from public parts."""
    x = responses(model, image[None])[0]
    columns = responses.features(model, image[None])
    ranked = []
    for one in selection.of(target):
        column = columns.index(Feature(selection.layer(one).name, one.channel))
        ranked.append((one.weight * float(x[column]), one))
    ranked = sorted((r for r in ranked if r[0] > 0), key=lambda r: -r[0])[:3]
    maps = []
    for _, one in ranked:
        layer = selection.layer(one)
        if resample is None:
            kept = with_hooks(model, image[None])
            forward_map = kept[{"pool1": "pool"}.get(layer.name, layer.name)][0, one.channel]
            heatmap = functional.interpolate(
                forward_map[None, None], size=(28, 28), mode="bilinear", align_corners=False
            )[0, 0]
        else:
            signal = backpropagate(
                model, image[None], layer=layer.name, channels=one.channel, resample=resample
            )
            heatmap = signal[0].square().sum(0).sqrt()
        span = heatmap.max() - heatmap.min()
        maps.append((heatmap - heatmap.min()) / span if span > 0 else torch.zeros_like(heatmap))
    return [(relevance, one) for relevance, one in ranked], maps


@pytest.mark.parametrize("name", ROWS)
def test_explanations_are_those_of_each_feature_of_each_image(name, modular, loader, images, labels):
    explainer = explainers.get(name, mu=3.0).fit(modular, loader)
    method = explainer.method
    explanation = method.explain(modular, images, labels)
    assert torch.equal(explanation.combined, explainer(modular, images, labels))
    lengths = set()
    for n in range(N):
        ranked, maps = one_by_one(modular, method.selection, images[n], int(labels[n]), ROWS[name])
        assert [(e.layer.number, e.channel) for e in explanation.evidence[n]] == [
            (one.layer, one.channel) for _, one in ranked
        ]
        for k, (relevance, _) in enumerate(ranked):
            assert explanation.evidence[n][k].relevance == pytest.approx(relevance, rel=1e-4)
            torch.testing.assert_close(explanation.heatmaps[n, k], maps[k], rtol=1e-3, atol=1e-4)
        assert not explanation.heatmaps[n, len(ranked) :].any()
        combined = torch.stack([*maps, torch.zeros(28, 28)]).amax(0)
        torch.testing.assert_close(explanation.combined[n], combined, rtol=1e-3, atol=1e-4)
        lengths.add(len(ranked))
    assert max(lengths) > 1


def test_reductions_differ_as_defined(modular, loader, images, labels):
    maps = {
        how: explainers.get("vebi", reduce=how, top=1).fit(modular, loader)(modular, images, labels)
        for how in ("l2", "positive_l2", "abs")
    }
    assert not torch.allclose(maps["l2"], maps["positive_l2"])
    assert not torch.allclose(maps["l2"], maps["abs"])
    with pytest.raises(ValueError, match="reduce must be one of l2, positive_l2, abs; got 'sum'"):
        explainers.get("vebi", reduce="sum").fit(modular, loader)(modular, images, labels)


def test_what_cannot_be_explained_is_said(modular, loader, images, labels):
    unfitted = explainers.get("vebi")
    with pytest.raises(SelectionError, match=r"not fitted: call fit\(model, loader\)"):
        unfitted(modular, images, labels)
    with pytest.raises(ValueError, match="top must be 1 or more; got 0"):
        explainers.get("vebi", top=0)
    fitted = unfitted.fit(modular, loader)
    with pytest.raises(ValueError, match="targets must be from 0 to 2, the model has 3 classes; got 3"):
        fitted(modular, images, labels + 1)
    with pytest.raises(SelectionError, match="target 3 does not exist: there are 3 classes"):
        fitted.method.explain(modular, images, labels + 1)
    other = nn.Sequential(nn.Conv2d(3, 5, 5), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 24 * 24, 3)).eval()
    with pytest.raises(
        SelectionError,
        match="fitted for another model: its layer 1 is conv1 with 4 channels, this model's is",
    ):
        fitted(other, images, labels)


def test_figure_6_names_layers_and_colours_them(modular, loader, images, labels):
    method = explainers.get("vebi").fit(modular, loader).method
    explanation = method.explain(modular, images[:2], labels[:2])
    masks = [torch.zeros(28, 28, dtype=torch.bool), None]
    figure = explanation_figure(images[:2], explanation, 6, ["a, 90%", "b, 80%"], masks=masks)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0] == "a, 90%"
    first = explanation.evidence[0][0]
    assert titles[1] == f"layer {first.layer.number}/6\n{first.layer.name}, {first.channel}"
    assert figure.axes[1].title.get_color() == "#1a7f37"  # has a map: green
    drawn = selection_figure(method.selection, ["a", "b", "c"])
    assert len(drawn.axes[0].patches) == 2 * len(method.selection.layers)


# ---- interpretation ------------------------------------------------------------------------------


@pytest.mark.parametrize("of_class", [False, True])
def test_average_patches_are_those_of_a_plain_loop(modular, loader, images, labels, of_class):
    selection = select(modular, loader)
    found = interpret(modular, loader, selection, top=5, of_class=of_class)
    assert [one.feature for one in found] == list(selection.features)
    x, columns = responses(modular, images), responses.features(modular, images)
    kept = with_hooks(modular, images)
    for one in found:
        name = {"pool1": "pool"}.get(one.layer.name, one.layer.name)
        strength = x[:, columns.index(Feature(one.layer.name, one.feature.channel))].clone()
        if of_class:
            strength[labels != one.feature.target] = -1
        order = strength.argsort(descending=True, stable=True)[:5]
        assert one.images == tuple(order.tolist())
        field = one.layer.receptive_field
        total = torch.zeros(3, *field.size_px)
        count = torch.zeros(field.size_px)
        for n in order.tolist():
            forward_map = kept[name][n, one.feature.channel].abs()
            at = int(forward_map.argmax())
            top, bottom, left, right = field.window(at // forward_map.shape[1], at % forward_map.shape[1])
            for i in range(max(top, 0), min(bottom, 28)):
                for j in range(max(left, 0), min(right, 28)):
                    total[:, i - top, j - left] += images[n, :, i, j]
                    count[i - top, j - left] += 1
        expected = torch.where(count > 0, total / count.clamp(min=1), 1.0)
        torch.testing.assert_close(one.average, expected, rtol=1e-4, atol=1e-5)
        assert set(one.guided) == {"upsampled_activations", "deconv_gb", "vebi"}
        for guided in one.guided.values():  # faded to white: never darker
            assert (guided >= one.average - 1e-5).all() and guided.shape == one.average.shape


@pytest.mark.slow
def test_units_without_a_map_are_shown_by_whole_images(images, labels):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 26 * 26, 6), nn.ReLU(), nn.Linear(6, 3)
    ).eval()
    selection = select(model, [(images, labels)])
    found = interpret(model, [(images, labels)], selection, top=4)
    units = [one for one in found if not one.layer.has_map]
    assert units
    for one in units:
        torch.testing.assert_close(one.average, images[list(one.images)].mean(0), rtol=1e-5, atol=1e-6)
        assert set(one.guided) == {"deconv_gb", "vebi"}
    sheet = interpretation_sheet(units, "bright above", 5)
    assert "has no map" in [text.get_text() for axes in sheet.axes for text in axes.texts]
    overview = interpretation_overview(found, ["a", "b", "c"], 5)
    assert {"a", "b", "c"} <= {axes.get_title() for axes in overview.axes}


def test_a_loader_that_shuffles_is_noticed(modular, images, labels, loader):
    class Shuffling:
        turn = 0

        def __iter__(self):
            Shuffling.turn += 1
            order = torch.arange(N).roll(Shuffling.turn)
            return iter([(images[order], labels[order])])

    selection = select(modular, loader)
    with pytest.raises(SelectionError, match="or another order, the second time; it must not shuffle"):
        interpret(modular, Shuffling(), selection, top=3)
