"""Attention maps and feature maps: values that can be worked out by hand, then real models, then the pictures."""

import inspect
import re
import warnings

import numpy as np
import pytest

from command_line import DIGIT, SCENE, run
from oracle import assert_same, opened
from tinymvit import MobileViTForImageClassification, MobileViTImageProcessor, MobileViTModel
from tinymvit.config import MobileViTConfig
from tinymvit.graph import Graph, Node
from tinymvit.inspection.attention_map import COLOUR, OPACITY, Query, attention_map, attention_picture
from tinymvit.inspection.feature_map import GAP_COLOUR, channels, grid
from tinymvit.ops import Context, Conv2d, Input, Linear, Scores, Softmax, Unfold
from torch_models import TINY

HEIGHT, WIDTH = 8, 12  # of the image; the map is half as large, with 2 x 3 patches of 2 x 2
SHARPNESS = 4.0


CODES = np.array([[0, 0, 1, 1, 2, 2], [0, 1, 2, 0, 1, 2], [0, 1, 2, 2, 1, 0], [0, 1, 2, 1, 2, 0]])  # position, patch


@pytest.fixture
def constructed():
    """A graph, weights and pixels whose attention is known. Each position of each patch has a code, one-hot in channels
    0 to 2. In head 0 a query attends to the keys of the code before its own: of each position, to two patches, and they
    to others. Head 1, channels 3 to 5, sees only zeros."""
    patch = np.arange(6).reshape(2, 3).repeat(2, 0).repeat(2, 1)  # of each pixel of the map
    position = np.tile([[0, 1], [2, 3]], (2, 3))
    codes = CODES[position, patch]
    image = np.zeros((1, 6, HEIGHT, WIDTH), np.float32)
    for code in range(3):
        image[0, code, ::2, ::2] = codes == code  # a stride of 2 takes these pixels and no others

    g, block = Graph(), "encoder.layer.2"
    attention = f"{block}.transformer.layer.0.attention.attention"
    x = g.append(Node("pixel_values", Input(), (), (), image.shape))
    x = g.add("half", Conv2d(6, 6, 1, stride=2), x)
    x = g.add(f"{block}.unfolding", Unfold(2, 2), x)
    query, key = (g.add(f"{attention}.{name}", Linear(6, 6, bias=False), x) for name in ("query", "key"))
    probabilities = g.add(f"{attention}.probabilities", Softmax(), g.add(f"{attention}.scores", Scores(2), query, key))
    g.module(f"{block}.transformer", g.add(attention, Context(), probabilities, x))
    weights = {
        "half.weight": np.eye(6, dtype=np.float32)[..., None, None],
        f"{attention}.query.weight": SHARPNESS * np.sqrt(3) * np.eye(6, dtype=np.float32),
        f"{attention}.key.weight": np.eye(6, dtype=np.float32)[[2, 0, 1, 3, 4, 5]],
    }
    return g, weights, image


ASKED, OTHER = (np.exp([SHARPNESS, 0]) / (2 * np.exp(SHARPNESS) + 4)).tolist()


@pytest.mark.parametrize(
    ("query", "patches"),
    [
        ((0, 0), [4, 5]),  # position 0 of patch 0: its code is 0, so it attends to 2
        ((1, 1), [4, 5]),  # the same pixel of the map, which covers 2 x 2 of the image
        ((0, 2), [2, 5]),  # position 1
        ((2, 0), [2, 3]),  # position 2
        ((3, 3), [2, 4]),  # position 3
        ((0, 4), [4, 5]),  # position 0 of patch 1
        ((4, 8), [2, 3]),  # position 0 of patch 5: its code is 2, so it attends to 1
        ((7, 11), [2, 4]),  # position 3 of patch 5: 0, so 2
    ],
)
def test_a_query_looks_at_the_patches_of_its_own_position(constructed, query, patches):
    attention = attention_map(*constructed, Query(block=0, layer=0, head=0, pixel=query))
    expected = np.full((2, 3), OTHER)
    expected.flat[patches] = ASKED
    assert_same(attention, expected.repeat(4, 0).repeat(4, 1), 1e-6, dtype=np.float32)
    assert attention.sum() == pytest.approx(HEIGHT * WIDTH / 6)


def test_heads_and_their_mean(constructed):
    one = attention_map(*constructed, Query(block=0, layer=0, head=1, pixel=(0, 0)))
    assert_same(one, np.full((HEIGHT, WIDTH), 1 / 6), 1e-6)
    mean = attention_map(*constructed, Query(block=0, layer=0, head=None, pixel=(0, 0)))
    assert mean[-1, -1] == pytest.approx((ASKED + 1 / 6) / 2)
    assert mean[0, 0] == pytest.approx((OTHER + 1 / 6) / 2)


