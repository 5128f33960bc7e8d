"""Starting from a trained model: an artifact, a run's best variables; what does not fit is named."""

import shutil

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from vae_jcc import optim
from vae_jcc.artifact import Artifact
from vae_jcc.checkpoint import load_start, save_variables
from vae_jcc.data.array_source import ArraySource
from vae_jcc.data.sources import SourceInfo
from vae_jcc.model_folder import ArtifactError
from vae_jcc.models.joint import build_model
from vae_jcc.state import create_state, is_of
from vae_jcc.train import fit


def start_from(config, start, parts=()):
    """The state at step 0 of the tiny fixture's model."""
    model = build_model(config, 3, 3)
    return create_state(model, optim.make_optimizer(config, 10, 100), 0, (16, 16, 3), start, parts)


@pytest.fixture
def config(tiny_folder):
    """The tiny model's configuration, open for changes."""
    return Artifact.load(tiny_folder).config.copy_and_resolve_references().unlock()


def test_an_artifact_and_a_checkpoint_start_a_run_alike(tiny_folder, config, tmp_path):
    from_artifact = load_start(str(tiny_folder))
    save_variables(tmp_path / "best", from_artifact)
    first, second = (start_from(config, load_start(name)) for name in (str(tiny_folder), str(tmp_path / "best")))
    jax.tree.map(np.testing.assert_array_equal, first.eval_variables, second.eval_variables)
    kernel = Artifact.load(tiny_folder).variables("encoder")["params"]["stem"]["kernel"]
    np.testing.assert_array_equal(first.params["encoder"]["stem"]["kernel"], kernel)


def test_a_part_that_the_start_lacks_is_fresh_and_one_too_many_is_left_out(tiny_folder, config):
    start = load_start(str(tiny_folder))
    decoder = start["params"].pop("decoder")
    with_fresh = start_from(config, start).params
    assert with_fresh["decoder"].keys() == decoder.keys()
    assert not np.array_equal(with_fresh["decoder"]["stem"]["kernel"], decoder["stem"]["kernel"])
    config.model.decoder.mode = "off"
    for parts in ((), ("encoder", "decoder")):
        assert "decoder" not in start_from(config, load_start(str(tiny_folder), parts), parts).params


def test_another_network_is_refused_and_named(tiny_folder, config):
    config.model.encoder.stem_features = 5
    with pytest.raises(ValueError, match=r"init_from holds .*\['encoder'\].* of shape"):
        start_from(config, load_start(str(tiny_folder)))
    config.model.encoder.stem_features, config.model.encoder.stages = 4, ((6, 1, 2), (6, 1, 2))
    with pytest.raises(ValueError, match=r"stage1_block0.* of shape None"):
        start_from(config, load_start(str(tiny_folder)))


def test_the_mean_of_several_models(tiny_folder, config, tmp_path):
    """It has the parts that all have; other networks and other parts are named."""
    first = load_start(str(tiny_folder))
    second = jax.tree.map(lambda x: 3.0 * x + 1.0, first)
    for kind in second:
        second[kind].pop("decoder", None)
    save_variables(tmp_path / "best", second)
    mean = load_start(f"{tiny_folder}, {tmp_path / 'best'}")
    assert mean["params"].keys() == first["params"].keys() - {"decoder"}
    for kind in mean:
        for part, tree in mean[kind].items():
            expected = jax.tree.map(lambda x: 2.0 * x + 0.5, first[kind][part])
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), tree, expected)
    start_from(config, mean)
    second["params"]["encoder"]["stem"]["kernel"] = np.zeros((3, 3, 3, 5), np.float32)
    save_variables(tmp_path / "other", second)
    with pytest.raises(ValueError, match=r"init_from=.* names models of different networks"):
        load_start(f"{tiny_folder},{tmp_path / 'other'}")
    with pytest.raises(ValueError, match="names nothing beside a comma"):
        load_start(f"{tiny_folder},")
    with pytest.raises(ValueError, match=r"init_parts names decoder, which .*best does not have"):
        load_start(f"{tiny_folder},{tmp_path / 'best'}", ("decoder",))


def test_a_new_encoder_before_a_trained_receiver(tiny_folder, config, tmp_path):
    config.model.encoder.stem_features = 5
    save_variables(tmp_path / "best", load_start(str(tiny_folder)))
    classifier = Artifact.load(tiny_folder).variables("classifier")
    for name in (str(tiny_folder), str(tmp_path / "best")):
        start = load_start(name, ("classifier", "prior"))
        assert start["params"].keys() == {"classifier", "prior"}
        state = start_from(config, start)
        assert state.params["encoder"]["stem"]["kernel"].shape[-1] == 5
        jax.tree.map(np.testing.assert_array_equal, state.params["classifier"], classifier["params"])
        jax.tree.map(np.testing.assert_array_equal, state.batch_stats["classifier"], classifier["batch_stats"])
        with pytest.raises(ValueError, match=r"init_parts names tail, .* classifier, decoder"):
            load_start(name, ("classifier", "tail"))


