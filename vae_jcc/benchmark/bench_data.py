"""The images of a run of `bench rate-accuracy`: as they come for models, as the network is shown them for codecs."""

from functools import cached_property

from vae_jcc.artifact import Artifact
from vae_jcc.benchmark.coded_source import AsEvaluated, Sample
from vae_jcc.data.array_source import common_size, load_into_memory
from vae_jcc.data.sources import Source, check_held_out, open_source
from vae_jcc.evaluate import evaluation_view


class BenchData:
    """The three splits of a data set; each is opened, and decoded, when it is first asked for."""

    def __init__(
        self, name: str, splits: tuple[str, str, str], *, data_dir: str = "", limit: int = 0, network: Artifact
    ) -> None:
        """Takes what names the images.

        Args:
            name: of the data set (sources.py).
            splits: for training, for the choice among epochs, and of the figures.
            data_dir: where TFDS data sets lie; "" is the default.
            limit: images of the last split to use, spread evenly over it; 0 uses all.
            network: artifact whose settings say what its encoder is shown.
        """
        self._name, self._splits, self._data_dir, self._limit = name, splits, data_dir, limit
        self._network, self._settings = network, network.config.dataset

    @property
    def image_size(self) -> int:
        """Side of the squares that are coded; 0: images as they are."""
        return self._view[0]

    @property
    def margin(self) -> int:
        """Pixels around them that evaluation scales along and cuts away."""
        return self._view[1]

    @cached_property
    def train(self) -> Source:
        """Training images, with room for the recipe's random crops; whole where it cuts those on the host.

        Raises:
            DataError: some of them are test images.
        """
        source = self._open(self._splits[0])
        check_held_out(self.test_as_it_comes.info, source.info)
        if self._settings.crop_scale:
            return source
        room = 2 * int(self._settings.margin) if self.image_size else 0
        return self._held(source, self.image_size + room)

    @cached_property
    def validation(self) -> Source:
        """Validation images as they are coded."""
        return self._held(AsEvaluated(self._open(self._splits[1]), self.image_size, self.margin))

    @cached_property
    def test(self) -> Source:
        """Test images as they are coded: `shape` each."""
        return self._held(AsEvaluated(self.test_as_it_comes, self.image_size, self.margin))

    @cached_property
    def test_as_it_comes(self) -> Source:
        """The same test images before that; a model is evaluated on them as its own settings say."""
        return Sample(self._open(self._splits[2]), self._limit)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the images that are coded."""
        info = self.test_as_it_comes.info
        return (*common_size(info, self.image_size), info.channels)

    @cached_property
    def _view(self) -> tuple[int, int]:
        return evaluation_view(self._network, self.test_as_it_comes.info)

    def _open(self, split: str) -> Source:
        return open_source(self._name, split, data_dir=self._data_dir or None)

    def _held(self, source: Source, side: int = 0) -> Source:
        """Returns the source decoded in memory where that is not too large, so that every codec need not decode it."""
        height, width = common_size(source.info, side)
        small = len(source) * height * width * source.info.channels <= self._settings.memory_limit
        return load_into_memory(source, side) if small else source