@pytest.mark.parametrize("size", [(44, 72), (64, 64), (50, 33)])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_each_pixel_shows_its_patch_in_a_real_model(size, number):
    """Pixel by pixel from the traced probabilities, interpolated maps included, as the page says it."""
    model = MobileViTModel(MobileViTConfig(**TINY, initializer_range=0.5))
    x = np.random.default_rng(0).random((1, 3, *size), np.float32)
    block = f"encoder.layer.{number + 2}"
    graph = model.graph(x.shape)
    height, width = graph.inputs_of(graph[f"{block}.unfolding"])[0].shape[2:]
    ((name, probabilities),) = model.trace(x, f"{block}.transformer.layer.1.*.probabilities").items()

    def place(y, x):
        row, column = y * height // size[0], x * width // size[1]
        return row % 2 * 2 + column % 2, row // 2 * (width // 2) + column // 2

    assert probabilities.shape[-1] == 1 or len(np.unique(probabilities)) > probabilities.size / 2
    for query in ((0, 0), (size[0] - 1, size[1] - 1), (17, 23)):
        position, patch = place(*query)
        attention = model.attention(x, number, 1, head=1, query=query)
        assert attention.shape == size
        for y in range(0, size[0], 3):
            for x_ in range(0, size[1], 3):
                assert attention[y, x_] == probabilities[position, 1, patch, place(y, x_)[1]], (name, query, y, x_)


def test_mistakes_in_a_call():
    model = MobileViTModel(MobileViTConfig(**TINY))
    x = np.zeros((1, 3, 32, 32), np.float32)

    def refused(error, message, pixels=x, **options):
        with pytest.raises(error, match=message):
            model.attention(pixels, **{"block": 0, "layer": 0, "query": (0, 0)} | options)

    refused(ValueError, "block is 3; expected 0 to 2", block=3)
    refused(ValueError, "block is -1; expected 0 to 2", block=-1)
    refused(TypeError, "block is 0.5; expected a whole number", block=0.5)
    refused(ValueError, "layer is 4; expected 0 to 3", block=1, layer=4)
    refused(ValueError, "head is 2; expected 0 to 1", head=2)
    refused(ValueError, "query's y is 32; expected 0 to 31", query=(32, 0))
    refused(ValueError, "query's x is -1; expected 0 to 31", query=(0, -1))
    refused(TypeError, "query's x is 1.5; expected a whole number", query=(0, 1.5))
    refused(ValueError, r"query is 7; expected two numbers, \(y, x\)", query=7)
    refused(ValueError, "pixel_values hold 2 images; expected one", np.zeros((2, 3, 32, 32), np.float32))
    refused(ValueError, "expected four axes", np.zeros((3, 32, 32), np.float32))
    model.weights["conv_stem.normalization.weight"] = model.weights["conv_stem.normalization.weight"] * np.nan
    refused(ValueError, "probabilities: holds NaN; expected probabilities")


# ------------------------------------------------------------------------------------- the words, and those of 0.1


@pytest.fixture(scope="module")
def attends():
    """A model, pixels, and what its attention is at each (MobileViT block, transformer layer) of the first two each."""
    model = MobileViTModel(MobileViTConfig(**TINY, initializer_range=0.3))
    x = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    known = {}
    for block, layer in np.ndindex(2, 2):
        name = f"encoder.layer.{block + 2}.transformer.layer.{layer}.attention.attention.probabilities"
        known[block, layer] = model.trace(x, name)[name][0, :, 0].mean(0)
    return model, x, known


def looked_at(attends, *places, **named):
    """Which (block, layer) a call of the method looked at, told by its values; and what it warned of."""
    model, x, known = attends
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        attention = model.attention(*([] if "pixel_values" in named else [x]), *places, **named, query=(0, 0))
    [found] = [at for at, row in known.items() if set(row.tolist()) == set(attention.ravel().tolist())]
    return found, [warning.message for warning in warned]


