"""`MobileViTConfig` against transformers' class of that name, and every complaint it makes."""

import copy
import dataclasses
import json
import pickle
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frameworks import transformers
from oracle import assert_same
from tinymvit.config import ACTIVATIONS, PRESETS, MobileViTConfig, preset_task, preset_with_segmenter
from tinymvit.errors import ConfigError, OutputError
from tinymvit.labels import VOC_NAMES, voc_palette

LABELS = ("num_labels", "id2label", "label2id")
SHAPE_FIELDS = [spec.name for spec in dataclasses.fields(MobileViTConfig) if spec.name not in (*LABELS, "extra")]


def reference_fields(config):
    """Our fields as transformers' configuration holds them, lists as tuples."""
    values = {name: getattr(config, name) for name in (*SHAPE_FIELDS, *LABELS)}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


# ------------------------------------------------------------------------------------------------- the same as there


@pytest.mark.torch
def test_defaults_are_those_of_transformers():
    assert reference_fields(MobileViTConfig()) == reference_fields(transformers.MobileViTConfig())


@pytest.mark.torch
def test_every_field_of_transformers_is_there():
    theirs = {spec.name for spec in dataclasses.fields(transformers.MobileViTConfig)}
    bookkeeping = {"transformers_version", "architectures", "dtype", "chunk_size_feed_forward", "is_encoder_decoder"}
    assert theirs - bookkeeping <= {spec.name for spec in dataclasses.fields(MobileViTConfig)}


@pytest.mark.torch
@pytest.mark.parametrize("given_labels", [{}, {"num_labels": 1}, {"num_labels": 7}, {"num_labels": 0}])
def test_labels_follow_from_their_number(given_labels):
    ours, theirs = MobileViTConfig(**given_labels), transformers.MobileViTConfig(**given_labels)
    assert (ours.num_labels, ours.id2label, ours.label2id) == (theirs.num_labels, theirs.id2label, theirs.label2id)


def test_id2label_fixes_the_number_and_its_keys_become_integers():
    config = MobileViTConfig(id2label={"1": "dog", "0": "cat", "2": "cat"})
    assert config.num_labels == 3
    assert list(config.id2label.items()) == [(0, "cat"), (1, "dog"), (2, "cat")]
    assert config.label2id == {"cat": 2, "dog": 1}


def test_label2id_is_kept_as_given():
    config = MobileViTConfig(id2label={0: "crane", 1: "crane"}, label2id={"crane": "0"})
    assert config.label2id == {"crane": 0}


def test_a_contradicting_number_wins_with_a_warning():
    given_labels = {"num_labels": 3, "id2label": {0: "cat", 1: "dog"}, "label2id": {"cat": 0, "dog": 1}}
    with pytest.warns(UserWarning, match="num_labels: 3, so the 2 names in id2label are dropped") as caught:
        ours = MobileViTConfig(**given_labels)
    assert caught[0].filename == __file__
    assert ours == MobileViTConfig(num_labels=3)
    if transformers:
        theirs = transformers.MobileViTConfig(**given_labels)
        assert (ours.num_labels, ours.id2label, ours.label2id) == (theirs.num_labels, theirs.id2label, theirs.label2id)


