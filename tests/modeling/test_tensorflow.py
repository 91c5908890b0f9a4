"""The TensorFlow classes of transformers 4: their calls, their losses, their files."""

import dataclasses
import hashlib
import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinymvit
from checkpoints import TINY, complaint
from oracle import assert_same
from tinymvit.config import MobileViTConfig
from tinymvit.errors import CheckpointError
from tinymvit.files import write_files
from tinymvit.images.processor import BatchFeature
from tinymvit.modeling import load_model
from tinymvit.weights import open_checkpoint
from tinymvit.weights.families import tensorflow
from tinymvit.weights.formats.hdf5 import tensor_writer

CLASSES = ("MobileViTForImageClassification", "MobileViTForSemanticSegmentation", "MobileViTModel")
CONFIG = MobileViTConfig(**TINY, initializer_range=0.2)
needs_h5py = pytest.mark.skipif(find_spec("h5py") is None, reason="h5py, which writes tf_model.h5, is not installed")


def ours(name, config=CONFIG, **options):
    """The TensorFlow class and the class of PyTorch, of the same weights: no two of them are equal."""
    model = getattr(tinymvit, name)(config, **options)
    rng = np.random.default_rng(0)
    tensors = {key: (rng.random(tensor.shape) + 0.1).astype(np.float32) for key, tensor in model.weights.items()}
    return (
        getattr(tinymvit, f"TF{name}").from_tensors(config, tensors, **options),
        getattr(tinymvit, name).from_tensors(config, tensors, **options),
    )


def pixels(batch=2, height=33, width=47):
    return np.random.default_rng(1).random((batch, 3, height, width), np.float32)


def flat(output):
    return [array for part in output.to_tuple() for array in (part if isinstance(part, tuple) else [part])]


@pytest.mark.parametrize("name", CLASSES)
def test_the_same_bits_as_the_classes_of_pytorch(name):
    model, other = ours(name)
    for hidden in (None, True):
        found = model(pixels(), output_hidden_states=hidden)
        expected = other(pixels(), output_hidden_states=hidden)
        assert type(found) is type(expected)
        assert found.keys() == expected.keys()
        for mine, theirs in zip(flat(found), flat(expected), strict=True):
            assert_same(mine, theirs)


def test_without_the_expanded_output():
    model, other = ours("MobileViTModel", expand_output=False)
    assert model(pixels()).pooler_output is None
    assert_same(model(pixels()).last_hidden_state, other(pixels()).last_hidden_state)


# ---- calls ----


@pytest.fixture(scope="module")
def classifier():
    return ours("MobileViTForImageClassification")[0]


@pytest.fixture(scope="module")
def segmenter():
    return ours("MobileViTForSemanticSegmentation")[0]


def test_inputs_come_as_keras_passes_them(classifier):
    expected = classifier(pixels()).logits
    labels = np.array([0, 2])
    ways = [
        classifier(pixel_values=pixels()),
        classifier({"pixel_values": pixels()}),
        classifier(BatchFeature(pixel_values=pixels(), labels=labels)),
        classifier(**BatchFeature(pixel_values=pixels())),
        classifier([pixels()]),
        classifier((pixels(), True, labels)),
        classifier(pixels(), training=False),
    ]
    for output in ways:
        assert_same(output.logits, expected)
    assert ways[2].keys() == ("loss", "logits")
    assert ways[5].keys() == ("loss", "logits", "hidden_states")
    assert [part.shape for part in classifier(pixels(), True, return_dict=False)[1]] == [
        (2, 4, 17, 24),
        (2, 4, 9, 12),
        (2, 8, 5, 6),
        (2, 8, 3, 3),
        (2, 8, 2, 2),
    ]


def test_tuples_have_the_originals_order(classifier, segmenter):
    loss, logits, hidden = classifier(pixels(), True, np.array([0, 1]), False)
    assert (loss.shape, logits.shape, len(hidden)) == ((2,), (2, 3), 5)
    loss, logits, hidden = segmenter(pixels(), np.zeros((2, 33, 47), int), True, False)
    assert (loss.shape, logits.shape, len(hidden)) == ((1,), (2, 3, 2, 2), 5)
    model, _ = ours("MobileViTModel", CONFIG.replace(return_dict=False, output_hidden_states=True))
    last, pooled, hidden = model(pixels())
    assert (last.shape, pooled.shape, len(hidden)) == ((2, 16, 2, 2), (2, 16), 5)
    assert len(model(pixels(), False)) == 2


