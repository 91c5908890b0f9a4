"""transformers' checkpoints as it wrote them before safetensors, `pytorch_model.bin`, with a config.json and without;
and the published figures of the hub's checkpoints, where these are in its cache."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinymvit
from frameworks import torch
from oracle import MODEL_FLOAT32, assert_same
from tinymvit.modeling import load_model
from tinymvit.weights.entries import PUBLISHED
from torch_models import CLASSES, build

# What transformers' conversion from Apple's weights expects of one picture (COCO val2017 000000039769), within 1e-4:
# the first three logits, and of a segmenter [0, :3, 0, :3].
LOGITS = {
    "apple/mobilevit-small": [-0.9866, 0.2392, -1.1241],
    "apple/mobilevit-x-small": [-2.4761, -0.9399, -1.9587],
    "apple/mobilevit-xx-small": [-1.9364, -1.2327, -0.4653],
    "apple/deeplabv3-mobilevit-small": [
        [6.2065, 6.1292, 6.2070], [-6.9253, -6.8653, -7.0398], [-4.4723, -4.4348, -4.3769],
    ],
    "apple/deeplabv3-mobilevit-x-small": [
        [5.4449, 5.5733, 5.6314], [-9.4423, -9.7766, -9.6714], [-7.7721, -7.3716, -7.1583],
    ],
    "apple/deeplabv3-mobilevit-xx-small": [
        [6.9811, 6.9743, 7.3123], [-10.5536, -10.2332, -10.2924], [-3.4938, -3.0631, -2.8620],
    ],
}  # fmt: skip


@pytest.mark.torch
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_random_configurations(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("random")
    sizes = st.integers(1, 4).map(lambda number: 4 * number)
    name = data.draw(st.sampled_from(CLASSES))
    options = {
        "hidden_sizes": data.draw(st.lists(sizes, min_size=3, max_size=3)),
        "neck_hidden_sizes": data.draw(st.lists(sizes, min_size=7, max_size=7)),
        "expand_ratio": data.draw(st.sampled_from([1.0, 2.0, 3.0, 4.0])),
        "mlp_ratio": data.draw(st.sampled_from([1.0, 1.5, 2.0, 4.0])),
        "conv_kernel_size": data.draw(st.sampled_from([1, 3, 5])),
        "qkv_bias": data.draw(st.booleans()),
        "aspp_out_channels": 8,
        "num_labels": data.draw(st.integers(2, 6)),
        "output_stride": 16 if "Segmentation" in name else 32,
    }
    theirs = build(name, options).float()
    torch.save(theirs.state_dict(), folder / "pytorch_model.bin")
    pixels = np.random.default_rng(0).random((1, 3, data.draw(st.integers(33, 64)), 48), np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(pixels), output_hidden_states=True)
    for _ in range(2):  # first its shape is read off the tensors
        ours = load_model(folder)
        assert type(ours).__name__ == name
        outputs = ours(pixels, output_hidden_states=True)
        for i, hidden in enumerate(expected.hidden_states):
            assert_same(outputs.hidden_states[i], hidden.numpy(), MODEL_FLOAT32, name=f"hidden state {i}")
        assert_same(outputs[0], expected[0].numpy(), MODEL_FLOAT32)
        theirs.config.architectures = [name]
        theirs.config.save_pretrained(folder)


def cached(name):
    """The checkpoint of this hub id if it is in the hub's cache; else the test is skipped. Nothing is downloaded."""
    hub = pytest.importorskip("huggingface_hub")
    cache = Path(hub.constants.HF_HUB_CACHE)
    if not (cache / f"models--{name.replace('/', '--')}").is_dir():
        pytest.skip(f"{name} is not in the hub's cache")
    return tinymvit.open_checkpoint(name)


@pytest.mark.parametrize("entry", PUBLISHED, ids=lambda entry: entry.name)
def test_parameters_of_published_checkpoints(entry):
    assert load_model(cached(entry.name)).num_parameters() == entry.num_parameters


@pytest.mark.parametrize("name", LOGITS)
def test_logits_of_published_checkpoints(name):
    checkpoint = cached(name)
    hub = pytest.importorskip("huggingface_hub")
    picture = hub.try_to_load_from_cache("huggingface/cats-image", "cats_image.jpeg", repo_type="dataset")
    if not isinstance(picture, str):
        pytest.skip("the picture, huggingface/cats-image, is not in the hub's cache")
    pixels = tinymvit.MobileViTImageProcessor.from_pretrained(checkpoint)(picture).pixel_values
    logits = load_model(checkpoint)(pixels).logits
    found = logits[0, :3] if logits.ndim == 2 else logits[0, :3, 0, :3]
    np.testing.assert_allclose(found, LOGITS[name], atol=1e-4)
