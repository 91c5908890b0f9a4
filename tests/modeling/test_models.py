"""Whole models against transformers: every hidden state in order, so that the first wrong stage is named."""

import copy
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinymvit
from frameworks import torch, transformers
from oracle import MODEL_FLOAT32, REFERENCE_FLOAT64, assert_same
from tinymvit import kernels, reference
from torch_models import CLASSES, PUBLISHED, TINY, build

PIXELS = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)


def save(oracle, folder):
    """The checkpoint that transformers writes, in float32; the oracle keeps the same rounded weights in float64."""
    oracle.float().save_pretrained(folder)
    return oracle.double()


def stages(oracle, x):
    """transformers' outputs in the order they are computed, in the oracle's dtype."""
    with torch.no_grad():
        output = oracle(torch.tensor(x, dtype=oracle.dtype), output_hidden_states=True)
    named = {f"hidden_states.{i}": value for i, value in enumerate(output.hidden_states)}
    for name in ("last_hidden_state", "pooler_output", "logits"):
        if output.get(name) is not None:
            named[name] = output[name]
    return {name: value.numpy() for name, value in named.items()}


def check_model(name, options, folder, shape, seed=0, rounding=False, **model_options):
    """One checkpoint through transformers, our engine and our float64 reference. `rounding`: besides, the engine's
    error is no larger than that of PyTorch in float32."""
    oracle = save(build(name, options, seed, **model_options), folder)
    ours = getattr(tinymvit, name).from_pretrained(folder, **model_options)
    x = np.random.default_rng(seed).random(shape, np.float32)
    expected = stages(oracle, x)
    output = ours(x, output_hidden_states=True)
    actual = {f"hidden_states.{i}": value for i, value in enumerate(output.hidden_states)}
    actual |= {key: output[key] for key in output.keys() if key != "hidden_states"}  # noqa: SIM118
    graph = ours.graph(shape)
    truth = reference.run(graph, ours.weights, x)
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        assert_same(truth[key], value, REFERENCE_FLOAT64, f"reference {key}", np.float64)
    for key, value in expected.items():
        assert_same(actual[key], value, MODEL_FLOAT32, f"engine {key}", np.float32)
    if rounding:
        float32 = stages(oracle.float(), x)
        for key in ("logits", f"hidden_states.{len(output.hidden_states) - 1}"):
            assert relative_rms(actual[key], expected[key]) <= relative_rms(float32[key], expected[key]), key
    return ours


def relative_rms(actual, expected):
    return np.sqrt(np.mean((actual.astype(np.float64) - expected) ** 2) / np.mean(expected**2))


@pytest.mark.torch
@pytest.mark.parametrize("name", CLASSES)
def test_a_small_model_stage_by_stage(name, tmp_path):
    check_model(name, TINY, tmp_path, (2, 3, 64, 64))


@pytest.mark.torch
def test_without_the_expanded_output(tmp_path):
    ours = check_model("MobileViTModel", TINY, tmp_path, (1, 3, 32, 40), expand_output=False)
    assert "conv_1x1_exp.convolution.weight" not in ours.weights


@st.composite
def configs(draw):
    heads = draw(st.integers(1, 4))
    neck = [4 * draw(st.integers(1, 4)) for _ in range(6)]
    return {
        "num_channels": draw(st.sampled_from([1, 3, 4])),
        "patch_size": draw(st.sampled_from([1, 2, 4])),
        "num_attention_heads": heads,
        "hidden_sizes": [heads * draw(st.integers(2, 6)) for _ in range(3)],
        "neck_hidden_sizes": [*neck, draw(st.integers(1, 24))],
        "conv_kernel_size": draw(st.sampled_from([1, 3, 5])),
        "output_stride": draw(st.sampled_from([8, 16, 32])),
        "expand_ratio": draw(st.sampled_from([1.0, 2.0, 2.7, 4.0])),
        "mlp_ratio": draw(st.sampled_from([0.5, 1.0, 2.0, 3.3])),
        "qkv_bias": draw(st.booleans()),
        "layer_norm_eps": draw(st.sampled_from([1e-6, 1e-5, 1e-3])),
        "hidden_act": draw(
            st.sampled_from(
                ["silu", "swish", "relu", "relu6", "gelu", "gelu_pytorch_tanh", "hardswish", "leaky_relu", "sigmoid",
                 "tanh"]
            )
        ),
        "num_labels": draw(st.integers(2, 7)),
        "aspp_out_channels": draw(st.integers(1, 12)),
        "atrous_rates": [draw(st.integers(1, 4)) for _ in range(3)],
    }  # fmt: skip