BAD_CALLS = [
    ((pixels(),), {"training": True}, "training=True: these classes only predict; expected training=False"),
    (({"pixel_values": pixels(), "training": True},), {}, "training=True: these classes only predict"),
    (
        ({"pixel_value": pixels()},),
        {},
        'pixel_value: no such input; did you mean "pixel_values"?; expected pixel_values',
    ),
    (({},), {}, "pixel_values is missing"),
    ((), {}, "pixel_values is missing"),
    (
        ([pixels()] * 6,),
        {},
        "a list of 6 inputs; expected at most pixel_values, output_hidden_states, labels, return_dict",
    ),
    ((pixels().transpose(0, 2, 3, 1),), {}, "so 33 channels; expected 3; channels come second"),
]


@pytest.mark.parametrize(("arguments", "options", "message"), BAD_CALLS)
def test_bad_calls_get_one_clear_line(classifier, arguments, options, message):
    with complaint(ValueError, message):
        classifier(*arguments, **options)


# ---- losses ----


def test_the_loss_of_each_image(classifier):
    logits = classifier(pixels()).logits.astype(np.float64)
    shifted = logits - logits.max(1, keepdims=True)
    expected = np.log(np.exp(shifted).sum(1)) - shifted[[0, 1], [2, 0]]
    for labels in ([2, 0], [[2], [0]]):
        loss = classifier(pixels(), labels=np.array(labels)).loss
        assert (loss.shape, loss.dtype) == ((2,), np.float32)
        assert_same(loss, expected, 1e-6)


def test_the_loss_of_each_image_with_one_label_is_a_squared_error():
    model, _ = ours("MobileViTForImageClassification", CONFIG.replace(num_labels=1))
    y = np.array([0.5, 2.0])
    expected = (model(pixels()).logits[:, 0].astype(np.float64) - y) ** 2
    for labels in (y, y[:, None]):
        assert_same(model(pixels(), labels=labels).loss, expected, 1e-6)


def test_the_loss_of_a_segmenter_is_the_one_number_of_the_class_of_pytorch():
    model, other = ours("MobileViTForSemanticSegmentation")
    labels = np.random.default_rng(2).integers(0, 3, (2, 20, 24))
    labels[0, :4] = 255  # is left out, where the original failed on a processor without a GPU
    loss = model(pixels(), labels).loss
    assert loss.shape == (1,)
    assert_same(loss[0], other(pixels(), labels=labels).loss)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (np.array([0, 3]), ValueError, "label 3 is out of range; expected 0 to 2"),
        (np.array([0, -100]), ValueError, "label -100 is out of range; expected 0 to 2"),
        (np.array([0.5, 1.0]), TypeError, "labels have dtype float64; expected class numbers of an integer dtype"),
        (np.zeros((2, 3), int), ValueError, "labels have shape (2, 3); expected one for each of 2 images"),
        (np.zeros(3, int), ValueError, "labels have shape (3,); expected one for each of 2 images"),
    ],
)
def test_bad_labels_get_one_clear_line(classifier, labels, error, message):
    with complaint(error, message):
        classifier(pixels(), labels=labels)


# ---- files ----


@needs_h5py
@pytest.mark.parametrize("name", CLASSES)
def test_what_is_saved_is_loaded(name, tmp_path):
    model, other = ours(name)
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "tf_model.h5"]
    assert json.loads((tmp_path / "config.json").read_bytes())["architectures"] == [name]
    assert open_checkpoint(tmp_path).family is tensorflow
    assert type(load_model(tmp_path)) is type(other)
    for kind in (type(model), type(other)):
        again = kind.from_pretrained(tmp_path)
        assert again.config == model.config
        assert again.weights.keys() == model.weights.keys()
        for key, tensor in model.weights.items():
            assert_same(again.weights[key], tensor, name=key)
    again.save_pretrained(tmp_path / "transformers")
    converted = type(model).from_pretrained(tmp_path / "transformers", from_pt=True)
    assert_same(flat(converted(pixels()))[0], flat(model(pixels()))[0])