sizes = st.integers(1, 64)
probabilities = st.floats(0.0, 1.0)
configs = st.builds(
    MobileViTConfig,
    num_channels=sizes,
    image_size=st.one_of(sizes, st.tuples(sizes, sizes)),
    patch_size=st.one_of(sizes, st.tuples(sizes, sizes)),
    hidden_sizes=st.tuples(*[st.integers(1, 64).map(lambda n: 12 * n)] * 3),
    neck_hidden_sizes=st.tuples(*[sizes] * 7),
    num_attention_heads=st.sampled_from([1, 2, 3, 4, 6, 12]),
    mlp_ratio=st.floats(0.5, 4.0),
    expand_ratio=st.one_of(st.integers(1, 4), st.floats(0.5, 4.0)),
    hidden_act=st.sampled_from(sorted(ACTIVATIONS)),
    conv_kernel_size=st.integers(0, 3).map(lambda n: 2 * n + 1),
    output_stride=st.sampled_from([8, 16, 32]),
    hidden_dropout_prob=probabilities,
    attention_probs_dropout_prob=probabilities,
    classifier_dropout_prob=probabilities,
    initializer_range=st.floats(0.0, 1.0),
    layer_norm_eps=st.floats(1e-12, 1e-3),
    qkv_bias=st.booleans(),
    aspp_out_channels=sizes,
    atrous_rates=st.tuples(sizes, sizes, sizes),
    aspp_dropout_prob=probabilities,
    semantic_loss_ignore_index=st.integers(-100, 255),
    problem_type=st.sampled_from([None, "regression", "multi_label_classification"]),
    output_hidden_states=st.booleans(),
    return_dict=st.booleans(),
    id2label=st.lists(st.text(max_size=5), min_size=1, max_size=4).map(lambda names: dict(enumerate(names))),
)


@given(configs)
def test_saved_configurations_load_again(tmp_path_factory, config):
    folder = tmp_path_factory.getbasetemp() / "config"
    config.save_pretrained(folder)
    assert MobileViTConfig.from_pretrained(folder) == config


@pytest.mark.torch
@given(configs)
def test_saved_configurations_load_in_transformers(tmp_path_factory, config):
    folder = tmp_path_factory.mktemp("config")
    config.save_pretrained(folder)
    theirs = transformers.MobileViTConfig.from_pretrained(folder)
    assert reference_fields(theirs) == reference_fields(config)

    theirs.save_pretrained(folder)
    assert MobileViTConfig.from_pretrained(folder) == config


def test_from_a_file_and_with_changes(tmp_path):
    MobileViTConfig(num_channels=4).save_pretrained(tmp_path)
    config = MobileViTConfig.from_pretrained(tmp_path / "config.json", image_size=96, num_labels=5)
    assert (config.num_channels, config.image_size, config.num_labels) == (4, 96, 5)


