import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import imagenet
from vae_jcc.benchmark.cost import count_macs, count_parameters
from vae_jcc.benchmark.flax_systems import load_config, save_random
from vae_jcc.benchmark.reference_encoders import BLOCKS, ResNet
from vae_jcc.benchmark.systems import BASELINES, Spec, baselines, open_system
from vae_jcc.benchmark.torch_systems import import_beside_torch
from vae_jcc.models.joint import build_encoder


def skip_without(name):
    """Not importorskip: a torchvision that does not fit torch's build has to be imported as the benchmark does."""
    try:
        import_beside_torch(name)
    except ImportError as error:
        pytest.skip(str(error))


def shapes(network, size):
    return jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *size)))


@pytest.mark.parametrize(
    ("name", "parameters", "gmacs"), [("resnet18", 11_689_512, 1.814), ("resnet34", 21_797_672, 3.664)]
)
def test_resnets_have_the_published_size_and_arithmetic(name, parameters, gmacs):
    network = ResNet(BLOCKS[name])
    variables = shapes(network, (224, 224, 3))
    assert count_parameters(variables["params"]) == parameters
    assert count_macs(network.apply, variables, jnp.zeros((1, 224, 224, 3))) == pytest.approx(1e9 * gmacs, rel=1e-3)


def test_the_stem_for_small_images_has_cifars_usual_size():
    variables = shapes(ResNet(BLOCKS["resnet18"], num_classes=10, small_images=True), (32, 32, 3))
    assert count_parameters(variables["params"]) == 11_173_962


def test_the_encoder_of_ae_v3s_shape():
    encoder = build_encoder(imagenet.get_config())
    variables = shapes(encoder, (160, 160, 3))
    assert count_parameters(variables["params"]) == 98_912
    # 7x7 stem on 80x80, four blocks on 40x40, one on 20x20 with its shortcut.
    by_hand = 6400 * 147 * 32 + 4 * 2 * 1600 * 9 * 32**2 + 400 * (2 * 9 + 1) * 32**2
    assert count_macs(encoder.apply, variables, jnp.zeros((1, 160, 160, 3))) == by_hand


def test_baselines_by_name():
    specs = baselines(BASELINES, (32, 48), 3)
    assert [s.target for s in specs] == list(BASELINES)
    assert not any(s.ours for s in specs)
    assert {s.kind for s in specs} == {"network", "torchvision", "compressai", "codec"}
    with pytest.raises(ValueError, match="jpeg2000"):
        baselines(["jpeg2000"], (32, 32), 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_codecs_make_a_file_of_each_image(channels, rng):
    images = rng.integers(0, 256, (2, 16, 24, channels), np.uint8)
    jpeg, webp = (open_system(spec).run(images) for spec in baselines(["jpeg", "webp"], (16, 24), channels))
    assert all(file.startswith(b"\xff\xd8") for file in jpeg) and len(jpeg) == 2
    assert all(file[8:12] == b"WEBP" for file in webp) and len(webp) == 2


def test_an_encoder_with_random_weights_makes_files(tmp_path, rng):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "small.py").write_text(
        "from configs import default\n"
        "def get_config():\n"
        "    c = default.get_config()\n"
        "    c.name = 'small'\n"
        "    c.model.encoder.update({'stem_features': 4, 'stages': ((6, 1, 2),)})\n"
        "    return c\n"
    )
    path = str(tmp_path / "configs" / "small.py")
    save_random(tmp_path / "model", load_config(path), (8, 8), 3)
    spec = Spec("config", path, (8, 8), 3, folder=str(tmp_path / "model"))
    system = open_system(spec)
    assert (system.name, system.weights, system.output) == ("vae_jcc/small (random weights)", "random", "bytes")
    files = system.run(rng.integers(0, 256, (3, 8, 8, 3), np.uint8))
    assert len(files) == 3 and all(isinstance(file, bytes) for file in files)


def test_a_missing_configuration_is_named():
    with pytest.raises(ValueError, match=r"no configuration nowhere\.py"):
        load_config("nowhere.py")


@pytest.mark.filterwarnings("ignore")
def test_compressais_nets_have_their_published_size():
    skip_without("compressai.zoo")
    # All of CompressAI's bmshj2018-factorized at quality 1 has 2,998,147 parameters; half of it, g_a, encodes.
    system = open_system(Spec("compressai", "bmshj2018_factorized", (32, 32), 3))
    assert system.parameters == 1_493_312
    assert system.macs == 42_176 * 32 * 32
    files = system.run(np.zeros((2, 32, 32, 3), np.uint8))
    assert len(files) == 2 and all(isinstance(file, bytes) for file in files)


@pytest.mark.filterwarnings("ignore")
def test_torchvisions_resnet_agrees_with_ours_in_size_and_arithmetic():
    skip_without("torchvision.models")
    system = open_system(Spec("torchvision", "resnet18_torch", (64, 64), 3))
    network = ResNet(BLOCKS["resnet18"])
    variables = shapes(network, (64, 64, 3))
    assert system.parameters == count_parameters(variables["params"])
    assert system.macs == count_macs(network.apply, variables, jnp.zeros((1, 64, 64, 3)))
