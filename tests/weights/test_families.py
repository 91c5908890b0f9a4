"""Families and formats of checkpoints: who recognises what, and that a new one is one file and one entry."""

import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

import tinymvit
from checkpoints import CLASSES, TINY, complaint, save_tiny, saved
from oracle import assert_same
from tinymvit import weights
from tinymvit.errors import CheckpointError, ConfigError, DumpError
from tinymvit.modeling import load_model
from tinymvit.weights import families, formats, hub
from tinymvit.weights.families import FAMILIES, cvnets, family_of, tensorflow, timm, transformers
from tinymvit.weights.families.naming import Naming
from tinymvit.weights.formats import safetensors
from tinymvit.weights.formats.safetensors import tensor_writer
from tinymvit.weights.stored import StoredSettings, StoredTensor


@pytest.mark.parametrize("name", CLASSES)
def test_transformers_names_are_recognised(checkpoints, name):
    assert family_of(weights.load_tensors(checkpoints[name])) is transformers
    checkpoint = weights.open_checkpoint(checkpoints[name])
    assert checkpoint.family is transformers
    assert checkpoint.task == {"classifier": "classify", "segmenter": "segment", "bare": "features"}[name]


@pytest.mark.parametrize("names", [[], ["stem.conv.weight"], ["mobilevitv2.conv_stem.convolution.weight"]])
def test_other_names_are_not(names):
    assert family_of(names) is None


def test_names_of_no_family_are_given_as_they_are_and_fit_no_model(tmp_path, checkpoints):
    saved(tmp_path / "model.safetensors", {"stem.conv.weight": ("F32", [1], bytes(4))})
    (tmp_path / "config.json").write_bytes((checkpoints["classifier"] / "config.json").read_bytes())
    assert list(weights.load_tensors(tmp_path)) == ["stem.conv.weight"]
    with complaint(
        CheckpointError,
        f"{tmp_path}: does not fit the model: its names are of no family that is known here (",
        "1 unexpected: stem.conv.weight [1]",
    ):
        tinymvit.MobileViTForImageClassification.from_pretrained(tmp_path)


OTHERS = {
    "cls_token": "a Vision Transformer, ViT or DeiT",
    "vit.embeddings.cls_token": "a Vision Transformer, ViT or DeiT",
    "dist_token": "a DeiT",
    "features.0.0.weight": "a MobileNet or another network of torchvision",
    "mobilenet_v2.conv_stem.first_conv.convolution.weight": "a MobileNet",
    "blocks.0.0.conv_dw.weight": "a MobileNet or EfficientNet",
    "layer1.0.conv1.weight": "a ResNet",
    "stages.2.1.transformer.0.attn.qkv_proj.weight": "MobileViTV2, which is another network",
    "layer_3.1.global_rep.0.pre_norm_attn.1.qkv_proj.block.conv.weight": "MobileViTV2, which is another network",
    "mobilevitv2.conv_stem.convolution.weight": "MobileViTV2, which is another network",
    "encoder.layer.2.attention.qkv_proj.convolution.weight": "MobileViTV2, which is another network",
    "ssd_heads.0.loc_cls_layer.pw_conv.block.conv.weight": "an SSDLite detector, which has other heads",
    "conv_stem.weight": "a MobileNet or EfficientNet",
}


@pytest.mark.parametrize("name", OTHERS)
def test_checkpoints_of_other_networks_are_named(tmp_path, name):
    path = saved(tmp_path / "model.safetensors", {name: ("F32", [1], bytes(4))})
    with complaint(
        CheckpointError, f"{path}: is no MobileViT that is read here: its tensors are those of {OTHERS[name]}"
    ):
        load_model(path)
    (tmp_path / "config.json").write_text('{"model_type": "mobilevit"}')
    with complaint(
        CheckpointError,
        f"does not fit the model: is no MobileViT that is read here: its tensors are those of {OTHERS[name]}; ",
    ):
        load_model(path)


def test_names_of_nothing_that_is_known(tmp_path):
    path = saved(tmp_path / "model.safetensors", {"w": ("F32", [1], bytes(4))})
    with complaint(CheckpointError, f"{path}: its names are of no family that is known here (transformers, timm, "):
        load_model(path)


@pytest.mark.parametrize("family", families.FAMILIES[:3], ids=lambda family: family.WORD)
@pytest.mark.parametrize("wrapped", ["mobilevit.", "base_model."])
def test_what_a_wrapper_puts_in_front_is_left_out(tmp_path, family, wrapped):
    model = tinymvit.MobileViTForImageClassification(tinymvit.MobileViTConfig(**TINY))
    theirs = {f"{wrapped}{name}": tensor for name, tensor in family.V1.to_theirs(model.weights).items()}
    with (tmp_path / "x.safetensors").open("wb") as file:
        tensor_writer(theirs)(file)
    assert weights.load_tensors(tmp_path / "x.safetensors").keys() == model.weights.keys()