@pytest.mark.torch
@settings(max_examples=30)
@given(
    st.sampled_from(CLASSES),
    configs(),
    st.integers(1, 3),
    st.integers(1, 80),
    st.integers(1, 80),
    st.integers(0, 2**31),
)
def test_random_configurations_through_a_checkpoint(tmp_path_factory, name, options, batch, height, width, seed):
    folder = tmp_path_factory.mktemp("model")
    check_model(name, options, folder, (batch, options["num_channels"], height, width), seed)


@pytest.mark.torch
@pytest.mark.parametrize("shape", PUBLISHED)
def test_the_published_classifiers_at_full_size(shape, tmp_path):
    options = PUBLISHED[shape] | {"num_labels": 1000}
    check_model("MobileViTForImageClassification", options, tmp_path, (4, 3, 256, 256), rounding=True)


@pytest.mark.torch
@pytest.mark.parametrize("shape", PUBLISHED)
def test_the_published_segmenters_at_full_size(shape, tmp_path):
    options = PUBLISHED[shape] | {"num_labels": 21, "output_stride": 16, "image_size": 512}
    check_model("MobileViTForSemanticSegmentation", options, tmp_path, (1, 3, 512, 512), rounding=True)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """transformers' model and the folder it is saved in."""
    folder = tmp_path_factory.mktemp("classifier")
    return save(build("MobileViTForImageClassification", TINY), folder), folder


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmenter")
    return save(build("MobileViTForSemanticSegmentation", TINY | {"output_stride": 8}), folder), folder


@pytest.fixture(scope="module")
def ours():
    """A model of ours by itself, with random weights."""
    return tinymvit.MobileViTForImageClassification(tinymvit.MobileViTConfig(**TINY | {"initializer_range": 0.2}))


@pytest.mark.torch
@pytest.mark.parametrize("name", CLASSES)
def test_transformers_loads_what_we_save(name, tmp_path):
    options = TINY | {"hidden_act": "gelu", "id2label": {i: f"kind {i}" for i in range(5)}}
    options.pop("num_labels")
    ours = getattr(tinymvit, name)(tinymvit.MobileViTConfig(**options), seed=7)
    ours.save_pretrained(tmp_path)
    theirs, info = getattr(transformers, name).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    x = np.random.default_rng(0).random((1, 3, 33, 47), np.float32)
    expected = stages(theirs.double().eval(), x)
    assert_same(ours(x)[0], expected.get("logits", expected.get("last_hidden_state")), MODEL_FLOAT32)
    assert theirs.config.id2label == ours.config.id2label
    again = getattr(tinymvit, name).from_pretrained(tmp_path)
    assert again.config == ours.config
    for key, value in ours.weights.items():
        assert_same(again.weights[key], value, name=key)


@pytest.mark.torch
def test_the_bare_model_loads_from_a_classifier(classifier):
    oracle, folder = classifier
    ours = tinymvit.MobileViTModel.from_pretrained(folder)
    x = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)
    with torch.no_grad():
        expected = oracle.mobilevit(torch.tensor(x).double()).pooler_output
    assert_same(ours(x).pooler_output, expected, MODEL_FLOAT32)


def test_outputs_by_attribute_key_position_and_as_a_tuple(ours):
    x = np.zeros((1, 3, 32, 32), np.float32)
    output = ours(x)
    assert output.loss is None
    assert output.hidden_states is None
    assert output.keys() == ("logits",)
    assert output["logits"] is output.logits is output[0]
    with pytest.raises(KeyError, match="'loss' is not in this ImageClassifierOutput, which holds logits"):
        output["loss"]
    loss, logits, hidden = ours(pixel_values=x, labels=[1], output_hidden_states=True, return_dict=False)
    assert loss.dtype == np.float32
    assert_same(logits, output.logits)
    assert len(hidden) == 5


