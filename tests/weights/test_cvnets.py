"""ml-cvnets' checkpoints: what is written has the names and shapes of its own state dicts, and is read as it means."""

import hashlib
import json

import numpy as np
import pytest

import tinymvit
from checkpoints import TINY, complaint
from oracle import assert_same
from tinymvit import weights
from tinymvit.errors import CheckpointError, ConfigError
from tinymvit.modeling import MODELS, load_model
from tinymvit.weights.families import cvnets
from tinymvit.weights.families.naming import with_batch_counts
from tinymvit.weights.formats.pytorch import open_file, tensor_writer

# Of the state dicts of ml-cvnets v0.1, as its own code builds them: how many tensors there are, and the digest of their
# sorted lines of name and shape.
STATE_DICTS = {
    "small": (311, "6955a577fc4b135e"),
    "x-small": (311, "832abdac7fb0487d"),
    "xx-small": (311, "97052646ea7a3512"),
    "deeplabv3-small": (341, "f0bb58ee0d2438e2"),
    "deeplabv3-x-small": (341, "77e4f306c4040b9f"),
    "deeplabv3-xx-small": (341, "183b78e9b8e04f04"),
}


def new_model(task, **changes):
    return MODELS[task](tinymvit.MobileViTConfig(**TINY | {"num_attention_heads": 4} | changes))


def write(path, tensors):
    with path.open("wb") as file:
        tensor_writer(tensors)(file)
    return path


@pytest.mark.parametrize("shape", STATE_DICTS)
def test_names_and_shapes_are_those_of_their_state_dicts(tmp_path, shape):
    config = tinymvit.MobileViTConfig.preset(shape)
    model = MODELS["segment" if shape.startswith("deeplabv3") else "classify"](config)
    model.save_pretrained(tmp_path, family="cvnets")
    stored = open_file(tmp_path / "mobilevit.pt")
    lines = sorted(f"{name} {list(tensor.shape)}" for name, tensor in stored.items())
    assert (len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]) == STATE_DICTS[shape]


@pytest.mark.parametrize("task", MODELS)
def test_weights_alone_are_enough(tmp_path, caplog, task):
    """What cannot be read off tensors is as in ml-cvnets' own configurations."""
    model = new_model(task, output_stride=16 if task == "segment" else 32)
    file = write(tmp_path / "mobilevit_xxs.pt", with_batch_counts(cvnets.V1.to_theirs(model.weights)))
    checkpoint = weights.open_checkpoint(file)
    assert (checkpoint.family, checkpoint.task, checkpoint.channel_order) == (cvnets, task, "BGR")
    loaded = load_model(checkpoint)
    pixels = np.random.default_rng(0).random((1, 3, 40, 40), np.float32)
    for name, tensor in model.trace(pixels, "hidden_states.*" if task == "features" else "logits").items():
        assert_same(loaded.trace(pixels, name)[name], tensor, name=name)
    processor = tinymvit.MobileViTImageProcessor.from_pretrained(checkpoint)
    assert processor.do_flip_channel_order
    assert int(processor.resample) == 2
    if task == "segment":
        assert (processor.size, processor.do_center_crop) == ({"height": 512, "width": 512}, False)
    else:
        assert (processor.size, processor.crop_size["width"]) == ({"shortest_edge": 288}, 256)
    network = "DeepLabV3 on a" if task == "segment" else "a"
    assert f"no settings beside it: in the names of ml-cvnets, {network} MobileViT of widths 8, 8, 8" in caplog.text


def test_the_second_deeplabv3(tmp_path):
    """v0.2 names the last layer otherwise, has an auxiliary head for training, reads RGB, and is finer."""
    model = new_model("segment", output_stride=8, atrous_rates=(12, 24, 36), num_labels=21)
    tensors = cvnets.V1.to_theirs(model.weights)
    last = "seg_head.classifier.classifier.block.conv"
    for role in ("weight", "bias"):
        tensors[f"seg_head.classifier.block.conv.{role}"] = tensors.pop(f"{last}.{role}")
    tensors["seg_head.aux_head.0.block.conv.weight"] = np.zeros((8, 8, 3, 3), np.float32)
    loaded = load_model(weights.open_checkpoint(write(tmp_path / "deeplabv3-mobilevitv1.pt", tensors)))
    assert (loaded.config.output_stride, loaded.config.atrous_rates) == (8, (12, 24, 36))
    assert loaded.config.id2label[15] == "person"
    assert weights.open_checkpoint(tmp_path / "deeplabv3-mobilevitv1.pt").channel_order == "RGB"
    pixels = np.random.default_rng(0).random((1, 3, 40, 40), np.float32)
    assert_same(loaded(pixels).logits, model(pixels).logits)


def test_misfits_are_named_as_ml_cvnets_names_them(tmp_path):
    tensors = cvnets.V1.to_theirs(new_model("segment").weights)
    qkv = "encoder.layer_3.1.global_rep.1.pre_norm_mha.1.qkv_proj.weight"
    tensors[qkv] = tensors[qkv][:, :7]
    del tensors["seg_head.aspp.aspp_layer.project.block.norm.bias"]
    tensors["encoder.conv_1.block.extra"] = np.zeros(2, np.float32)
    file = write(tmp_path / "mobilevit.pt", tensors)
    with complaint(
        CheckpointError,
        f"{file}: does not fit the model: 1 missing: seg_head.aspp.aspp_layer.project.block.norm.bias [8]",
        "1 unexpected: encoder.conv_1.block.extra [2]",
        f"1 of another shape: {qkv} [24, 7] (expected [24, 8])",
    ):
        load_model(file)


def test_bad_settings_beside_weights_are_named(tmp_path):
    """Also where they decide the order of the channels."""
    file = write(tmp_path / "mobilevit.pt", cvnets.V1.to_theirs(new_model("segment").weights))
    bad = {"architectures": ["MobileViTForSemanticSegmentation"], "output_stride": 8, "atrous_rates": 5}
    (tmp_path / "config.json").write_text(json.dumps(bad))
    with complaint(ConfigError, f"{tmp_path / 'config.json'}: atrous_rates: 5, expected"):
        load_model(file)