@pytest.mark.parametrize("family", [timm, transformers])
def test_a_prefix_that_not_all_names_have_is_told(tmp_path, family):
    model = tinymvit.MobileViTForImageClassification(tinymvit.MobileViTConfig(**TINY))
    theirs = family.V1.to_theirs(model.weights)
    names = {f"model.net.{name}": tensor for name, tensor in theirs.items()}
    with (tmp_path / "x.safetensors").open("wb") as file:
        tensor_writer({**names, "criterion.weight": np.zeros(3, np.float32), "model.y": np.zeros(3, np.float32)})(file)
    most = f"; {len(names)} of {len(names) + 2} begin with 'model.net.', and are names of {family.NAME} without it"
    with complaint(CheckpointError, f"{tmp_path / 'x.safetensors'}: its names are of no family that is ", most):
        load_model(tmp_path / "x.safetensors")


def test_a_file_that_cannot_be_read_says_why_where_no_config_lies_beside_it(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with complaint(CheckpointError, "model.safetensors: 7 bytes, too short for a safetensors file"):
        load_model(tmp_path)


@pytest.mark.parametrize("family", [transformers, cvnets], ids=lambda family: family.WORD)
def test_a_tensor_with_and_without_the_prefix_of_the_encoder_is_unexpected(tmp_path, family):
    model = tinymvit.MobileViTForSemanticSegmentation(tinymvit.MobileViTConfig(**TINY | {"output_stride": 16}))
    theirs = family.V1.to_theirs(model.weights)
    twice = family.V1.encoder + family.V1.to_theirs({"conv_stem.convolution.weight": np.ones(1)}).popitem()[0]
    bare = twice.removeprefix(family.V1.encoder)
    theirs[bare] = theirs[twice]
    with complaint(CheckpointError, f"does not fit the model: 1 unexpected: {bare} [4, 3, 3, 3]"):
        load_model(write(tmp_path / "model.safetensors", theirs))


def test_two_families_mixed(tmp_path):
    model = tinymvit.MobileViTForImageClassification(tinymvit.MobileViTConfig(**TINY))
    mixed = {**model.weights, **timm.V1.to_theirs(model.weights)}
    with (tmp_path / "model.safetensors").open("wb") as file:
        tensor_writer(mixed)(file)
    with complaint(CheckpointError, "its names are of several families, transformers and timm; "):
        load_model(tmp_path / "model.safetensors")


def write(path, tensors):
    with path.open("wb") as file:
        tensor_writer(tensors)(file)
    return path


def test_a_detector_is_no_backbone(tmp_path):
    """Its heads must not be left out without a word."""
    tensors = {f"encoder.{name}": x for name, x in cvnets.V1.to_theirs(tiny("classifier").weights).items()}
    tensors["ssd_heads.0.loc_cls_layer.pw_conv.block.conv.weight"] = np.zeros(3, np.float32)
    with complaint(CheckpointError, "its tensors are those of an SSDLite detector"):
        load_model(write(tmp_path / "ssd.safetensors", tensors))
    del tensors["ssd_heads.0.loc_cls_layer.pw_conv.block.conv.weight"]
    tensors = {name: x for name, x in tensors.items() if "classifier" not in name} | {"extra.weight": np.zeros(3)}
    with complaint(CheckpointError, "1 unexpected: extra.weight [3]"):
        load_model(write(tmp_path / "other.safetensors", tensors))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.WORD)
def test_the_tensor_that_tells_a_family_may_be_the_one_that_is_missing(tmp_path, family):
    (naming,) = family.NAMINGS
    theirs = naming.to_theirs(tiny("classifier").weights)
    path = {name: f"tf/{name.replace('.', '/')}:0" if family is tensorflow else name for name in theirs}
    for missing in (name for name in theirs if name.removeprefix(naming.encoder) == naming.mark):
        tensors = {path[name]: tensor for name, tensor in theirs.items() if name != missing}
        file = write(tmp_path / "model.safetensors", tensors)
        assert weights.open_checkpoint(file).family is family
        with complaint((CheckpointError, ConfigError), missing):
            load_model(file)


def test_a_missing_scale_is_the_only_one_that_is_named(tmp_path):
    theirs = tensorflow.V1.to_theirs(tiny("classifier").weights)
    del theirs["mobilevit.conv_stem.normalization.gamma"]
    tensors = {f"tf/{name.replace('.', '/')}:0": tensor for name, tensor in theirs.items()}
    with complaint(CheckpointError, "fit the model: 1 missing: mobilevit.conv_stem.normalization.gamma [4]"):
        load_model(write(tmp_path / "model.safetensors", tensors))