@pytest.mark.torch
@pytest.mark.parametrize("name", CLASSES)
def test_tuples_have_transformers_order(name, tmp_path):
    oracle = save(build(name, TINY), tmp_path)
    ours = getattr(tinymvit, name).from_pretrained(tmp_path)
    x = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)
    for hidden in (False, True):
        with torch.no_grad():
            expected = oracle(torch.tensor(x).double(), output_hidden_states=hidden, return_dict=False)
        actual = ours(x, output_hidden_states=hidden, return_dict=False)
        if hidden:
            *expected, states = expected
            *actual, our_states = actual
            assert [s.shape for s in our_states] == [tuple(s.shape) for s in states]
        assert [a.shape for a in actual] == [tuple(e.shape) for e in expected]


@pytest.mark.torch
@pytest.mark.parametrize(
    ("problem", "labels"),
    [
        (None, np.array([0, 4, 2])),
        ("single_label_classification", np.array([1, -100, 3])),
        (None, np.eye(5, dtype=np.float32)[[0, 1, 1]]),
        ("multi_label_classification", np.random.default_rng(0).random((3, 5)).astype(np.float32)),
        ("regression", np.random.default_rng(1).random((3, 5)).astype(np.float32)),
    ],
)
def test_classification_losses(classifier, problem, labels):
    oracle, folder = classifier
    oracle.config.problem_type = problem
    config = tinymvit.MobileViTConfig.from_pretrained(folder)
    config = tinymvit.MobileViTConfig.from_dict(config.to_dict() | {"problem_type": problem})
    ours = tinymvit.MobileViTForImageClassification.from_pretrained(folder, config=config)
    x = np.random.default_rng(0).random((3, 3, 32, 32), np.float32)
    target = torch.tensor(labels)
    with torch.no_grad():
        expected = oracle(torch.tensor(x).double(), labels=target if labels.dtype.kind == "i" else target.double()).loss
    assert_same(ours(x, labels=labels).loss, np.float64(expected), MODEL_FLOAT32)


@pytest.mark.torch
def test_regression_with_one_label(tmp_path):
    oracle = save(build("MobileViTForImageClassification", TINY | {"num_labels": 1}), tmp_path)
    ours = tinymvit.MobileViTForImageClassification.from_pretrained(tmp_path)
    x = np.random.default_rng(0).random((3, 3, 32, 32), np.float32)
    labels = np.array([0.5, -1.0, 2.0], np.float32)
    with torch.no_grad():
        expected = oracle(torch.tensor(x).double(), labels=torch.tensor(labels).double()).loss
    assert_same(ours(x, labels=labels).loss, np.float64(expected), MODEL_FLOAT32)


@pytest.mark.torch
def test_segmentation_loss_ignores_an_index(segmenter):
    oracle, folder = segmenter
    ours = tinymvit.MobileViTForSemanticSegmentation.from_pretrained(folder)
    rng = np.random.default_rng(0)
    x = rng.random((2, 3, 32, 40), np.float32)
    labels = rng.integers(0, 5, (2, 29, 37))
    labels[rng.random(labels.shape) < 0.3] = 255
    with torch.no_grad():
        expected = oracle(torch.tensor(x).double(), labels=torch.tensor(labels)).loss
    assert_same(ours(x, labels=labels).loss, np.float64(expected), MODEL_FLOAT32)
    assert np.isnan(ours(x, labels=np.full_like(labels, 255)).loss)