@needs_h5py
def test_the_weights_alone_tell_the_shape(tmp_path, caplog):
    model, _ = ours("MobileViTForImageClassification", MobileViTConfig.preset("xx-small"))
    model.save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    again = tinymvit.TFMobileViTForImageClassification.from_pretrained(tmp_path / "tf_model.h5")
    assert again.config.replace(id2label=model.config.id2label).hidden_sizes == (64, 80, 96)
    assert "MobileViT-XXS, 1000 labels (tench, Tinca tinca, ...); taken for granted: 4 heads" in caplog.text


@needs_h5py
def test_the_class_without_a_head_loads_from_one_with_a_head(tmp_path):
    ours("MobileViTForSemanticSegmentation")[0].save_pretrained(tmp_path)
    model = tinymvit.TFMobileViTModel.from_pretrained(tmp_path, expand_output=False)
    assert model(pixels()).last_hidden_state.shape == (2, 8, 2, 2)


@needs_h5py
def test_a_misfit_is_told_in_the_files_names(tmp_path):
    model, _ = ours("MobileViTForImageClassification")
    model.save_pretrained(tmp_path)
    message = (
        "the checkpoint is a classification model",
        "missing: segmentation_head.aspp.convs.0.convolution.kernel [1, 1, 8",
    )
    with complaint(CheckpointError, *message):
        tinymvit.TFMobileViTForSemanticSegmentation.from_pretrained(tmp_path)


@needs_h5py
@pytest.mark.parametrize(
    ("weight", "network"),
    [
        ("tf_vi_t_model/vit/embeddings/cls_token:0", "a Vision Transformer, ViT or DeiT"),
        ("tf_dei_t_model/deit/embeddings/distillation_token:0", "a DeiT"),
        ("tf_res_net_model/resnet/embedder/embedder/convolution/kernel:0", "a ResNet"),
    ],
)
def test_another_network_is_named(tmp_path, weight, network):
    writer = tensor_writer({weight.split("/")[1]: {weight: np.ones((1, 1, 3), np.float32)}})
    write_files(tmp_path, {"tf_model.h5": writer})
    with complaint(
        CheckpointError, f"tf_model.h5: is no MobileViT that is read here: its tensors are those of {network}"
    ):
        load_model(tmp_path)


# Over the names of the weights as h5py lists them, of files that transformers 4.57.6 wrote on TensorFlow 2.19.1.
ORDER = {
    "MobileViTForImageClassification": "78e63e45d1b7e5fd",
    "MobileViTForSemanticSegmentation": "956baddaf600d970",
    "MobileViTModel": "5627c87245d288bc",
}


@needs_h5py
@pytest.mark.parametrize("name", CLASSES)
def test_the_file_lists_the_weights_in_the_originals_order(name, tmp_path):
    import h5py

    ours(name)[0].save_pretrained(tmp_path)
    with h5py.File(tmp_path / "tf_model.h5") as root:
        layers = list(root.attrs["layer_names"])
        names = [weight for layer in layers for weight in root[layer].attrs["weight_names"]]
        shapes = [root[layer][weight].shape for layer in layers for weight in root[layer].attrs["weight_names"]]
    assert (
        layers
        == {
            "MobileViTForImageClassification": ["mobilevit", "dropout_27", "classifier"],
            "MobileViTForSemanticSegmentation": ["mobilevit", "segmentation_head"],
            "MobileViTModel": ["mobilevit"],
        }[name]
    )
    assert hashlib.sha256(repr([names, shapes]).encode()).hexdigest()[:16] == ORDER[name]


CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "hidden_sizes": st.tuples(*[st.sampled_from([4, 8, 12])] * 3),
        "neck_hidden_sizes": st.tuples(*[st.sampled_from([4, 6, 8])] * 7),
        "expand_ratio": st.sampled_from([1.0, 2.0, 4.0]),
        "mlp_ratio": st.sampled_from([1.0, 2.0, 3.0]),
        "conv_kernel_size": st.sampled_from([1, 3, 5]),
        "qkv_bias": st.booleans(),
        "output_stride": st.sampled_from([8, 16, 32]),
        "num_labels": st.integers(1, 5),
        "num_channels": st.integers(1, 4),
        "hidden_act": st.sampled_from(["silu", "relu", "gelu"]),
    },
)


@needs_h5py
@settings(max_examples=5, deadline=None)
@given(st.sampled_from(CLASSES), CONFIGS)
def test_random_configurations_through_a_file(tmp_path_factory, name, options):
    folder = tmp_path_factory.mktemp("random")
    model, _ = ours(name, MobileViTConfig(**TINY | options))
    model.save_pretrained(folder)
    again = type(model).from_pretrained(folder)
    assert again.config == model.config
    for key, tensor in model.weights.items():
        assert_same(again.weights[key], tensor, name=key)


def test_parameters_are_counted_as_keras_counts_them():
    """The numbers that the original gives for this shape with two labels, after its `build`."""
    config = MobileViTConfig.preset("xx-small", num_labels=2)
    model = tinymvit.TFMobileViTForImageClassification(config)
    assert (model.num_parameters(), model.num_parameters(only_trainable=True)) == (955_778, 951_666)


# ---- beside the original ----

BESIDE = """
import os
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_USE_LEGACY_KERAS": "1"}
import json, sys
import numpy as np, tensorflow, transformers, h5py
folder, name = sys.argv[1:]
model, info = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
given = dict(np.load(f"{folder}/given.npz"))
output = model(tensorflow.constant(given["pixels"]), output_hidden_states=True)
flat = [array for part in output.to_tuple() for array in (part if isinstance(part, tuple) else [part])]
losses = {} if "labels" not in given else {"loss": model(
    tensorflow.constant(given["pixels"]), labels=tensorflow.constant(given["labels"])).loss.numpy()}
np.savez(f"{folder}/answer.npz", **{str(i): array.numpy() for i, array in enumerate(flat)}, **losses)
model.save_pretrained(f"{folder}/again")
json.dump({key: list(value) for key, value in info.items()}, open(f"{folder}/info.json", "w"))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not (find_spec("tensorflow") and find_spec("tf_keras") and find_spec("transformers")),
    reason="TensorFlow, tf_keras and transformers 4, the original, are not installed",
)
@pytest.mark.parametrize("name", CLASSES)
def test_the_original_loads_what_we_save_and_gives_the_same(name, tmp_path):
    model, _ = ours(name, CONFIG.replace(num_labels=4))
    model = type(model)(model.config, seed=3)
    model.save_pretrained(tmp_path)
    given = {"pixels": pixels(2, 45, 39)}
    if name != "MobileViTModel":
        shape = (2,) if name == CLASSES[0] else (2, 20, 24)
        given["labels"] = np.random.default_rng(0).integers(0, 4, shape)
    np.savez(tmp_path / "given.npz", **given)
    subprocess.run([sys.executable, "-c", BESIDE, str(tmp_path), f"TF{name}"], check=True, timeout=300)
    info = json.loads((tmp_path / "info.json").read_bytes())
    assert not any(info[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    answer = dict(np.load(tmp_path / "answer.npz"))
    if "labels" in given:
        assert_same(model(given["pixels"], labels=given["labels"]).loss, answer.pop("loss"), 1e-5)
    output = flat(model(given["pixels"], output_hidden_states=True))
    assert len(output) == len(answer)
    for index, array in enumerate(output):
        assert_same(array, answer[str(index)], 2e-5)
    again = type(model).from_pretrained(tmp_path / "again")
    assert dataclasses.replace(again.config, extra={}) == dataclasses.replace(model.config, extra={})
    for key, tensor in model.weights.items():
        assert_same(again.weights[key], tensor, name=key)
    assert (tmp_path / "again" / "tf_model.h5").read_bytes() == (tmp_path / "tf_model.h5").read_bytes()