def test_other_dtypes_and_values_are_named_as_the_file_names_them(tmp_path):
    theirs = timm.V1.to_theirs(tiny("classifier").weights)
    file = write(tmp_path / "model.safetensors", theirs | {"head.fc.bias": np.zeros(3, np.int32)})
    with complaint(CheckpointError, "tensor head.fc.bias is int32, expected floating point"):
        _ = weights.open_checkpoint(file).tensors
    write(file, theirs | {"head.fc.bias": np.full(3, np.nan, np.float32)})
    with pytest.warns(UserWarning, match=r"1 with NaN or infinite values: head\.fc\.bias \(3 of them\)"):
        _ = weights.open_checkpoint(file).tensors


def tiny(name):
    return getattr(tinymvit, CLASSES[name])(tinymvit.MobileViTConfig(**TINY | {"num_attention_heads": 4}))


def test_shapes_that_cannot_be_read_off(tmp_path):
    model = tinymvit.MobileViTForImageClassification(tinymvit.MobileViTConfig(**TINY))
    for change, message in (
        (
            {"mobilevit.encoder.layer.3.conv_1x1.convolution.weight": None},
            "encoder.layer.3.conv_1x1.convolution.weight is",
        ),
        ({"classifier.weight": np.zeros(3, np.float32)}, "classifier.weight has shape [3], expected 2 axes"),
        (
            {"mobilevit.encoder.layer.1.layer.0.expand_1x1.convolution.weight": np.zeros((88, 4, 1, 1), np.float32)},
            "the inverted residuals widen 4 to 8, 4 to 88, 4 to 8, 8 to 8, 8 to 8, expected one ratio that explains",
        ),
    ):
        tensors = {name: tensor for name, tensor in {**model.weights, **change}.items() if tensor is not None}
        with (tmp_path / "model.safetensors").open("wb") as file:
            tensor_writer(tensors)(file)
        with complaint(ConfigError, f"{tmp_path / 'model.safetensors'}: ", message):
            load_model(tmp_path / "model.safetensors")


def test_settings_do_not_need_tensors_that_can_be_read(tmp_path, checkpoints):
    (tmp_path / "config.json").write_bytes((checkpoints["classifier"] / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    checkpoint = weights.open_checkpoint(tmp_path)
    assert tinymvit.MobileViTConfig.from_pretrained(checkpoint).num_labels == 3
    assert tinymvit.MobileViTImageProcessor.from_pretrained(checkpoint).crop_size == {"height": 32, "width": 32}
    with complaint(CheckpointError, "model.safetensors: 7 bytes, too short for a safetensors file"):
        _ = checkpoint.tensors


# ---- a new family ----


def backwards():
    """A family as a file of `weights/families` would be: names are written backwards, matrices are transposed, and the
    settings, which no file holds, are told from the tensors."""
    naming = Naming(
        mark="conv_stem.convolution.weight",
        modules={name: name for name in transformers.MODULES},
        axes={2: (1, 0), 4: (3, 2, 1, 0)},
        encoder="mobilevit.",
        spelling=lambda name: ".".join(name.split("/")[::-1]),
    )

    def read_config(folder, tensors):
        labels = tensors["bias/classifier"].shape[0]
        config = {"num_labels": labels, "image_size": 48, "architectures": ["MobileViTForImageClassification"]}
        return StoredSettings(folder / "model.safetensors", TINY | config)

    return SimpleNamespace(
        NAME="backwards",
        NAMINGS=(naming,),
        CONFIG_FILES=(),
        PROCESSOR_FILES=(),
        read_config=read_config,
        read_processor=lambda folder, tensors: StoredSettings(folder / "none", {"size": 50, "crop_size": 48}),
    )


def save_backwards(folder):
    """A tiny model, and in `folder` what the family makes of it."""
    save_tiny("classifier", folder / "ours")
    ours = tinymvit.MobileViTForImageClassification.from_pretrained(folder / "ours")
    theirs = {"/".join(name.split(".")[::-1]): tensor.T for name, tensor in ours.weights.items()}
    with (folder / "model.safetensors").open("wb") as file:
        tensor_writer(theirs)(file)
    return ours


def test_a_new_family_is_one_file_and_one_entry(tmp_path, monkeypatch):
    ours = save_backwards(tmp_path)
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, backwards()))
    checkpoint = weights.open_checkpoint(tmp_path)
    assert (checkpoint.family.NAME, checkpoint.task) == ("backwards", "classify")
    model = load_model(checkpoint)
    assert type(model) is type(ours)
    assert model.config.replace(image_size=32) == ours.config
    for name, tensor in ours.weights.items():
        assert_same(model.weights[name], tensor, name=name)
        assert model.weights[name].flags.c_contiguous
    classifier = tinymvit.ImageClassificationPipeline(tmp_path)
    assert classifier.processor.size == {"shortest_edge": 50}
    assert len(classifier(np.zeros((60, 60, 3), np.uint8))) == 3