BAD_PIXELS = [
    (None, ValueError, "pixel_values is missing"),
    (np.zeros((1, 3, 8, 8), np.uint8), TypeError, "dtype uint8; expected floats"),
    (np.zeros((3, 8, 8)), ValueError, r"shape \(3, 8, 8\); expected four axes"),
    (np.zeros((1, 8, 8, 3)), ValueError, "8 channels; expected 3; channels come second"),
    (np.zeros((1, 4, 8, 8)), ValueError, "4 channels; expected 3"),
    (np.zeros((0, 3, 8, 8)), ValueError, "at least one image"),
    (np.zeros((1, 3, 0, 8)), ValueError, "at least one image of at least one pixel"),
    (np.full((1, 3, 2, 2), np.nan), ValueError, r"hold nan at \(0, 0, 0, 0\); expected finite"),
    (np.full((1, 3, 2, 2), np.inf), ValueError, "hold inf at"),
    ([[["a"]]], TypeError, "expected floats"),
]


@pytest.mark.parametrize(("pixels", "error", "message"), BAD_PIXELS)
def test_bad_pixels_get_one_clear_line(ours, pixels, error, message):
    with pytest.raises(error, match=message) as caught:
        ours(pixels)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([5], ValueError, "label 5 is out of range; expected 0 to 4 or -100"),
        ([-1], ValueError, "label -1 is out of range"),
        ([0, 1], ValueError, "expected one class number for each of 1 images"),
        (["cat"], TypeError, "expected integers or floats"),
        (np.zeros((1, 4)), ValueError, r"expected \(1, 5\) for problem_type 'multi_label_classification'"),
    ],
)
def test_bad_labels_for_a_classifier(ours, labels, error, message):
    with pytest.raises(error, match=message):
        ours(np.zeros((1, 3, 32, 32), np.float32), labels=labels)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (np.full((1, 4, 4), 5), ValueError, "label 5 is out of range; expected 0 to 4 or 255"),
        (np.zeros((4, 4), int), ValueError, r"expected \(1, height, width\)"),
        (np.zeros((1, 4, 4)), TypeError, "expected class numbers of an integer dtype"),
    ],
)
def test_bad_labels_for_a_segmenter(labels, error, message):
    ours = tinymvit.MobileViTForSemanticSegmentation(tinymvit.MobileViTConfig(**TINY))
    with pytest.raises(error, match=message):
        ours(np.zeros((1, 3, 32, 32), np.float32), labels=labels)


def test_a_model_takes_sliced_read_only_and_half_precision_pixels(ours):
    x = np.random.default_rng(0).random((2, 3, 64, 64), np.float32).astype(np.float16)
    part = x[:, :, ::2, 1::2]
    part.flags.writeable = False
    expected = ours(np.ascontiguousarray(part, np.float32)).logits
    assert_same(ours(part).logits, expected)
    assert_same(ours(part.astype(np.float64)).logits, expected)
    if torch:
        assert_same(ours(torch.tensor(part.astype(np.float32))).logits, expected)


def test_a_config_of_another_type_is_refused():
    with pytest.raises(TypeError, match="config is a dict; expected a MobileViTConfig"):
        tinymvit.MobileViTModel({"hidden_sizes": [1, 2, 3]})


@pytest.mark.torch
def test_without_labels_a_classifier_gives_the_pooled_features(tmp_path):
    check_model("MobileViTForImageClassification", TINY | {"num_labels": 0}, tmp_path, (1, 3, 32, 32))


def test_without_labels_a_segmenter_is_refused():
    with pytest.raises(tinymvit.ConfigError, match="num_labels: 0, expected at least 1 for a segmentation head"):
        tinymvit.MobileViTForSemanticSegmentation(tinymvit.MobileViTConfig(num_labels=0))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_model_can_be_copied_and_sent_to_another_process(ours, copied):
    expected = ours(PIXELS).logits
    assert_same(copied(ours)(PIXELS).logits, expected)


# ---- tensors by name ----


def test_a_model_of_given_tensors(ours):
    kind = tinymvit.MobileViTForImageClassification
    counted = {"mobilevit.conv_stem.normalization.num_batches_tracked": np.zeros((), np.int64)}
    given = {name: np.asfortranarray(tensor.astype(np.float64)) for name, tensor in ours.weights.items()}
    same = kind.from_tensors(ours.config, given | counted)
    assert_same(same(PIXELS).logits, ours(PIXELS).logits)
    for name, tensor in same.weights.items():
        assert_same(tensor, ours.weights[name], name=name)
        assert tensor.flags.c_contiguous
        assert not tensor.flags.writeable
    view = kind.from_tensors(ours.config, ours.weights)
    for name, tensor in view.weights.items():
        assert np.shares_memory(tensor, ours.weights[name])
        assert ours.weights[name].flags.writeable, "the caller's own array stays as it was"