def test_block_is_a_mobilevit_block_and_layer_a_transformer_layer_in_it(attends):
    model, x, _ = attends
    assert list(inspect.signature(model.attention).parameters)[:4] == ["pixel_values", "block", "layer", "head"]
    assert looked_at(attends, block=1, layer=0) == ((1, 0), [])
    assert looked_at(attends, block=0, layer=1) == ((0, 1), [])
    assert looked_at(attends, 1, layer=0) == ((1, 0), [])
    assert looked_at(attends, 1, 0) == ((1, 0), [])  # by position as in version 0.1, whose layer was a MobileViT block
    assert looked_at(attends, 0, 1, None) == ((0, 1), [])
    assert looked_at(attends, pixel_values=x, block=1, layer=0) == ((1, 0), [])
    for named in ({"layer": 0}, {"block": 0}, {}):
        with pytest.raises(TypeError, match="missing"):
            model.attention(x, **named, query=(0, 0))
    with pytest.raises(TypeError, match="multiple values for argument 'block'"):
        model.attention(x, 0, 0, block=0, query=(0, 0))


@pytest.mark.parametrize(
    ("places", "named"), [((), {"layer": 1, "block": 0}), ((1,), {"block": 0})], ids=["both", "one by position"]
)
def test_the_keywords_of_version_0_1_mean_what_they_meant_and_warn(attends, places, named):
    found, [warning] = looked_at(attends, *places, **named)
    assert found == (1, 0)
    assert isinstance(warning, FutureWarning)
    assert str(warning).startswith(
        "attention(layer=1, block=0) is read as in version 0.1, which exchanged the two words: write block=1, layer=0."
    )


def test_the_warning_points_at_the_call(attends):
    model, x, _ = attends
    with pytest.warns(FutureWarning) as warned:
        model.attention(x, layer=1, block=0, query=(0, 0))
    assert warned[0].filename == __file__


def test_the_picture_colours_by_attention_and_marks_the_query():
    pixels = np.full((1, 3, 100, 60), 0.5, np.float32)
    attention = np.zeros((100, 60), np.float32)
    attention[50:, :30] = 0.2
    attention[50:, 30:] = 0.1
    picture = attention_picture(pixels, attention, (20, 45))
    assert picture.size == (180, 300)  # three times as large
    values = np.asarray(picture)
    assert values[30, 30].tolist() == [128, 128, 128]
    full, half = (127.5 + (COLOUR - 127.5) * OPACITY * share for share in (1, 0.5))
    assert values[200, 30].tolist() == full.round().tolist()
    assert values[200, 150].tolist() == half.round().tolist()
    coloured = np.argwhere((values[:150] != 128).any(2))  # the circle around the query, in the part without attention
    assert coloured.mean(0).tolist() == [20 * 3 + 1, 45 * 3 + 1]
    assert np.ptp(coloured, 0).tolist() == [12, 12]
    assert attention_picture(pixels, attention * 0, (0, 0)).getpixel((100, 200)) == (128, 128, 128)


# ------------------------------------------------------------------------------------------------------- feature maps


def test_the_grid_shows_each_channel_in_its_place():
    values = np.arange(5 * 2 * 2, dtype=np.float32).reshape(5, 2, 2) - 3
    picture = np.asarray(grid(values))
    side = 128  # of a channel: 2 pixels enlarged 64 times
    assert picture.shape == (3 * (side + 1) + 1, 2 * (side + 1) + 1, 3)
    for channel, row, column in np.ndindex(5, 2, 2):
        top = 1 + channel // 2 * (side + 1) + row * 64
        left = 1 + channel % 2 * (side + 1) + column * 64
        level = round((channel * 4 + row * 2 + column) * 255 / 19)
        assert (picture[top : top + 64, left : left + 64] == level).all()
    assert (picture[0] == GAP_COLOUR).all()
    assert (picture[-side:, -side:] == GAP_COLOUR).all()  # there is no sixth channel


def test_grids_of_odd_shapes():
    assert grid(np.zeros((1, 1, 1))).size == (130, 130)
    assert grid(np.ones((2, 40, 3))).height > 40
    assert grid(np.zeros((1, 2000, 5))).size == (7, 2002)
    with pytest.raises(ValueError, match="the feature map holds NaN or infinite values; expected finite numbers"):
        grid(np.array([[[np.nan]]]))


def test_tokens_are_put_back_in_their_places():
    model = MobileViTModel(MobileViTConfig(**TINY))
    x = np.random.default_rng(1).random((1, 3, 44, 72), np.float32)
    graph, trace = model.graph(x.shape), model.trace(x)
    block = "encoder.layer.2"

    def channels_of(name):
        return channels(graph, graph[name], trace[name])

    assert_same(channels_of(f"{block}.unfolding"), trace[f"{block}.unfolding.interpolate"][0])
    assert_same(channels_of(f"{block}.layernorm"), trace[f"{block}.folding"][0])
    assert channels_of(f"{block}.transformer.layer.1.intermediate.dense").shape == (16, 6, 10)
    assert_same(channels_of(f"{block}.conv_projection.convolution"), trace[f"{block}.conv_projection.convolution"][0])
    for name in ("pooler_output", f"{block}.transformer.layer.0.attention.attention.scores"):
        with pytest.raises(ValueError, match=r"that are no map of the image; expected a map or tokens"):
            channels_of(name)