def test_other_keys_of_a_config_json_are_kept(tmp_path):
    other = {"architectures": ["MobileViTModel"], "torch_dtype": "float32", "transformers_version": "4.20.0"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mobilevit", "num_channels": 1, **other}))
    config = MobileViTConfig.from_pretrained(tmp_path)
    assert config.extra == other
    assert config.replace(num_channels=3).extra == other
    config.save_pretrained(tmp_path / "copy")
    written = json.loads((tmp_path / "copy" / "config.json").read_text())
    assert written["model_type"] == "mobilevit"
    assert {name: written[name] for name in other} == other


@pytest.mark.parametrize(
    ("architectures", "task"),
    [
        (["MobileViTForImageClassification"], "classify"),
        (["MobileViTForSemanticSegmentation"], "segment"),
        (["MobileViTModel"], "features"),
        (["TFMobileViTForSemanticSegmentation"], "segment"),
        (["Mine", "MobileViTForImageClassification"], "classify"),
        (["MobileViTForPoetry"], None),
        (None, None),
        ([], None),
        (7, None),
        ([7], None),
    ],
)
def test_the_task_is_what_a_config_json_says(architectures, task):
    assert MobileViTConfig.from_dict({"architectures": architectures}).task == task
    assert MobileViTConfig().task is None


# ------------------------------------------------------------------------------------------------------ the published


def test_presets():
    """The three sizes of the paper, spelt out once more."""
    small, x_small, xx_small = (MobileViTConfig.preset(name) for name in ("small", "x-small", "xx-small"))
    assert small == MobileViTConfig(num_labels=1000)
    assert (x_small.hidden_sizes, x_small.neck_hidden_sizes) == ((96, 120, 144), (16, 32, 48, 64, 80, 96, 384))
    assert (xx_small.hidden_sizes, xx_small.neck_hidden_sizes) == ((64, 80, 96), (16, 16, 24, 48, 64, 80, 320))
    assert (xx_small.expand_ratio, xx_small.hidden_dropout_prob) == (2.0, 0.05)
    for name in ("small", "x-small", "xx-small"):
        classifier, segmenter = MobileViTConfig.preset(name), MobileViTConfig.preset(f"deeplabv3-{name}")
        assert (classifier.num_labels, classifier.image_size, classifier.output_stride) == (1000, 256, 32)
        assert (segmenter.num_labels, segmenter.image_size, segmenter.output_stride) == (21, 512, 16)
        assert segmenter.id2label[15] == "person"
        same = {"id2label": classifier.id2label, "image_size": 256, "output_stride": 32}
        assert segmenter.replace(**same) == classifier


def test_presets_answer_to_the_published_names():
    assert MobileViTConfig.preset("apple/mobilevit-x-small") == MobileViTConfig.preset("x-small")
    assert MobileViTConfig.preset("deeplabv3-mobilevit-small") == MobileViTConfig.preset("deeplabv3-small")
    assert preset_task("apple/deeplabv3-mobilevit-small") == preset_task("deeplabv3-small") == "segment"
    assert preset_task("apple/mobilevit-small") == preset_task("small") == "classify"
    assert preset_with_segmenter("apple/mobilevit-small") == preset_with_segmenter("deeplabv3-small")
    assert MobileViTConfig.preset("xx-small", num_labels=10).num_labels == 10
    with pytest.raises(ConfigError, match=r'smal: no such preset, expected one of small, x-small.* mean "small"\?'):
        MobileViTConfig.preset("smal")


@pytest.mark.torch
def test_activations_are_those_of_transformers():
    assert set(ACTIVATIONS) <= set(transformers.activations.ACT2FN)


def test_voc_labels_and_palette():
    assert len(VOC_NAMES) == 21
    colours = {"background": (0, 0, 0), "aeroplane": (128, 0, 0), "boat": (0, 0, 128), "cat": (64, 0, 0)}
    colours |= {"person": (192, 128, 128), "tvmonitor": (0, 64, 128)}
    palette = voc_palette(21)
    for name, colour in colours.items():
        assert tuple(palette[VOC_NAMES.index(name)]) == colour
    assert_same(palette, voc_palette()[:21])
    assert len({tuple(colour) for colour in voc_palette()}) == 256
    assert tuple(voc_palette()[255]) == (224, 224, 192)
    with pytest.raises(ValueError, match="count: 257, expected 0 to 256 colours"):
        voc_palette(257)


# ------------------------------------------------------------------------------------------------------- as an object


def test_shapes_of_one_side_and_of_two():
    config = MobileViTConfig(image_size=[96, 128], patch_size=4)
    assert (config.image_shape, config.patch_shape) == ((96, 128), (4, 4))
    assert MobileViTConfig(patch_size=(2, 1)).patch_shape == (2, 1)


def test_numpy_numbers_become_python_numbers():
    config = MobileViTConfig(num_channels=np.int64(1), mlp_ratio=np.float32(2), expand_ratio=3)
    assert [type(value) for value in (config.num_channels, config.mlp_ratio, config.expand_ratio)] == [
        int,
        float,
        float,
    ]


def test_immutable_and_hashable():
    names = {0: "cat", 1: "dog"}
    config = MobileViTConfig(id2label=names)
    names[1] = "cow"
    assert config.id2label == {0: "cat", 1: "dog"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.num_channels = 1
    assert {config: "plan"}[MobileViTConfig(id2label={0: "cat", 1: "dog"})] == "plan"
    assert config != MobileViTConfig()
    for twin in (copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert twin == config
        assert hash(twin) == hash(config)


def test_replace():
    config = MobileViTConfig(id2label={0: "cat", 1: "dog"}, num_channels=1)
    assert config.replace() is config
    assert config.replace(image_size=64) == MobileViTConfig(
        id2label={0: "cat", 1: "dog"}, num_channels=1, image_size=64
    )
    assert config.replace(num_labels=3) == MobileViTConfig(num_labels=3, num_channels=1)
    assert config.replace(id2label={0: "one"}).label2id == {"one": 0}


def test_repr_says_what_differs_and_can_be_evaluated():
    assert repr(MobileViTConfig()) == "MobileViTConfig()"
    config = MobileViTConfig(hidden_sizes=[64, 80, 96], hidden_act="relu", num_labels=10)
    assert repr(config) == "MobileViTConfig(hidden_sizes=(64, 80, 96), hidden_act='relu', num_labels=10)"
    assert eval(repr(config)) == config
    assert repr(MobileViTConfig.preset("deeplabv3-small")).endswith("3: 'bird', ...})")


def test_a_function_as_activation_works_but_cannot_be_saved(tmp_path):
    config = MobileViTConfig(hidden_act=np.tanh)
    assert config.hidden_act is np.tanh
    with pytest.raises(ConfigError, match=r"hidden_act: the function .*tanh.* cannot be saved, expected a name"):
        config.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


# --------------------------------------------------------------------------------------------------------- complaints

BAD_VALUES = [
    ({"num_channels": True}, "num_channels: True, expected an integer from 1 to 1000000"),
    ({"num_channels": 3.0}, "num_channels: 3.0, expected an integer from 1 to 1000000"),
    ({"num_channels": 10**400}, "num_channels: 1000.*0000, expected an integer from 1 to 1000000"),
    ({"image_size": 0}, "image_size: 0, expected an integer from 1"),
    ({"image_size": [256]}, "image_size: [256], expected one side or (height, width)"),
    ({"patch_size": "2"}, "patch_size: '2', expected an integer from 1"),
    ({"patch_size": (2, -1)}, "patch_size: -1, expected an integer from 1"),
    ({"hidden_sizes": [144, 192]}, "hidden_sizes: [144, 192], expected a list of 3 integers"),
    ({"hidden_sizes": 144}, "hidden_sizes: 144, expected a list of 3 integers"),
    ({"hidden_sizes": [144, 192, "240"]}, "hidden_sizes: '240', expected an integer from 1"),
    ({"neck_hidden_sizes": [16] * 6}, "neck_hidden_sizes: [16, 16, 16, 16, 16, 16], expected a list of 7 integers"),
    ({"atrous_rates": [6, 12]}, "atrous_rates: [6, 12], expected a list of 3 integers"),
    (
        {"num_attention_heads": 5},
        "num_attention_heads: 5, expected a divisor of each of hidden_sizes (144, 192, 240)",
    ),
    ({"mlp_ratio": float("nan")}, "mlp_ratio: nan, expected a number from 0 to 1e+06"),
    ({"mlp_ratio": "2"}, "mlp_ratio: '2', expected a number"),
    ({"mlp_ratio": 0.001}, "mlp_ratio: 0.001, expected at least 1 / 144"),
    ({"expand_ratio": 0}, "expand_ratio: 0, expected a positive number"),
    ({"expand_ratio": 10**400}, "expand_ratio: 1000.*0000, expected a number from 0 to 1e+06"),
    ({"expand_ratio": True}, "expand_ratio: True, expected a number"),
    ({"hidden_act": "sillu"}, "hidden_act: 'sillu', expected a function or one of silu, .*did you mean \"silu\"?"),
    ({"hidden_act": ["silu"]}, "hidden_act: ['silu'], expected the name of an activation or a function"),
    ({"conv_kernel_size": 4}, "conv_kernel_size: 4, expected an odd integer"),
    ({"output_stride": 4}, "output_stride: 4, expected 8, 16 or 32"),
    ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob: 1.5, expected a number from 0 to 1"),
    ({"aspp_dropout_prob": -0.1}, "aspp_dropout_prob: -0.1, expected a number from 0 to 1"),
    ({"initializer_range": -1.0}, "initializer_range: -1.0, expected a number from 0"),
    ({"layer_norm_eps": 0.0}, "layer_norm_eps: 0, expected a positive number"),
    ({"qkv_bias": 1}, "qkv_bias: 1, expected true or false"),
    ({"semantic_loss_ignore_index": None}, "semantic_loss_ignore_index: None, expected an integer from -1000000"),
    ({"problem_type": "clustering"}, "problem_type: 'clustering', expected regression, single_label_classification"),
    ({"problem_type": ["regression"]}, "problem_type: ['regression'], expected regression"),
    (
        {"problem_type": "single_label_classification", "num_labels": 1},
        "problem_type: single_label_classification, expected num_labels of at least 2, not 1",
    ),
    ({"num_labels": -1}, "num_labels: -1, expected an integer from 0 to 1000000"),
    ({"id2label": ["cat", "dog"]}, "id2label: ['cat', 'dog'], expected a mapping of class ids to names"),
    ({"id2label": {"one": "cat"}}, "id2label: {'one': 'cat'}, expected a mapping of class ids to names"),
    ({"id2label": {1: "cat", 2: "dog"}}, "id2label: the ids [1, 2], expected 0 to 1"),
    ({"id2label": {"0": "cat", 0: "dog"}}, "id2label: the ids ['0', 0], expected 0 to 1"),
    ({"id2label": {0: "cat", 1.5: "dog"}}, "id2label: the ids [0, 1.5], expected 0 to 1"),
    ({"id2label": {0: None}}, "id2label: 0 is named None, expected text"),
    ({"label2id": {"cat": "first"}}, "label2id: {'cat': 'first'}, expected a mapping of names to class ids"),
    ({"extra": 3}, "extra: 3, expected a mapping"),
    ({"hiden_sizes": [1, 2, 3]}, 'hiden_sizes: no such option; did you mean "hidden_sizes"?'),
    ({"zzz": 1}, "zzz: no such option"),
]


def pattern(message):
    """A regular expression for `message`, in which `.*` stands for anything."""
    return ".*".join(map(re.escape, message.split(".*")))


@pytest.mark.parametrize(("values", "message"), BAD_VALUES, ids=[str(index) for index in range(len(BAD_VALUES))])
def test_bad_values(values, message):
    with pytest.raises(ConfigError, match=pattern(message)) as raised:
        MobileViTConfig(**values)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


BAD_FILES = [
    ('{\n"num_channels": 3,\n: 1}', "config.json: line 3: not valid JSON"),
    ("[1, 2]", "config.json: holds a JSON list, expected an object"),
    ("[" * 100_000, "config.json: not valid JSON"),
    ('{"a": 1, "a": 1}', "config.json: not valid JSON: the name 'a' stands twice in an object"),
    ('{"num_channels": ' + "1" * 5000 + "}", "config.json: not valid JSON"),
    (b"\xff\xfe{}", "config.json: is not UTF-8 text, expected a JSON object"),
    ('{"num_channels": "three"}', "config.json: num_channels: 'three', expected an integer from 1"),
    ('{"model_type": "vit"}', "config.json: model_type: 'vit', expected 'mobilevit'"),
    ('{"model_type": "mobilevitv2"}', "config.json: model_type: mobilevitv2 is another network"),
]


@pytest.mark.parametrize(("content", "message"), BAD_FILES, ids=[str(index) for index in range(len(BAD_FILES))])
def test_bad_files(tmp_path, content, message):
    path = tmp_path / "config.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path)) + ".*" + pattern(message)):
        MobileViTConfig.from_pretrained(tmp_path)


def test_no_file(tmp_path):
    with pytest.raises(ConfigError, match=r"config.json: cannot be read: No such file or directory"):
        MobileViTConfig.from_pretrained(tmp_path)


def test_bad_dictionaries(tmp_path):
    with pytest.raises(ConfigError, match="from_dict: a list, expected a mapping"):
        MobileViTConfig.from_dict([1])
    with pytest.raises(ConfigError, match='num_chanels: no such option; did you mean "num_channels"'):
        MobileViTConfig.from_dict({}, num_chanels=1)
    with pytest.raises(OutputError, match="cannot be written as JSON: Object of type object is not"):
        MobileViTConfig.from_dict({"note": object()}).save_pretrained(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(OutputError, match=r"file: is a file, expected a folder to write config.json into"):
        MobileViTConfig().save_pretrained(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"


def test_presets_are_not_changed_by_their_users():
    MobileViTConfig.preset("deeplabv3-small").id2label[0] = "nothing"
    assert PRESETS["deeplabv3-small"]["id2label"][0] == "background"