def test_the_bare_model_of_the_tensors_of_one_with_a_head(ours):
    bare = tinymvit.MobileViTModel.from_tensors(ours.config, ours.weights)
    again = tinymvit.MobileViTModel.from_tensors(ours.config, bare.weights)
    assert_same(again(PIXELS).pooler_output, bare(PIXELS).pooler_output)
    without = {name: tensor for name, tensor in bare.weights.items() if "conv_1x1_exp" not in name}
    short = tinymvit.MobileViTModel.from_tensors(ours.config, without, expand_output=False)
    assert_same(short(PIXELS).last_hidden_state, bare(PIXELS, output_hidden_states=True).hidden_states[-1])


def test_tensors_are_matched_strictly(ours):
    kind = tinymvit.MobileViTForImageClassification
    start = "the set of tensors for a MobileViTForImageClassification: "
    name = "classifier.bias"
    for change, message in (
        ({name: np.zeros(3, np.float32)}, r"does not fit the model: .*1 of another shape: classifier.bias \[3\]"),
        ({"more": np.zeros(3, np.float32)}, r"does not fit the model: 1 unexpected: more \[3\]"),
        ({name: np.zeros(5, int)}, "tensor classifier.bias is int64, expected floating point"),
    ):
        with pytest.raises(tinymvit.CheckpointError, match=start + message):
            kind.from_tensors(ours.config, ours.weights | change)
    with pytest.raises(tinymvit.CheckpointError, match=start + r"does not fit the model: .* missing: mobilevit\."):
        kind.from_tensors(ours.config, {})
    with pytest.raises(TypeError, match="config is a dict; expected a MobileViTConfig"):
        kind.from_tensors({}, ours.weights)
    with pytest.raises(TypeError, match="tensors: NoneType, expected a mapping of names to arrays"):
        kind.from_tensors(ours.config, None)


# ---- the first run, and many threads ----


@pytest.fixture
def first_run(monkeypatch):
    """As if nothing were compiled yet: the list of the compilations that are begun."""
    begun = []

    def warm_up():
        begun.append(threading.get_ident())
        time.sleep(0.1)  # so that another thread would begin too, if it could
        monkeypatch.setattr(kernels, "is_cached", lambda: True)
        yield 1, 1, "a kernel"

    monkeypatch.setattr(kernels, "is_cached", lambda: False)
    monkeypatch.setattr(kernels, "warm_up", warm_up)
    return begun


def new_models(count):
    return [tinymvit.MobileViTModel(tinymvit.MobileViTConfig(**TINY), seed=seed) for seed in range(count)]


def test_the_first_call_of_all_compiles_once_and_says_so_once(first_run, caplog):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda model: model(PIXELS), new_models(4)))
    assert len(first_run) == 1
    (record,) = caplog.records
    assert record.name == "tinymvit"
    assert record.getMessage() == (
        "first run of tinymvit here: compiling the kernels, once; `tinymvit warmup` does it ahead"
    )


def test_without_a_folder_to_keep_kernels_in_each_process_says_so_once(first_run, monkeypatch, caplog):
    monkeypatch.setattr(kernels, "cache_folder", lambda: None)
    for model in new_models(2):
        model(PIXELS)
    assert first_run == [], "only what is needed is compiled"
    (record,) = caplog.records
    assert record.getMessage().startswith("compiling the kernels of tinymvit, as each time: no folder to keep them in")


def test_a_trace_of_the_engine_compiles_too(first_run, ours):
    ours.trace(PIXELS, "logits")
    assert first_run == []
    ours.trace(PIXELS, "logits", source="engine")
    assert len(first_run) == 1


def test_a_model_at_work_does_not_hold_up_another():
    busy, free = new_models(2)
    with busy._lock, ThreadPoolExecutor(1) as pool:  # as while it builds an engine
        pool.submit(free, PIXELS).result(timeout=60)