def test_trained_first_layers_under_a_new_stage(tiny_folder, config):
    stages = config.model.encoder.stages
    config.model.encoder.stages = (*stages, (5, 1, 2))
    blocks = tuple(f"encoder/stages/stage{i}_block{j}" for i, (_, n, _) in enumerate(stages) for j in range(n))
    trained, parts = load_start(str(tiny_folder)), ("encoder/stem", *blocks)
    state = start_from(config, load_start(str(tiny_folder), parts), parts)
    fresh = start_from(config, None)
    for tree, now, new in ((trained[k], getattr(state, k), getattr(fresh, k)) for k in ("params", "batch_stats")):
        for path, value in flatten_dict(now).items():
            kept = is_of(path, parts)
            np.testing.assert_array_equal(value, (flatten_dict(tree) if kept else flatten_dict(new))[path])
    with pytest.raises(ValueError, match=r"init_parts names encoder/stam, .* such as classifier/"):
        load_start(str(tiny_folder), ("encoder/stam",))
    config.model.encoder.stem_features = 5
    with pytest.raises(ValueError, match=r"init_from holds .*\['encoder'\].* of shape"):
        start_from(config, load_start(str(tiny_folder), parts), parts)


def test_trained_layers_behind_a_new_first_stage(tiny_folder, config):
    """Layers go to another place of the network, whole; what no part names stays fresh."""
    stages = config.model.encoder.stages
    old = [f"encoder/stages/stage{i}_block{j}" for i, (_, n, _) in enumerate(stages) for j in range(n)]
    new = [f"encoder/stages/stage{i + 1}_block{j}" for i, (_, n, _) in enumerate(stages) for j in range(n)]
    features = config.model.encoder.stem_features
    config.model.encoder.stem_stride = 1
    config.model.encoder.stages = ((features, 1, 2), *stages)
    parts = ("encoder/latent", *(f"{place}={path}" for place, path in zip(new, old, strict=True)))
    start = load_start(str(tiny_folder), parts)
    state, fresh, trained = start_from(config, start, parts), start_from(config, None), load_start(str(tiny_folder))
    sources = dict(zip(new, old, strict=True)) | {"encoder/latent": "encoder/latent"}
    for tree, now, untrained in ((trained[k], getattr(state, k), getattr(fresh, k)) for k in ("params", "batch_stats")):
        expected = dict(flatten_dict(untrained, sep="/"))
        for path in expected:
            for place, source in sources.items():
                if path.startswith(f"{place}/"):
                    expected[path] = flatten_dict(tree, sep="/")[source + path.removeprefix(place)]
        jax.tree.map(np.testing.assert_array_equal, dict(flatten_dict(now, sep="/")), expected)
    with pytest.raises(ValueError, match=r"init_parts names encoder/stages/stage9_block0, "):
        load_start(str(tiny_folder), ("encoder/stages/stage0_block0=encoder/stages/stage9_block0",))
    parts = ("encoder/stages/stage9_block0=encoder/stages/stage0_block0",)
    with pytest.raises(ValueError, match=r"init_parts has .*stage9_block0=.*, and this model has no such place"):
        start_from(config, load_start(str(tiny_folder), parts), parts)


def test_further_residual_blocks_start_as_the_identity(tiny_folder, config):
    images = jax.random.uniform(jax.random.key(1), (4, 16, 16, 3))

    def logits():
        model = build_model(config, 3, 3)
        state = start_from(config, load_start(str(tiny_folder)))
        return state, model.apply(state.eval_variables, images).logits

    _, before = logits()
    for part in (config.model.encoder, config.model.classifier):
        features, blocks, stride = part.stages[-1]
        part.stages = (*part.stages[:-1], (features, blocks + 1, stride))
    state, after = logits()
    np.testing.assert_allclose(before, after, rtol=1e-5, atol=1e-6)
    block = state.params["encoder"]["stages"][f"stage{len(config.model.encoder.stages) - 1}_block{blocks}"]
    assert not np.any(block["conv2"]["kernel"]) and np.any(block["conv1"]["kernel"])


def test_what_is_no_model_is_named(tmp_path, tiny_copy):
    with pytest.raises(FileNotFoundError, match="No checkpoint folder"):
        load_start(str(tmp_path / "nothing"))
    (tiny_copy / "weights.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactError):
        load_start(str(tiny_copy))


def test_a_run_that_goes_on_needs_its_start_no_longer(tiny_copy, config, tmp_path, rng):
    info = SourceInfo("made up", "train", 8, 3, ("ant", "bee", "cat"), 3, (16, 16), "")
    source = ArraySource(info, rng.integers(0, 256, (8, 16, 16, 3), np.uint8), np.arange(8, dtype=np.int32) % 3)
    config.init_from, config.model.decoder.mode = str(tiny_copy), "off"
    config.train.update({"batch_size": 8, "epochs": 1.0})
    config.eval.batch_size = 8
    first = fit(config, tmp_path / "run", source, source)
    shutil.rmtree(tiny_copy)
    jax.tree.map(np.testing.assert_array_equal, fit(config, tmp_path / "run", source, source), first)
    with pytest.raises(FileNotFoundError, match="No checkpoint folder"):
        fit(config, tmp_path / "another", source, source)