# ------------------------------------------------------------------------------------------------------- the commands


def test_the_attention_command(capsys, tmp_path):
    target = tmp_path / "attention.png"
    code, out, err = run(capsys, "attention", DIGIT, "--block", 1, "--query", "60,70", "--output", target)
    assert (code, err) == (0, "")
    x = MobileViTImageProcessor.from_pretrained("digits")(DIGIT).pixel_values
    attention = MobileViTForImageClassification.from_pretrained("digits").attention(x, 1, 0, query=(60, 70))
    assert opened(target).size == (384, 384)
    assert_same(np.asarray(opened(target)), np.asarray(attention_picture(x, attention, (60, 70))))
    least, most, own = attention.min(), attention.max(), attention[60, 70]
    told = f"takes {least:.2%} to {most:.2%} from each patch, {own:.2%} from its own"
    assert out == f"{DIGIT} -> {target}: pixel 60,70 of 128 x 128 {told}\n"


@pytest.mark.parametrize(
    ("options", "place", "hint"),
    [
        ("--block 1 --layer 2", (1, 2), ""),
        ("--block 2", (2, 0), ""),
        ("--layer 2", (2, 0), "--layer 2 is read as in version 0.1, .* write --block 2 --layer 0"),
        ("--layer 1 --block 2", (1, 2), "--layer 1 --block 2 is read as .* write --block 1 --layer 2"),
    ],
)
def test_the_commands_words_and_those_of_version_0_1(capsys, monkeypatch, tmp_path, options, place, hint):
    asked = []
    monkeypatch.setattr(
        MobileViTForImageClassification,
        "attention",
        lambda model, pixels, *place, **_: asked.append(place) or np.zeros(pixels.shape[2:], np.float32),
    )
    command = ["attention", DIGIT, *options.split(), "--query", "60,70", "--output", tmp_path / "x.png"]
    code, _, err = run(capsys, *command)
    assert (code, asked) == (0, [(*place, None)])
    assert re.fullmatch(f"tinymvit: warning: {hint}.*\n" if hint else "", err)


def test_the_features_command(capsys, tmp_path):
    target = tmp_path / "features.png"
    code, out, err = run(
        capsys, "features", DIGIT, "--node", "mobilevit.encoder.layer.2.transformer", "--output", target
    )
    assert (code, err) == (0, "")
    assert "mobilevit.encoder.layer.2.transformer, 64 channels of 16 x 16, black -" in out
    assert opened(target).size == (8 * 129 + 1, 8 * 129 + 1)
    code, out, _ = run(
        capsys, "features", SCENE, "--model", "digits-seg", "--node", "segmentation_head", "--output", target
    )
    assert code == 0
    assert "segmentation_head, 11 channels of 20 x 20" in out


ATTENTION, FEATURES = ["attention", DIGIT, "--output", "x.png"], ["features", DIGIT, "--output", "x.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*ATTENTION, "--query", "1,2"], "--block is missing; expected the number of a MobileViT block: 0, 1 or 2"),
        ([*ATTENTION, "--block", "1"], "--query"),
        ([*ATTENTION, "--block", "3", "--query", "1,2"], "block is 3; expected 0 to 2"),
        ([*ATTENTION, "--block", "0", "--layer", "2", "--query", "1,2"], "layer is 2; expected 0 to 1"),
        ([*ATTENTION, "--block", "0", "--query", "1"], "'1'; expected Y,X"),
        ([*ATTENTION, "--block", "0", "--query", "1,-2"], "'-2'; expected a whole number, 0 or more"),
        ([*ATTENTION, "--block", "0", "--query", "1,128"], "query's x is 128; expected 0 to 127"),
        (["attention", DIGIT, "--block", "0", "--query", "1,2", "--output", "x.xyz"], "names no picture format"),
        ([*FEATURES, "--node", "classifier"], "1 x 10 values that are no map of the image"),
        ([*FEATURES, "--node", "*.unfolding"], "--node *.unfolding: stands for 3 names; expected one"),
        ([*FEATURES, "--node", "conv_stem.skores"], "no node, module or result has this name"),
        (["features", "nowhere.png", "--node", "classifier", "--output", "x.png"], "nowhere.png"),
    ],
)
def test_mistakes_get_one_line_and_leave_nothing(capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