def test_a_new_family_can_be_compared(tmp_path, monkeypatch):
    ours = save_backwards(tmp_path)
    port = dict(ours.trace(np.random.default_rng(0).random((1, 3, 32, 32), np.float32)))
    with complaint(DumpError, f"{tmp_path}: holds no tensors; expected .npy files"):
        tinymvit.compare(tmp_path, port)
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, backwards()))
    opened = []
    monkeypatch.setattr(safetensors, "_open", lambda path, read=safetensors._open: opened.append(path) or read(path))
    for name in (tmp_path, tmp_path / "model.safetensors", weights.open_checkpoint(tmp_path)):
        opened.clear()
        comparison = tinymvit.compare(name, port)
        assert comparison.agrees
        assert comparison.rows[0].op  # which only a comparison with a model has
        assert opened == [tmp_path / "model.safetensors"]


def test_a_new_family_comes_from_the_hub(tmp_path, monkeypatch):
    save_backwards(tmp_path)
    fetched = serve(monkeypatch, tmp_path)
    with complaint(CheckpointError, "revision main has no MobileViT in a file that is read here (.safetensors, .bin"):
        hub.fetch("someone/backwards", "main")
    ours = backwards()
    ours.PROCESSOR_FILES = ("processor.yaml",)
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, ours))
    assert hub.fetch("someone/backwards", "main") == tmp_path
    assert fetched == ["config.json", "preprocessor_config.json", "processor.yaml", "model.safetensors"]


def serve(monkeypatch, folder):
    """Put a hub library in place that has `folder` in its cache; gives the patterns that it was last asked for."""
    asked = []

    def snapshot_download(repository, revision, allow_patterns=(), local_files_only=False):
        asked[:] = allow_patterns or asked
        if local_files_only:
            raise OSError
        return str(folder)

    def model_info(repository, revision):
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=path.name) for path in folder.iterdir()])

    errors = SimpleNamespace(**{name: type(name, (Exception,), {}) for name in HUB_ERRORS})
    library = SimpleNamespace(snapshot_download=snapshot_download, model_info=model_info, errors=errors)
    monkeypatch.setitem(sys.modules, "huggingface_hub", library)
    return asked


HUB_ERRORS = (
    "GatedRepoError",
    "HFValidationError",
    "HfHubHTTPError",
    "LocalEntryNotFoundError",
    "RepositoryNotFoundError",
    "RevisionNotFoundError",
)


# ---- a new format ----


def test_a_new_format_is_one_file_and_one_entry(tmp_path, monkeypatch, checkpoints):
    content = weights.load_tensors(checkpoints["bare"])
    np.savez(tmp_path / "model.npz", **content)
    (tmp_path / "config.json").write_bytes((checkpoints["bare"] / "config.json").read_bytes())
    with complaint(CheckpointError, f"{tmp_path}: has no model.safetensors"):
        weights.load_tensors(tmp_path)

    def open_file(path):
        return {name: StoredTensor(x.shape, x.dtype.name, partial(np.copy, x)) for name, x in np.load(path).items()}

    npz = SimpleNamespace(
        NAME="NumPy",
        FILES=("model.npz",),
        SUFFIXES=(".npz",),
        recognise=lambda head: b".npy" in head,
        open_file=open_file,
    )
    monkeypatch.setattr(formats, "FORMATS", (npz, *formats.FORMATS))
    for name in (tmp_path, tmp_path / "model.npz"):
        tensors = tinymvit.MobileViTModel.from_pretrained(name).weights
        assert tensors.keys() == content.keys()
        for each, tensor in tensors.items():
            assert_same(tensor, content[each], name=each)
    with complaint(CheckpointError, "expected a checkpoint's folder or a .npz, .safetensors, .bin"):
        weights.resolve(__file__)
    fetched = serve(monkeypatch, tmp_path)
    assert hub.fetch("someone/numbers", "main") == tmp_path
    assert fetched == ["config.json", "preprocessor_config.json", "model.npz"]
    pixels = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)
    port = tinymvit.MobileViTModel.from_pretrained(tmp_path).trace(pixels)
    for name in (tmp_path, tmp_path / "model.npz"):
        assert tinymvit.compare(name, port).rows[0].op
